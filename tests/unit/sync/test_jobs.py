import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from sqlalchemy import event, update

from tagferry.accounts.model import Caller
from tagferry.coordination.pubsub import LocalMessageBus
from tagferry.copy.rewrite import Rewrite
from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow
from tagferry.names import Digest, Namespace, RegionId, Repository, Tag
from tagferry.sync.jobs.attempts import attempts_of
from tagferry.sync.jobs.messages import JOBS_CANCELLED, JOBS_ENDED
from tagferry.sync.jobs.model import FOLLOWING, AttemptRecord, JobStatus, JobUpdate, NewJob, SyncJob, SyncRequest
from tagferry.sync.jobs.repository_jobs import RepositoryJobs
from tagferry.sync.jobs.store import JobStore
from tests.unit.sync.conftest import NORTH, RELEASE, REPO, SOUTH, TEAM, V1

CALLER = Caller(user_id="u" * 32, name="carol", domain_id="d" * 32, domain_name="acme", is_admin=False)
ENDS = [status for status in JobStatus if status.has_ended]


WORKER = 1


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database, LocalMessageBus())


async def record(
    jobs: JobStore, *tags: str, status: JobStatus = JobStatus.WAITING, repository: str = REPO
) -> list[int]:
    wanted = request(*tags, repository=repository)
    created = await jobs.create(
        wanted, [NewJob(tag, status) for tag in wanted.tags], max_concurrent_requests_per_user=10_000
    )
    return [created[tag].id for tag in wanted.tags]


async def run(jobs: JobStore, database: Database, *tags: str) -> list[int]:
    """Record jobs and let the worker claim them."""
    ids = await record(jobs, *tags)
    async with database.write() as session:
        running = {"status": "running", "worker_id": WORKER}
        await session.execute(update(SyncJobRow).where(SyncJobRow.id.in_(ids)).values(**running))
    return ids


def request(*tags: str, repository: str = REPO) -> SyncRequest:
    return SyncRequest(
        id="call",
        caller=CALLER,
        source_region=NORTH,
        namespace=TEAM,
        repository=Repository(repository),
        tags=tuple(Tag(tag) for tag in tags),
        target_region=SOUTH,
        target_namespace=RELEASE,
    )


async def page(database: Database, **terms) -> tuple[list[str], int]:
    found, total = await RepositoryJobs(database).of_repository(NORTH, TEAM, REPO, **({"limit": 100} | terms))
    return [job.tag for job in found], total


async def only_job(database: Database) -> SyncJob:
    (found,), _ = await RepositoryJobs(database).of_repository(NORTH, TEAM, REPO, limit=2)
    return found


async def test_jobs_are_numbered_in_the_order_of_their_tags(jobs: JobStore, database: Database):
    ids = await record(jobs, *(f"t{number}" for number in range(1000)))

    assert ids == sorted(ids)
    assert (await page(database, limit=2, descending=False))[0] == ["t0", "t1"]


async def test_a_request_without_tags_records_nothing(jobs: JobStore, database: Database):
    assert await record(jobs) == []
    assert await page(database) == ([], 0)


@pytest.mark.parametrize("current", JobStatus)
async def test_only_an_allowed_transition_is_recorded(jobs: JobStore, database: Database, current: JobStatus):
    for number, end in enumerate(ENDS):
        (job_id,) = await record(jobs, f"t{number}")
        async with database.write() as session:
            await session.execute(update(SyncJobRow).values(status=current.value, worker_id=WORKER))
        await jobs.end(JobUpdate(job_id, end, reason="new"), worker_id=WORKER)
        (job,), _ = await RepositoryJobs(database).of_repository(NORTH, TEAM, REPO, limit=1, only=[job_id])

        expected = (end, "new") if end in FOLLOWING[current] else (current, "")
        assert (job.status, job.reason) == expected


async def test_a_job_that_another_worker_has_taken_over_is_left_unchanged(jobs: JobStore, database: Database):
    (job_id,) = await run(jobs, database, V1)

    await jobs.end(JobUpdate(job_id, JobStatus.FAILED), worker_id=WORKER + 1)
    lost = await jobs.report([JobUpdate(job_id, JobStatus.RUNNING, bytes_done=5)], worker_id=WORKER + 1)

    job = await only_job(database)
    assert lost == [job_id]
    assert (job.status, job.bytes_done) == (JobStatus.RUNNING, 0)


@pytest.mark.parametrize("end", ENDS)
def test_final_states_have_no_transition(end: JobStatus):
    assert FOLLOWING[end] == frozenset()


def test_only_success_counts_as_success():
    assert [status for status in JobStatus if status.is_success] == [JobStatus.SUCCESS]


async def test_an_update_leaves_other_fields_unchanged(jobs: JobStore, database: Database):
    (job_id,) = await run(jobs, database, V1)
    digest = Digest.of(b"image")

    going = JobUpdate(job_id, JobStatus.RUNNING, reason="going", digest=digest, bytes_total=10)
    assert await jobs.report([going, JobUpdate(job_id, JobStatus.RUNNING, bytes_done=0)], worker_id=WORKER) == []
    await jobs.end(JobUpdate(job_id, JobStatus.SUCCESS, bytes_done=10), worker_id=WORKER)

    job = await only_job(database)
    assert (job.status, job.reason, job.digest) == (JobStatus.SUCCESS, "going", digest)
    assert (job.bytes_total, job.bytes_done) == (10, 10)
    assert job.updated_at >= job.created_at


def _away() -> None:
    raise OSError("the database is away")


async def test_concurrent_ends_are_all_recorded_when_they_return(jobs: JobStore, database: Database):
    ids = await run(jobs, database, *(f"t{number}" for number in range(50)))

    async def end(job_id: int) -> JobStatus:
        await jobs.end(JobUpdate(job_id, JobStatus.SUCCESS), worker_id=WORKER)
        return (await JobStore(database, LocalMessageBus()).ends([job_id]))[job_id]

    assert set(await asyncio.gather(*(end(job_id) for job_id in ids))) == {JobStatus.SUCCESS}


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """Yield the statements that are executed in the context."""
    executed: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        executed.append(statement)

    engine = database._engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield executed
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def test_the_ends_of_many_jobs_take_as_many_statements_as_that_of_one(jobs: JobStore, database: Database):
    alone, *together = await run(jobs, database, *(f"t{number}" for number in range(33)))

    def end(job_id: int) -> Awaitable[None]:
        timeline = AttemptRecord(job_id, 1, "host:1", datetime.now(UTC), datetime.now(UTC))
        return jobs.end(JobUpdate(job_id, JobStatus.SUCCESS, reason="copied", timeline=timeline), worker_id=WORKER)

    with statements(database) as of_one:
        await end(alone)
    with statements(database) as of_many:
        await asyncio.gather(*map(end, together))

    assert len(of_many) == len(of_one)
    assert set((await jobs.ends(together)).values()) == {JobStatus.SUCCESS}
    assert [len(await attempts_of(database, job_id)) for job_id in (alone, *together)] == [1] * 33


async def test_of_ends_that_are_recorded_together_only_those_of_own_running_jobs_count(
    jobs: JobStore, database: Database
):
    ended: list[int] = []
    bus = LocalMessageBus()
    bus.subscribe(JOBS_ENDED, ended.extend)
    jobs = JobStore(database, bus)
    own, cancelled, failed = await run(jobs, database, "t1", "t2", "t3")
    await jobs.cancel([cancelled], reason="cancelled")
    assert ended == [cancelled]
    ended.clear()

    await asyncio.gather(
        jobs.end(JobUpdate(cancelled, JobStatus.SUCCESS, reason="copied"), worker_id=WORKER),
        jobs.end(JobUpdate(failed, JobStatus.SUCCESS, reason="copied"), worker_id=WORKER + 1),
        jobs.end(JobUpdate(failed, JobStatus.FAILED, reason="denied", bytes_done=3), worker_id=WORKER),
        jobs.end(JobUpdate(own, JobStatus.SUCCESS, reason="copied"), worker_id=WORKER),
    )

    assert sorted(ended) == [own, failed]
    assert await jobs.ends([own, cancelled, failed]) == {
        own: JobStatus.SUCCESS,
        cancelled: JobStatus.CANCEL,
        failed: JobStatus.FAILED,
    }


async def test_an_end_that_cannot_be_written_is_written_with_the_next(
    jobs: JobStore, database: Database, monkeypatch: pytest.MonkeyPatch
):
    first, second = await run(jobs, database, "t1", "t2")
    with monkeypatch.context() as broken:
        broken.setattr(database, "write", _away)
        with pytest.raises(OSError, match="away"):
            await jobs.end(JobUpdate(first, JobStatus.SUCCESS), worker_id=WORKER)

    await jobs.end(JobUpdate(second, JobStatus.FAILED), worker_id=WORKER)

    assert await jobs.ends([first, second]) == {first: JobStatus.SUCCESS, second: JobStatus.FAILED}


async def test_only_ended_jobs_are_returned_as_ends(jobs: JobStore):
    ids = {status: (await record(jobs, status, status=status))[0] for status in JobStatus}

    assert await jobs.ends(ids.values()) == {ids[status]: status for status in ENDS}


async def test_a_cancelled_job_ends_and_its_worker_is_notified(jobs: JobStore, database: Database):
    bus = LocalMessageBus()
    received: list[int] = []
    bus.subscribe(JOBS_CANCELLED, received.extend)
    (running, done), (waiting,) = await run(jobs, database, V1, "done"), await record(jobs, "waiting")
    await jobs.end(JobUpdate(done, JobStatus.SUCCESS), worker_id=WORKER)

    cancelled = await JobStore(database, bus).cancel([running, done, waiting], reason="cancelled by carol")

    assert cancelled == [running, waiting]
    assert received == [running, waiting]
    ends = await jobs.ends([running, done, waiting])
    assert [ends[job_id] for job_id in (running, done, waiting)] == ["cancel", "success", "cancel"]


async def test_old_records_are_pruned_but_never_open_ones(jobs: JobStore, database: Database):
    old, fresh = await run(jobs, database, "old", "fresh")
    (waiting,) = await record(jobs, "waiting")
    await jobs.end(JobUpdate(old, JobStatus.SUCCESS), worker_id=WORKER)
    border = datetime.now(UTC)
    await jobs.end(JobUpdate(fresh, JobStatus.SUCCESS), worker_id=WORKER)

    assert await jobs.prune(ended_before=border) == 1

    left, _ = await RepositoryJobs(database).of_repository(NORTH, TEAM, REPO, limit=10, descending=False)
    assert [job.id for job in left] == [fresh, waiting]


async def test_pages_are_in_either_order_and_the_total_counts_all(jobs: JobStore, database: Database):
    await record(jobs, "t1", "t2", "t3", "t4", "t5")
    await record(jobs, "foreign", repository="other")

    assert await page(database) == (["t5", "t4", "t3", "t2", "t1"], 5)
    assert await page(database, limit=2) == (["t5", "t4"], 5)
    assert await page(database, limit=2, offset=4) == (["t1"], 5)
    assert await page(database, limit=2, offset=5) == ([], 5)
    assert await page(database, limit=2, offset=1, descending=False) == (["t2", "t3"], 5)


async def test_jobs_can_be_filtered_by_id_within_their_repository(jobs: JobStore, database: Database):
    ids = await record(jobs, "t1", "t2", "t3")
    (foreign,) = await record(jobs, "foreign", repository="other")

    assert await page(database, only=[ids[2], ids[0], foreign, 999]) == (["t3", "t1"], 2)


async def test_jobs_belong_to_their_region_organization_and_repository(jobs: JobStore, database: Database):
    await record(jobs, "t1")

    for place in (
        (RegionId("cn-south-1"), TEAM, REPO),
        (NORTH, Namespace("other"), REPO),
        (NORTH, TEAM, Repository("app2")),
    ):
        assert await RepositoryJobs(database).of_repository(*place, limit=10) == ([], 0)


async def test_a_rewrite_is_recorded_at_the_start_or_at_the_end(jobs: JobStore, database: Database):
    old, new = Digest.of(b"old"), Digest.of(b"new")
    rewritten = Rewrite(digests={old: new}, left_behind=(Digest.of(b"left"), "sha256-0.sig"))
    in_place = NewJob(Tag("in-place"), JobStatus.SUCCESS, rewritten=rewritten)
    await jobs.create(request("in-place"), [in_place], max_concurrent_requests_per_user=1)
    copied, same = await run(jobs, database, "copied", "same")
    await jobs.end(JobUpdate(copied, JobStatus.SUCCESS, rewritten=rewritten), worker_id=WORKER)
    await jobs.end(JobUpdate(same, JobStatus.SUCCESS), worker_id=WORKER)

    found, _ = await RepositoryJobs(database).of_repository(NORTH, TEAM, REPO, limit=3, descending=False)

    assert [job.rewritten for job in found] == [rewritten, rewritten, None]
