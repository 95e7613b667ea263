"""A job whose registry is unavailable waits for its next attempt, and blocks no others meanwhile."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tagferry.db.engine import Database
from tagferry.errors import (
    Corrupt,
    Expired,
    Invalid,
    NotFound,
    Refused,
    TagferryError,
    TooLarge,
    Unavailable,
    Unsupported,
    Untrusted,
)
from tagferry.names import RepositoryName
from tagferry.sync.jobs.model import Attempt, JobSelection, JobStatus, JobUpdate, SyncJob
from tagferry.sync.jobs.retries import ERROR_LIMIT, JobRetry
from tests.support.deployment import eventually
from tests.support.images import image, push
from tests.unit.sync.conftest import NORTH, REPO, TEAM, V1, V2, V3, World
from tests.unit.sync.test_queue import ME, OTHER, Line

APP = RepositoryName("team/app")
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
AWAY = Unavailable("registry target could not be reached")
QUICK = JobRetry(shortest=timedelta(milliseconds=20), longest=timedelta(seconds=1))


@pytest.fixture
def line(database: Database) -> Line:
    return Line(database)


async def a_job(line: Line) -> SyncJob:
    await line.add(V1)
    (job,) = await line.claimed()
    return replace(job, started_at=NOON)


def policy(now: datetime = NOON, **terms: timedelta) -> JobRetry:
    return JobRetry(chance=lambda: 1.0, clock=lambda: now, **terms)


def pauses(retry: JobRetry, job: SyncJob, error: Unavailable = AWAY) -> list[float]:
    """Return the seconds between the attempts of a job that always fails immediately."""
    waited: list[float] = []
    calendar = [NOON]
    retry = replace(retry, clock=lambda: calendar[-1])
    while True:
        attempt = retry.failed(job, error)
        assert attempt is not None
        if attempt.next_at is None:
            return waited
        waited.append((attempt.next_at - calendar[-1]).total_seconds())
        calendar.append(attempt.next_at)
        job = replace(job, failures=attempt.number, failing_since=attempt.failing_since, started_at=attempt.next_at)


async def test_pauses_double_up_to_the_longest_until_the_end(line: Line):
    job = await a_job(line)

    assert pauses(policy(), job) == [2, 4, 8, 16, 32, 64, 128, 256, 300, 90]
    assert pauses(policy(interactive=timedelta()), job) == []
    assert sum(pauses(policy(), replace(job, is_automatic=True))) == 24 * 3600


async def test_no_attempt_comes_before_retry_after_or_after_the_end(line: Line):
    job = await a_job(line)

    assert [round(pause / 600) for pause in pauses(policy(), job, Unavailable("busy", retry_after=600))] == [1]
    assert pauses(policy(), job, Unavailable("busy", retry_after=3600)) == []
    hourly = pauses(policy(), replace(job, is_automatic=True), Unavailable("busy", retry_after=3600))
    assert len(hourly) == 22
    assert min(hourly) >= 3600


async def test_the_deadline_of_the_request_bounds_the_attempts(line: Line):
    job = replace(await a_job(line), deadline_at=NOON + timedelta(seconds=60))

    assert sum(pauses(policy(), job)) == 55


async def test_a_failure_after_long_progress_counts_as_a_new_one(line: Line):
    earlier = replace(await a_job(line), failures=7, failing_since=NOON - timedelta(hours=9))

    attempt = policy(NOON + timedelta(minutes=6)).failed(earlier, AWAY, bytes_done=earlier.bytes_done + 1)

    assert attempt is not None
    assert (attempt.number, attempt.failing_since) == (1, NOON + timedelta(minutes=6))


async def test_an_attempt_that_only_took_long_to_fail_continues_the_count(line: Line):
    earlier = replace(await a_job(line), failures=7, failing_since=NOON - timedelta(minutes=10), bytes_done=5000)

    attempt = policy(NOON + timedelta(minutes=6)).failed(earlier, AWAY, bytes_done=5000)

    assert attempt is not None
    assert (attempt.number, attempt.failing_since, attempt.next_at) == (8, NOON - timedelta(minutes=10), None)


@pytest.mark.parametrize(
    "error",
    [
        NotFound("tag", "v1"),
        Refused("401"),
        Invalid("the request", "was refused"),
        TooLarge("the request", "is too large"),
        Unsupported("no"),
        Corrupt("wrong bytes"),
        Expired("the time is over"),
        Unavailable("lost what it took", is_retryable=False),
        Untrusted("the certificate has expired"),
    ],
)
async def test_a_permanent_error_is_not_retried(line: Line, error: TagferryError):
    assert policy().failed(await a_job(line), error) is None


async def test_a_job_of_a_rule_waits_until_a_certificate_is_renewed(line: Line):
    job = replace(await a_job(line), is_automatic=True)

    attempt = policy().failed(job, Untrusted("the certificate has expired"))

    assert attempt is not None
    assert attempt.next_at is not None
    assert policy().failed(job, Unavailable("lost what it took", is_retryable=False)) is None


async def test_a_long_error_is_truncated(line: Line):
    attempt = policy().failed(await a_job(line), Unavailable("x" * 5000))

    assert attempt is not None
    assert len(attempt.error) == ERROR_LIMIT


async def test_a_tag_is_copied_once_its_registry_is_available_again(world: World):
    service = await world.start_process(retry=QUICK)
    sample = image()
    await push(world.source, APP, sample, V1)
    world.target.failures[V1] = AWAY
    started = await service.start(world.request(V1))

    async def has_failed_twice() -> bool:
        return (await world.recorded())[0].failures >= 2

    await eventually(has_failed_twice)
    (job,) = await world.recorded()
    assert job.status in (JobStatus.WAITING, JobStatus.RUNNING)
    assert job.last_error == str(AWAY)
    world.target.failures.clear()

    assert await service.wait(started, seconds=60) == []
    (job,) = await world.recorded()
    assert (job.status, job.next_attempt_at) == (JobStatus.SUCCESS, None)
    assert job.attempts == job.failures + 1


async def test_a_tag_whose_registry_stays_unavailable_fails_with_the_last_error_and_the_attempts(world: World):
    service = await world.start_process(retry=replace(QUICK, interactive=timedelta(milliseconds=200)))
    await push(world.source, APP, image(), V1)
    world.target.failures[V1] = AWAY

    assert await service.wait(await service.start(world.request(V1)), seconds=60) == [V1]

    (job,) = await world.recorded()
    assert job.status is JobStatus.FAILED
    assert re.fullmatch(rf"{AWAY}; tried {job.failures} times in \d+ s", job.reason)
    assert job.failures == job.attempts >= 2


async def test_a_tag_that_does_not_exist_fails_immediately(world: World):
    service = await world.start_process(retry=QUICK)
    await push(world.source, APP, image(), V2)

    assert await service.wait(await service.start(world.request(V1)), seconds=60) == [V1]

    (job,) = await world.recorded()
    assert (job.failures, job.reason) == (0, "the tag does not exist in the source repository")


async def test_a_request_whose_registry_is_unavailable_is_accepted(world: World):
    service = await world.start_process(retry=QUICK, slots=0)
    await push(world.source, APP, image(), V1)
    world.target.failures[V1] = AWAY

    await service.start(world.request(V1))

    assert await world.statuses() == [("v1", "waiting")]


def postponed(job_id: int, *, seconds: float = 3600.0, number: int = 1) -> JobUpdate:
    now = datetime.now(UTC)
    attempt = Attempt(number, now, now, "away", now + timedelta(seconds=seconds))
    return JobUpdate(job_id, JobStatus.WAITING, attempt=attempt)


async def test_a_job_that_waits_for_its_next_attempt_is_not_claimed_and_blocks_only_its_route(line: Line):
    first, _ = await line.add(V1, V2)
    await line.add(V1, override=True)
    assert await line.claim() == [V1, V2]
    await line.jobs.end(postponed(first.id), worker_id=ME)

    assert await line.claim() == []
    await line.add("v3")
    assert await line.claim() == ["v3"]
    assert await line.jobs.resume() == pytest.approx(3600, abs=60)


async def test_a_job_whose_next_attempt_is_due_is_queued(line: Line):
    (job,) = await line.add(V1)
    await line.claim()
    await line.jobs.end(postponed(job.id, seconds=-1, number=3), worker_id=ME)
    assert await line.claim() == []

    assert await line.jobs.resume() == 0.0

    (again,) = await line.claimed(worker=OTHER)
    assert (again.id, again.failures, again.attempts, again.last_error) == (job.id, 3, 2, "away")
    assert await line.jobs.resume() is None


async def test_requeued_jobs_share_the_queue_fairly_with_other_organizations(line: Line):
    back = await line.add(*(f"a{number}" for number in range(4)), organization="a")
    await line.claim()
    for place in back:
        await line.jobs.end(postponed(place.id, seconds=-1), worker_id=ME)
    await line.add(*(f"b{number}" for number in range(12)), organization="b")
    assert len(await line.claim(8)) == 8

    await line.jobs.resume()
    await line.add("c0", organization="c")

    assert await line.claim(4) == ["a0", "b8", "c0", "a1"]


async def test_attempts_stay_recorded_if_the_next_worker_is_lost(line: Line):
    (job,) = await line.add(V1)
    await line.claim()
    await line.jobs.end(postponed(job.id, seconds=-1, number=2), worker_id=ME)
    await line.jobs.resume()
    await line.claim(worker=OTHER)

    assert await line.queue.release(OTHER) == 1

    (again,) = await line.claimed()
    assert (again.failures, again.last_error, again.attempts) == (2, "away", 3)


async def test_a_job_keeps_waiting_for_its_next_attempt_when_its_last_worker_leaves(line: Line):
    (job,) = await line.add(V1)
    await line.claim()
    await line.jobs.end(postponed(job.id), worker_id=ME)

    assert await line.queue.release(ME) == 0
    assert await line.claim(worker=OTHER) == []


async def test_a_job_that_waits_for_its_next_attempt_can_be_cancelled(line: Line):
    (job,) = await line.add(V1)
    await line.claim()
    await line.jobs.end(postponed(job.id), worker_id=ME)

    assert await line.jobs.cancel([job.id], reason="cancelled by carol") == [job.id]

    assert await line.jobs.ends([job.id]) == {job.id: JobStatus.CANCEL}
    assert await line.jobs.resume() is None


async def test_a_job_that_was_cancelled_meanwhile_is_not_retried(line: Line):
    (job,) = await line.add(V1)
    await line.claim()
    await line.jobs.cancel([job.id], reason="cancelled by carol")

    await line.jobs.end(postponed(job.id), worker_id=ME)

    assert await line.jobs.ends([job.id]) == {job.id: JobStatus.CANCEL}


async def test_a_user_can_retry_a_waiting_job_immediately(world: World):
    service = await world.start_process(retry=JobRetry(shortest=timedelta(hours=1), interactive=timedelta(hours=9)))
    await push(world.source, APP, image(), V1)
    world.target.failures[V1] = AWAY
    started = await service.start(world.request(V1))

    async def has_failed() -> bool:
        return (await world.recorded())[0].next_attempt_at is not None

    await eventually(has_failed)
    world.target.failures.clear()
    selection = JobSelection(NORTH, TEAM, REPO, frozenset(started.job_ids.values()))

    (again,) = await service.retry(world.caller, selection, request_id="again")

    assert again.job_ids == started.job_ids
    assert await service.wait(again, seconds=60) == []


async def test_the_next_process_retries_a_job_that_waits_for_its_next_attempt(world: World):
    service = await world.start_process(retry=replace(QUICK, shortest=timedelta(seconds=1)))
    await push(world.source, APP, image(), V1)
    world.target.failures[V1] = AWAY
    started = await service.start(world.request(V1))

    async def waits() -> bool:
        return (await world.recorded())[0].next_attempt_at is not None

    await eventually(waits)
    world.target.failures.clear()
    service = await world.start_process(retry=QUICK)

    assert await service.wait(started, seconds=60) == []
    (job,) = await world.recorded()
    assert (job.status, job.failures) == (JobStatus.SUCCESS, 1)


async def test_more_jobs_than_one_transaction_takes_are_queued_in_batches(
    line: Line,
):
    places = await line.add(*(f"t{number}" for number in range(1100)))
    assert len(await line.claim(1100)) == 1100
    for place in places:
        await line.jobs.end(postponed(place.id, seconds=-1), worker_id=ME)

    assert await line.jobs.resume() == 0.0
    assert len(await line.claim(1100)) == 1000
    assert await line.jobs.resume() == 0.0
    assert len(await line.claim(1100)) == 100
    assert await line.jobs.resume() is None


async def test_requests_whose_registry_is_unavailable_do_not_count_as_active(world: World):
    service = await world.start_process(
        retry=replace(QUICK, shortest=timedelta(minutes=1)), max_concurrent_requests_per_user=2
    )
    for tag in (V1, V2):
        await push(world.source, APP, image(seed=tag), tag)
        world.target.failures[tag] = AWAY
        await service.start(world.request(tag))

    async def all_wait() -> bool:
        return all(job.next_attempt_at is not None for job in await world.recorded())

    await eventually(all_wait)
    await push(world.source, APP, image(seed="other"), V3)

    assert await world.sync(V3) == []
