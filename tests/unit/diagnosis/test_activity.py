"""Processes, jobs and webhooks, as the database records them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert

from tagferry import __version__
from tagferry.db.engine import Database
from tagferry.db.tables import DeliveryRow, ProcessRow, RepositoryRow, SyncJobRow, TriggerRow
from tagferry.diagnosis.activity import check_activity, served_regions
from tagferry.diagnosis.model import Component, Finding, Level
from tests.support.job_rows import job_row

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


async def add(database: Database, table: type[Any], *rows: dict[str, Any]) -> None:
    async with database.write() as session:
        await session.execute(insert(table), list(rows))


async def found(database: Database, component: Component) -> list[Finding]:
    async with database.read() as session:
        findings = await session.run_sync(lambda sync: check_activity(sync, now=NOW))
    return [finding for finding in findings if finding.component is component]


def process(name: str, **columns: Any) -> dict[str, Any]:
    return {
        "id": name,
        "name": name,
        "version": __version__,
        "regions": [],
        "slots": 4,
        "running": 1,
        "is_leader": False,
        "started_at": NOW - timedelta(days=1),
        "seen_at": NOW - timedelta(seconds=5),
        **columns,
    }


async def test_nothing_recorded_is_fine(database: Database):
    assert [one.level for component in Component for one in await found(database, component)] == [Level.OK] * 3


async def test_healthy_processes_are_listed_with_their_slots(database: Database):
    await add(database, ProcessRow, process("a:1", is_leader=True), process("b:2", slots=0, running=0))
    (one,) = await found(database, Component.PROCESSES)

    assert one.level is Level.OK
    assert one.message == f"a:1 (leader), b:2; version {__version__}; 1 of 4 slots in use"


async def test_the_regions_of_recorded_processes_are_served(database: Database):
    await add(database, ProcessRow, process("a:1", regions=["north", "east"]), process("b:2", regions=["south"]))
    async with database.read() as session:
        served = await session.run_sync(served_regions)

    assert served == {"north", "east", "south"}


async def test_a_process_that_was_killed_is_a_warning_with_its_name(database: Database):
    lost = process("b:2", is_leader=True, seen_at=NOW - timedelta(minutes=7))
    await add(database, ProcessRow, process("a:1", is_leader=True), lost)
    (one,) = await found(database, Component.PROCESSES)

    assert (one.level, one.subject) == (Level.WARNING, "b:2")
    assert one.message.startswith("the leader was last seen 7 minutes ago")


async def test_processes_without_a_leader_are_a_problem_also_if_it_has_just_been_killed(database: Database):
    lost = process("b:2", is_leader=True, seen_at=NOW - timedelta(minutes=7))
    await add(database, ProcessRow, process("a:1"), lost)
    levels = {one.message: one.level for one in await found(database, Component.PROCESSES)}

    assert levels["no process is the leader, so nothing is polled, called or deleted on time"] is Level.PROBLEM


async def test_if_all_processes_were_killed_that_is_a_problem(database: Database):
    await add(database, ProcessRow, process("a:1", is_leader=True, seen_at=NOW - timedelta(minutes=7)))
    levels = [one.level for one in await found(database, Component.PROCESSES)]

    assert levels == [Level.WARNING, Level.PROBLEM]


async def test_processes_that_all_copy_nothing_are_a_problem(database: Database):
    await add(database, ProcessRow, process("a:1", slots=0, running=0))
    (one,) = await found(database, Component.PROCESSES)

    assert (one.level, one.message) == (Level.PROBLEM, "no process copies: all that run have no slots for jobs")


async def test_mixed_versions_are_a_warning(database: Database):
    await add(database, ProcessRow, process("a:1", is_leader=True, version="0.0.9"), process("b:2"))
    (one,) = await found(database, Component.PROCESSES)

    assert one.level is Level.WARNING
    assert "0.0.9" in one.message
    assert __version__ in one.message


async def test_processes_of_another_version_than_the_command_are_a_warning(database: Database):
    await add(database, ProcessRow, process("a:1", is_leader=True, version="0.0.9"))
    (one,) = await found(database, Component.PROCESSES)

    assert (one.level, one.message) == (
        Level.WARNING,
        f"the processes run version 0.0.9, and this command is of version {__version__}",
    )


async def test_a_job_that_waits_for_long_is_a_warning_and_a_problem_if_no_process_copies(database: Database):
    await add(database, SyncJobRow, job_row(status="waiting", created_at=NOW - timedelta(minutes=30)))
    (alone,) = await found(database, Component.JOBS)
    await add(database, ProcessRow, process("a:1", is_leader=True, running=4))
    (crowded,) = await found(database, Component.JOBS)

    assert (alone.level, alone.message) == (
        Level.PROBLEM,
        "job 1 to cn-north-208 has waited for 30 minutes, and no process runs that could copy",
    )
    assert (crowded.level, crowded.message) == (
        Level.WARNING,
        "job 1 to cn-north-208 has waited for 30 minutes, and 4 of 4 slots are in use",
    )


async def test_jobs_that_wait_for_a_registry_are_counted_by_region_with_the_reason(database: Database):
    waiting = {
        "status": "waiting",
        "next_attempt_at": NOW,
        "failing_since": NOW - timedelta(hours=1),
        "last_error": "registry x does not answer",
    }
    await add(database, SyncJobRow, job_row(**waiting), job_row(**waiting, tag="v1"))
    (one,) = await found(database, Component.JOBS)

    assert (one.level, one.subject) == (Level.WARNING, "cn-north-208")
    assert one.message == "2 wait for another attempt since 2026-05-01 11:00 UTC: registry x does not answer"


async def test_a_job_that_has_just_begun_to_wait_or_that_has_ended_is_fine(database: Database):
    old = NOW - timedelta(days=2)
    await add(
        database,
        SyncJobRow,
        job_row(status="waiting", created_at=NOW - timedelta(seconds=20)),
        job_row(status="success", created_at=old, tag="v1"),
        job_row(status="failed", created_at=old, tag="v2"),
    )
    (one,) = await found(database, Component.JOBS)

    assert (one.level, one.message) == (Level.OK, "the oldest has waited for 20 s")


async def add_trigger(database: Database) -> None:
    repository = {
        "id": 1,
        "region": "cn-north-4",
        "namespace": "team",
        "name": "app",
        "category": "",
        "description": "",
        "is_public": False,
        "creator_id": "u",
        "creator_name": "carol",
        "created_at": NOW,
        "updated_at": NOW,
    }
    await add(database, RepositoryRow, repository)
    unset = {"id", "repository_id", "name", "enabled", "created_at"}
    texts = dict.fromkeys(set(TriggerRow.__table__.columns.keys()) - unset, "x")
    trigger = {"id": 1, "repository_id": 1, "name": "deploy", "enabled": True, "created_at": NOW, **texts}
    await add(database, TriggerRow, trigger)


def delivery(**columns: Any) -> dict[str, Any]:
    return {
        "trigger_id": 1,
        "event_id": "e",
        "tag": "v1",
        "digest": "sha256:0",
        "status": "waiting",
        "attempts": 3,
        "occurred_at": NOW - timedelta(minutes=20),
        "due_at": NOW,
        "detail": "attempt 3 of 30: the webhook answered 503",
        **columns,
    }


async def test_a_stuck_webhook_is_a_problem_with_the_reason(database: Database):
    await add_trigger(database)
    await add(database, DeliveryRow, delivery(), delivery(occurred_at=NOW - timedelta(minutes=10), detail=""))
    (one,) = await found(database, Component.WEBHOOKS)

    assert (one.level, one.subject) == (Level.PROBLEM, "deploy")
    assert one.message == "2 calls wait, the oldest for 20 minutes: attempt 3 of 30: the webhook answered 503"


async def test_calls_that_were_given_up_within_a_day_are_a_warning(database: Database):
    await add_trigger(database)
    given_up = delivery(status="failed", ended_at=NOW - timedelta(hours=2), detail="the webhook answered 500")
    await add(database, DeliveryRow, given_up, {**given_up, "ended_at": NOW - timedelta(days=3)})
    (one,) = await found(database, Component.WEBHOOKS)

    assert (one.level, one.message) == (Level.WARNING, "1 calls were given up within a day: the webhook answered 500")


async def test_a_delivery_that_has_just_begun_is_fine(database: Database):
    await add_trigger(database)
    await add(database, DeliveryRow, delivery(occurred_at=NOW - timedelta(minutes=1)))
    (one,) = await found(database, Component.WEBHOOKS)

    assert one.level is Level.OK
