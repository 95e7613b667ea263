import asyncio

import pytest

from tagferry.accounts.model import Caller
from tagferry.copy.rewrite import Rewrite
from tagferry.db.engine import Database
from tagferry.names import Digest, Namespace, RegionId, Repository, Tag
from tagferry.sync.jobs import Jobs
from tagferry.sync.model import FOLLOWING, JobChange, JobStart, JobStatus, SyncJob, SyncRequest
from tests.unit.sync.conftest import NORTH, RELEASE, REPO, SOUTH, TEAM, V1

CALLER = Caller(user_id="u" * 32, name="carol", domain_id="d" * 32, domain_name="acme", is_admin=False)
ENDS = [status for status in JobStatus if status.has_ended]


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database)


async def record(jobs: Jobs, *tags: str, status: JobStatus = JobStatus.WAITING, repository: str = REPO) -> list[int]:
    wanted = request(*tags, repository=repository)
    created = await jobs.create(wanted, [JobStart(tag, status) for tag in wanted.tags])
    return [created[tag] for tag in wanted.tags]


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


async def page(jobs: Jobs, **terms) -> tuple[list[str], int]:
    found, total = await jobs.of_repository(NORTH, TEAM, REPO, **({"limit": 100} | terms))
    return [job.tag for job in found], total


async def only_job(jobs: Jobs) -> SyncJob:
    (found,), _ = await jobs.of_repository(NORTH, TEAM, REPO, limit=2)
    return found


async def test_jobs_are_numbered_in_the_order_of_their_tags(jobs: Jobs):
    ids = await record(jobs, *(f"t{number}" for number in range(1000)))

    assert ids == sorted(ids)
    assert (await page(jobs, limit=2, descending=False))[0] == ["t0", "t1"]


async def test_a_request_without_tags_records_nothing(jobs: Jobs):
    assert await record(jobs) == []
    assert await page(jobs) == ([], 0)


@pytest.mark.parametrize("before", JobStatus)
async def test_only_a_status_that_may_follow_is_recorded(jobs: Jobs, before: JobStatus):
    for after in JobStatus:
        (job_id,) = await record(jobs, V1, status=before)
        await jobs.change(JobChange(job_id, after, reason="new"))
        (job,), _ = await jobs.of_repository(NORTH, TEAM, REPO, limit=1, only=[job_id])

        if after in FOLLOWING[before] or (after is before and not before.has_ended):
            assert (job.status, job.reason) == (after, "new")
        else:
            assert (job.status, job.reason) == (before, "")


@pytest.mark.parametrize("end", ENDS)
def test_nothing_follows_an_end(end: JobStatus):
    assert FOLLOWING[end] == frozenset()


def test_only_success_means_that_a_tag_is_in_place():
    assert [status for status in JobStatus if status.is_in_place] == [JobStatus.SUCCESS]


async def test_what_a_change_does_not_name_stays(jobs: Jobs):
    (job_id,) = await record(jobs, V1)
    digest = Digest.of(b"image")

    await jobs.change(JobChange(job_id, JobStatus.RUNNING, reason="going", digest=digest, bytes_total=10))
    await jobs.change(JobChange(job_id, JobStatus.RUNNING, bytes_done=0))
    await jobs.change(JobChange(job_id, JobStatus.SUCCESS, bytes_done=10))

    job = await only_job(jobs)
    assert (job.status, job.reason, job.digest) == (JobStatus.SUCCESS, "going", digest)
    assert (job.bytes_total, job.bytes_done) == (10, 10)
    assert job.updated_at >= job.created_at


async def test_changes_at_the_same_time_are_all_on_record_when_they_return(jobs: Jobs, database: Database):
    ids = await record(jobs, *(f"t{number}" for number in range(50)))

    async def end(job_id: int) -> JobStatus:
        await jobs.change(JobChange(job_id, JobStatus.SUCCESS))
        found, _ = await Jobs(database).of_repository(NORTH, TEAM, REPO, limit=1, only=[job_id])
        return found[0].status

    assert set(await asyncio.gather(*(end(job_id) for job_id in ids))) == {JobStatus.SUCCESS}


async def test_several_changes_are_made_in_their_order(jobs: Jobs):
    (job_id,) = await record(jobs, V1)

    await jobs.change_all([JobChange(job_id, JobStatus.RUNNING), JobChange(job_id, JobStatus.FAILED, reason="why")])

    assert (await only_job(jobs)).status is JobStatus.FAILED


async def test_a_change_that_cannot_be_written_is_written_with_the_next(
    jobs: Jobs, database: Database, monkeypatch: pytest.MonkeyPatch
):
    first, second = await record(jobs, "t1", "t2")
    with monkeypatch.context() as broken:
        broken.setattr(database, "write", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await jobs.change(JobChange(first, JobStatus.SUCCESS))

    await jobs.change(JobChange(second, JobStatus.FAILED))

    found, _ = await jobs.of_repository(NORTH, TEAM, REPO, limit=2, descending=False)
    assert [job.status for job in found] == [JobStatus.SUCCESS, JobStatus.FAILED]


async def test_unfinished_jobs_are_those_that_wait_or_run_oldest_first(jobs: Jobs):
    for status in JobStatus:
        await record(jobs, f"{status}-1", status=status)
    await record(jobs, "waiting-2", repository="other")

    assert [job.tag for job in await jobs.unfinished()] == ["waiting-1", "running-1", "waiting-2"]


async def test_pages_are_cut_newest_first_or_oldest_first_and_the_total_counts_all(jobs: Jobs):
    await record(jobs, "t1", "t2", "t3", "t4", "t5")
    await record(jobs, "foreign", repository="other")

    assert await page(jobs) == (["t5", "t4", "t3", "t2", "t1"], 5)
    assert await page(jobs, limit=2) == (["t5", "t4"], 5)
    assert await page(jobs, limit=2, offset=4) == (["t1"], 5)
    assert await page(jobs, limit=2, offset=5) == ([], 5)
    assert await page(jobs, limit=2, offset=1, descending=False) == (["t2", "t3"], 5)


async def test_jobs_can_be_asked_for_by_their_numbers_within_their_repository(jobs: Jobs):
    ids = await record(jobs, "t1", "t2", "t3")
    (foreign,) = await record(jobs, "foreign", repository="other")

    assert await page(jobs, only=[ids[2], ids[0], foreign, 999]) == (["t3", "t1"], 2)


async def test_jobs_belong_to_their_region_organization_and_repository(jobs: Jobs):
    await record(jobs, "t1")

    for place in (
        (RegionId("cn-south-1"), TEAM, REPO),
        (NORTH, Namespace("other"), REPO),
        (NORTH, TEAM, Repository("app2")),
    ):
        assert await jobs.of_repository(*place, limit=10) == ([], 0)


async def test_what_differs_at_the_target_is_on_record_from_the_start_or_from_the_end(jobs: Jobs):
    old, new = Digest.of(b"old"), Digest.of(b"new")
    rewritten = Rewrite(digests={old: new}, left_behind=(Digest.of(b"left"), "sha256-0.sig"))
    created = await jobs.create(
        request("in-place", "copied", "same"),
        [
            JobStart(Tag("in-place"), JobStatus.SUCCESS, rewritten=rewritten),
            JobStart(Tag("copied")),
            JobStart(Tag("same")),
        ],
    )
    await jobs.change(JobChange(created[Tag("copied")], JobStatus.SUCCESS, rewritten=rewritten))
    await jobs.change(JobChange(created[Tag("same")], JobStatus.SUCCESS))

    found, _ = await jobs.of_repository(NORTH, TEAM, REPO, limit=3, descending=False)

    assert [job.rewritten for job in found] == [rewritten, rewritten, None]
