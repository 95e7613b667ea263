"""Each end of a job is counted once, by the process that records it, so that the sums are what the database has."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from tagferry import errors
from tagferry.coordination.backend import coordination_of
from tagferry.coordination.pubsub import LocalMessageBus
from tagferry.copy.rewrite import Rewrite
from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow
from tagferry.metrics import JOB_QUEUE_SECONDS, JOB_SECONDS, JOBS_ENDED, REPOSITORY_JOBS_ENDED
from tagferry.names import Digest, RepositoryName
from tagferry.sync.jobs.cleanup import JobCleanup
from tagferry.sync.jobs.ends import reason_of
from tagferry.sync.jobs.model import EndReason, JobEnd, JobStatus, JobUpdate
from tagferry.sync.jobs.queue import JobQueue
from tagferry.sync.jobs.store import JobStore
from tests.support.images import image, push
from tests.support.metrics import growth
from tests.unit.sync.conftest import NORTH, REPO, SOUTH, TEAM, V1, V2, V3, World, record_worker
from tests.unit.sync.test_jobs import WORKER, record, run


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database, LocalMessageBus())


def update_of(job_id: int, status: JobStatus, reason: EndReason) -> JobUpdate:
    end = JobEnd(job_id, NORTH, SOUTH, f"{TEAM}/{REPO}", status, reason, seconds=1.5)
    return JobUpdate(job_id, status, end=end)


async def recorded(database: Database) -> Counter[str]:
    """Return how many jobs the database has in each final state."""
    ended = select(SyncJobRow.status, func.count()).where(SyncJobRow.ended_at.is_not(None)).group_by(SyncJobRow.status)
    async with database.read() as session:
        return Counter({row[0]: row[1] for row in await session.execute(ended)})


async def test_a_job_that_its_worker_ends_is_counted_with_its_time(jobs: JobStore, database: Database):
    ended, seconds = growth(JOBS_ENDED), growth(JOB_SECONDS)
    first, second = await run(jobs, database, V1, V2)

    await jobs.end(update_of(first, JobStatus.SUCCESS, EndReason.NONE), worker_id=WORKER)
    await jobs.end(update_of(second, JobStatus.FAILED, EndReason.DENIED), worker_id=WORKER)

    assert ended() == {(NORTH, SOUTH, "success", "none"): 1, (NORTH, SOUTH, "failed", "denied"): 1}
    assert seconds() == {(SOUTH, "success"): 1, (SOUTH, "failed"): 1}
    assert await recorded(database) == {"success": 1, "failed": 1}


async def test_a_job_that_another_worker_has_taken_over_is_not_counted(jobs: JobStore, database: Database):
    ended = growth(JOBS_ENDED)
    (job_id,) = await run(jobs, database, V1)

    await jobs.end(update_of(job_id, JobStatus.SUCCESS, EndReason.NONE), worker_id=WORKER + 1)

    assert ended() == {}


async def test_a_result_that_the_database_refuses_counts_as_a_failure_of_the_record(jobs: JobStore, database: Database):
    ended = growth(JOBS_ENDED)
    (job_id,) = await run(jobs, database, V1)
    unwritable = Rewrite(digests={Digest(f"sha256:{'0' * 64}"): object()})  # type: ignore[dict-item]
    change = replace(update_of(job_id, JobStatus.SUCCESS, EndReason.NONE), rewritten=unwritable)

    await jobs.end(change, worker_id=WORKER)

    assert ended() == {(NORTH, SOUTH, "failed", "record"): 1}


async def test_what_ends_without_a_worker_is_counted(jobs: JobStore, database: Database):
    ended = growth(JOBS_ENDED)
    cancelled, expired, detached = await record(jobs, V1, V2, V3)
    await record(jobs, "v4", status=JobStatus.SUCCESS)
    await record(jobs, "v5", status=JobStatus.EXISTED)

    await jobs.cancel([cancelled], reason="")
    async with database.write() as session:
        overdue = {"deadline_at": datetime.now(UTC) - timedelta(seconds=1)}
        await session.execute(update(SyncJobRow).where(SyncJobRow.id == expired).values(**overdue))
    assert await jobs.expire() == [expired]
    async with database.write() as session:
        await JobCleanup(LocalMessageBus()).detach_repository(session, NORTH, RepositoryName(f"{TEAM}/{REPO}"))

    assert ended() == {
        (NORTH, SOUTH, "cancel", "cancelled"): 2,
        (NORTH, SOUTH, "timeout", "deadline"): 1,
        (NORTH, SOUTH, "success", "none"): 1,
        (NORTH, SOUTH, "existed", "conflict"): 1,
    }
    assert await recorded(database) == {"cancel": 2, "timeout": 1, "success": 1, "existed": 1}
    assert detached


async def test_a_job_whose_workers_are_lost_repeatedly_is_counted(
    jobs: JobStore, database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.coordination.postgres.GRACE_SECONDS", 0.0)
    queue = JobQueue(database, LocalMessageBus(), coordination_of(database), regions=[NORTH, SOUTH])
    ended = growth(JOBS_ENDED)
    (job_id,) = await run(jobs, database, V1)
    await record_worker(database, WORKER)
    async with database.write() as session:
        await session.execute(update(SyncJobRow).where(SyncJobRow.id == job_id).values(lost_workers=4))

    await queue.requeue_lost()

    assert ended() == {(NORTH, SOUTH, "failed", "worker_lost"): 1}


async def test_a_transaction_that_is_rolled_back_counts_nothing(database: Database, jobs: JobStore):
    ended = growth(JOBS_ENDED)
    await record(jobs, V1)

    async def detach() -> None:
        async with database.write() as session:
            await JobCleanup(LocalMessageBus()).detach_repository(session, NORTH, RepositoryName(f"{TEAM}/{REPO}"))
            raise LookupError

    with pytest.raises(LookupError):
        await detach()

    assert ended() == {}


async def test_repositories_are_counted_only_if_that_is_enabled(
    jobs: JobStore, database: Database, monkeypatch: pytest.MonkeyPatch
):
    counted = growth(REPOSITORY_JOBS_ENDED)
    first, second = await run(jobs, database, V1, V2)
    await jobs.end(update_of(first, JobStatus.SUCCESS, EndReason.NONE), worker_id=WORKER)
    assert counted() == {}

    monkeypatch.setattr(REPOSITORY_JOBS_ENDED, "is_enabled", True)
    await jobs.end(update_of(second, JobStatus.SUCCESS, EndReason.NONE), worker_id=WORKER)
    assert counted() == {(f"{TEAM}/{REPO}", SOUTH, "success"): 1}


async def test_a_synchronization_is_counted_from_its_acceptance_to_its_end(world: World):
    ended, queued, seconds = growth(JOBS_ENDED), growth(JOB_QUEUE_SECONDS), growth(JOB_SECONDS)
    await push(world.source, RepositoryName(f"{TEAM}/{REPO}"), image(), V1)

    assert await world.sync(V1) == []

    assert ended() == {(NORTH, SOUTH, "success", "none"): 1}
    assert queued() == {(SOUTH,): 1}
    assert seconds() == {(SOUTH, "success"): 1}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.Refused("no"), EndReason.DENIED),
        (errors.NotFound("tag", "v1"), EndReason.NOT_FOUND),
        (errors.Corrupt("bad"), EndReason.CORRUPT),
        (errors.TooLarge("manifest", "must be small"), EndReason.INVALID),
        (errors.Unsupported("no"), EndReason.UNSUPPORTED),
        (errors.Unavailable("away"), EndReason.UNAVAILABLE),
        (errors.Unavailable("away", unresponsive="north"), EndReason.UNRESPONSIVE),
        (errors.Untrusted("expired"), EndReason.UNTRUSTED),
        (errors.StorageUnavailable("full"), EndReason.STORAGE),
        (errors.Expired("late"), EndReason.DEADLINE),
        (errors.QuotaExceeded("full"), EndReason.DENIED),
        (errors.Conflict("tag", "taken"), EndReason.CONFLICT),
        (errors.TagferryError("strange"), EndReason.INTERNAL),
    ],
    ids=lambda value: value.value if isinstance(value, EndReason) else type(value).__name__,
)
def test_every_error_has_a_reason(error: errors.TagferryError, reason: EndReason):
    assert reason_of(error) is reason
