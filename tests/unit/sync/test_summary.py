"""Jobs are summarized for callers who may see them, within a bounded time."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert

from tagferry.accounts.model import Caller
from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow
from tagferry.sync.jobs.summary import HOURS, JobSummaries, JobSummary
from tests.support.job_rows import job_row
from tests.unit.sync.conftest import NORTH, SOUTH, World

ADMIN = Caller(user_id="a" * 32, name="admin", domain_id="d" * 32, domain_name="acme", is_admin=True)
NOW = datetime(2026, 11, 28, 19, 24, tzinfo=UTC)


async def record(database: Database, *jobs: dict[str, Any]) -> None:
    begun = NOW - timedelta(days=2)
    own = {"created_at": begun, "updated_at": NOW, "target_region": SOUTH, "ended_at": None, "next_attempt_at": None}
    own["source_organization_id"] = None
    rows = [job_row(**own | {"tag": f"v{index}"} | job) for index, job in enumerate(jobs)]
    async with database.write() as session:
        await session.execute(insert(SyncJobRow), rows)


def ended(status: str, *, minutes: float) -> dict[str, Any]:
    return {"status": status, "ended_at": NOW - timedelta(minutes=minutes)}


async def summary(database: Database, caller: Caller = ADMIN) -> JobSummary:
    return await JobSummaries(database, clock=lambda: NOW).of(caller)


async def test_open_jobs_are_counted_by_what_they_wait_for(database: Database):
    await record(
        database,
        *[{"status": "running"}] * 2,
        *[{"status": "waiting"}] * 3,
        {"status": "waiting", "next_attempt_at": NOW},
    )

    found = await summary(database)

    assert (found.running, found.waiting, found.postponed, found.is_partial) == (2, 3, 1, False)


async def test_jobs_that_ended_within_a_day_are_counted_by_the_hour(database: Database):
    await record(
        database,
        ended("success", minutes=1),
        ended("failed", minutes=24),
        ended("timeout", minutes=25),
        ended("existed", minutes=84),
        ended("cancel", minutes=1),
        ended("success", minutes=23 * 60 + 24),
        ended("failed", minutes=23 * 60 + 25),
    )

    found = await summary(database)

    assert len(found.hours) == HOURS
    assert (found.succeeded, found.failed, found.conflicts) == (2, 2, 1)
    last, before, first = found.hours[-1], found.hours[-2], found.hours[0]
    assert last.begin == NOW.replace(minute=0)
    assert (last.succeeded, last.failed, last.conflicts) == (1, 1, 0)
    assert (before.succeeded, before.failed, before.conflicts) == (0, 1, 1)
    assert (first.begin, first.succeeded) == (NOW.replace(minute=0) - timedelta(hours=23), 1)


async def test_callers_see_only_the_jobs_that_they_may_read(world: World):
    (team,) = await world.organizations.list_all(NORTH)
    stranger = await world.users.create("stranger", "correct horse", domain="acme")
    await record(
        world.database,
        {**ended("failed", minutes=1), "source_organization_id": team.id},
        {**ended("failed", minutes=1), "source_organization_id": team.id},
        ended("failed", minutes=1),
    )

    assert (await summary(world.database, world.caller)).failed == 2
    assert (await summary(world.database, stranger)).failed == 0


async def test_counting_ends_at_a_limit_and_the_summary_says_so(database: Database, monkeypatch):
    monkeypatch.setattr("tagferry.sync.jobs.summary.COUNTED", 2)
    await record(database, *[{"status": "waiting"}] * 3, *[ended("success", minutes=1)] * 3)

    found = await summary(database)

    assert (found.waiting, found.succeeded, found.is_partial) == (2, 2, True)
