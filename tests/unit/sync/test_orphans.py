"""Waiting jobs of a region that no process configures any more fail, after the time for which jobs are retried."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select

from tagferry.coordination.pubsub import LocalMessageBus
from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow
from tagferry.names import RegionId
from tagferry.sync.jobs.messages import JOBS_ENDED
from tagferry.sync.jobs.orphans import OrphanedJobs
from tagferry.sync.jobs.retries import JobRetry
from tests.support.job_rows import job_row

NORTH, SOUTH, GONE = RegionId("cn-north-4"), RegionId("cn-south-1"), RegionId("gone")
KNOWN = [NORTH, SOUTH]


class Site:
    """A database with jobs, and what the other processes configure.

    Attributes:
        now: the time in seconds.
        elsewhere: the regions of other processes.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.bus = LocalMessageBus()
        self.now = 0.0
        self.elsewhere: Collection[RegionId] = KNOWN
        retry = JobRetry(interactive=timedelta(minutes=15), automatic=timedelta(hours=24))
        self.orphans = OrphanedJobs(
            database, self.bus, retry=retry, configured=self._configured, clock=lambda: self.now
        )

    async def _configured(self) -> Collection[RegionId]:
        return self.elsewhere

    async def add(self, tag: str, source: str = NORTH, target: str = SOUTH, **columns: object) -> None:
        row = job_row(tag=tag, source_region=source, target_region=target, status="waiting", **columns)
        async with self.database.write() as session:
            await session.execute(insert(SyncJobRow).values(**row))

    async def after(self, minutes: float) -> dict[str, str]:
        """Check the jobs after these minutes; returns the failed ones by tag, with their reasons."""
        self.now += minutes * 60
        await self.orphans.end(KNOWN)
        async with self.database.read() as session:
            failed = await session.execute(
                select(SyncJobRow.tag, SyncJobRow.reason).where(SyncJobRow.status == "failed")
            )
            return {row.tag: row.reason for row in failed}


@pytest.fixture
def site(database: Database) -> Site:
    return Site(database)


async def test_jobs_from_and_to_a_removed_region_fail_with_that_reason(site: Site):
    ended: list[int] = []
    site.bus.subscribe(JOBS_ENDED, ended.extend)
    await site.add("from", source=GONE)
    await site.add("to", target=GONE)
    await site.add("other")

    before = [await site.after(0), await site.after(14)]

    assert before == [{}, {}]
    assert await site.after(1) == dict.fromkeys(("from", "to"), "region gone is no longer configured")
    assert len(ended) == 2


async def test_jobs_of_rules_wait_longer(site: Site):
    await site.add("v1", target=GONE, priority=1)
    await site.after(0)

    assert await site.after(60) == {}
    assert list(await site.after(23 * 60)) == ["v1"]


async def test_jobs_of_a_region_that_another_process_has_wait_for_it(site: Site):
    await site.add("v1", target=GONE)
    site.elsewhere = [*KNOWN, GONE]

    assert [await site.after(0), await site.after(3600)] == [{}, {}]


async def test_the_time_begins_again_once_the_region_was_configured(site: Site):
    await site.add("v1", target=GONE)
    await site.after(0)
    site.elsewhere = [*KNOWN, GONE]
    await site.after(10)
    site.elsewhere = KNOWN

    assert [await site.after(1), await site.after(14)] == [{}, {}]
    assert list(await site.after(1)) == ["v1"]


async def test_jobs_that_wait_for_a_retry_fail_too(site: Site):
    await site.add("v1", target=GONE, next_attempt_at=datetime(2099, 1, 1, tzinfo=UTC))
    await site.after(0)

    assert list(await site.after(15)) == ["v1"]
