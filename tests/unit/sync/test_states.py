"""A job's transitions are those of the documentation, whatever happens to it in whatever state."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text, update

from tagferry.coordination.backend import coordination_of
from tagferry.coordination.pubsub import LocalMessageBus
from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow
from tagferry.names import Tag
from tagferry.sync.jobs.model import FOLLOWING, JobStatus, JobUpdate, NewJob
from tagferry.sync.jobs.queue import JobQueue
from tagferry.sync.jobs.repository_jobs import RepositoryJobs
from tagferry.sync.jobs.store import JobStore
from tests.support.deployment import eventually
from tests.unit.sync.conftest import NORTH, REPO, SOUTH, TEAM, record_worker
from tests.unit.sync.test_jobs import WORKER, record, request

API = Path(__file__).parents[3] / "docs" / "api.md"

Act = Callable[[JobStore, JobQueue, int], Awaitable[object]]


def ending(status: JobStatus) -> Act:
    return lambda jobs, _, job_id: jobs.end(JobUpdate(job_id, status), worker_id=WORKER)


ACTS: dict[str, tuple[Act, JobStatus]] = {
    "claim": (lambda _jobs, queue, _id: queue.claim(WORKER, 10), JobStatus.RUNNING),
    "release": (lambda _jobs, queue, _id: queue.release(WORKER), JobStatus.WAITING),
    "release others": (lambda _jobs, queue, _id: queue.release_unknown(WORKER, [0]), JobStatus.WAITING),
    "take over": (lambda _jobs, queue, _id: queue.requeue_lost(), JobStatus.WAITING),
    "cancel": (lambda jobs, _queue, job_id: jobs.cancel([job_id], reason=""), JobStatus.CANCEL),
    "expire": (lambda jobs, _queue, _id: jobs.expire(), JobStatus.TIMEOUT),
    **{f"end as {status}": (ending(status), status) for status in JobStatus if status.has_ended},
    "report": (
        lambda jobs, _, job_id: jobs.report([JobUpdate(job_id, JobStatus.RUNNING)], worker_id=WORKER),
        JobStatus.RUNNING,
    ),
}


@pytest.mark.parametrize("act", ACTS)
async def test_every_event_leads_to_an_allowed_state(database: Database, act: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.coordination.postgres.GRACE_SECONDS", 0.0)
    bus, membership = LocalMessageBus(), coordination_of(database)
    jobs, queue = JobStore(database, bus), JobQueue(database, bus, membership, regions=[NORTH, SOUTH])
    do, status = ACTS[act]
    seen = {}
    for standing in JobStatus:
        (job_id,) = await record(jobs, f"of-{standing}")
        state = {"status": standing.value, "worker_id": WORKER, "deadline_at": datetime.now(UTC) - timedelta(seconds=1)}
        async with database.write() as session:
            await session.execute(update(SyncJobRow).where(SyncJobRow.id == job_id).values(**state))
        await record_worker(database, WORKER)
        await do(jobs, queue, job_id)
        (job,), _ = await RepositoryJobs(database).of_repository(NORTH, TEAM, REPO, limit=1, only=[job_id])
        seen[standing] = job.status
        await jobs.cancel([job_id], reason="the next one is looked at alone")

    assert all(now in {before, *FOLLOWING[before]} for before, now in seen.items())
    assert status in seen.values()


def test_the_transitions_are_documented():
    rows = re.findall(r"^\| `(\w+)` \| [^|`]*(?:`override` is false)? \|([^|\n]*)\|$", API.read_text(), re.MULTILINE)
    told = {name: frozenset(re.findall(r"`(\w+)`", after)) for name, after in rows if name in set(JobStatus)}

    assert told == {status.value: frozenset(FOLLOWING[status]) for status in JobStatus}


async def test_a_job_behind_one_that_ended_unnoticed_continues(database: Database):
    """The job is recorded at the moment its predecessor ends, which is possible with several processes."""
    jobs = JobStore(database, LocalMessageBus())
    (first,) = await record(jobs, "v1")
    async with database.write() as session:
        await session.execute(update(SyncJobRow).values(override=True))
    second = (await jobs.create(request("v1"), [NewJob(Tag("v1"))], max_concurrent_requests_per_user=10))[Tag("v1")].id
    assert await jobs.unblock() == []
    async with database.write() as session:
        await session.execute(update(SyncJobRow).where(SyncJobRow.id == first).values(status="success"))

    assert await jobs.unblock() == [second]
    assert await jobs.unblock() == []


@pytest.mark.parametrize("cancelled", [1, 2], ids=["one", "all between"])
async def test_a_job_behind_a_cancelled_one_waits_for_the_earlier_ones(database: Database, cancelled: int):
    bus = LocalMessageBus()
    jobs, queue = JobStore(database, bus), JobQueue(database, bus, coordination_of(database), regions=[NORTH, SOUTH])
    line = []
    for number in range(cancelled + 2):
        asked = replace(request("v1"), override=number % 2 == 1)
        line.append((await jobs.create(asked, [NewJob(Tag("v1"))], max_concurrent_requests_per_user=10))[Tag("v1")].id)
    first, *between, last = line
    await jobs.cancel(between, reason="asked for")
    await record_worker(database, WORKER)

    assert await jobs.unblock() == []
    assert [job.id for job in await queue.claim(WORKER, 10)] == [first]

    await jobs.end(JobUpdate(first, JobStatus.SUCCESS), worker_id=WORKER)
    assert [job.id for job in await queue.claim(WORKER, 10)] == [last]


async def test_a_job_that_is_cancelled_while_it_is_claimed_stays_cancelled(database: Database):
    bus = LocalMessageBus()
    jobs, queue = JobStore(database, bus), JobQueue(database, bus, coordination_of(database), regions=[NORTH, SOUTH])
    (job_id,) = await record(jobs, "v1")
    await record_worker(database, WORKER)

    async def is_held_up() -> bool:
        async with database.read() as session:
            return bool(await session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))

    async with database.write() as session:
        await session.execute(update(SyncJobRow).values(status="cancel"))
        claiming = asyncio.create_task(queue.claim(WORKER, 1))
        if database.is_shared:
            await eventually(is_held_up)

    assert await claiming == []
    (job,), _ = await RepositoryJobs(database).of_repository(NORTH, TEAM, REPO, limit=1, only=[job_id])
    assert (job.status, job.attempts) == (JobStatus.CANCEL, 0)
