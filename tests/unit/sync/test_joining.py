"""Concurrent requests: the same work is done once, and different work on the same tag is done afterwards."""

import asyncio

import pytest

from tagferry.copy.progress import ProgressSnapshot
from tagferry.errors import Expired, Throttled, Unavailable
from tagferry.names import Tag
from tagferry.sync.jobs.model import JobStatus, SyncJob, SyncRequest
from tagferry.sync.service import SyncService
from tests.support.deployment import eventually
from tests.support.images import image, push
from tests.unit.copy.stores import APP, COPY
from tests.unit.sync.conftest import NORTH, RELEASE, REPO, TEAM, V1, V2, V3, World

OLD, NEW = image(seed="old"), image(seed="new")


@pytest.fixture
async def held(world: World) -> World:
    """A source with three tags whose blobs cannot be read until the test allows it."""
    for tag, sample in ((V1, NEW), (V2, OLD), (V3, image(seed="third"))):
        await push(world.source, APP, sample, tag)
    world.source.reading.clear()
    return world


async def test_the_same_request_twice_at_once_copies_once_and_records_one_job_per_tag(
    held: World, service: SyncService
):
    first, second = await asyncio.gather(service.start(held.request(V1, V2)), service.start(held.request(V1, V2)))
    held.source.reading.set()

    assert first.job_ids == second.job_ids
    assert first.job_ids.keys() == {V1, V2}
    assert await asyncio.gather(*(service.wait(started, seconds=60) for started in (first, second))) == [[], []]
    assert len(await held.recorded()) == 2
    assert sorted(line for line in held.target.log if line.startswith("tag")) == ["tag v1", "tag v2"]
    assert held.source.counts["read_blob"] == len({*NEW.blobs, *OLD.blobs})


async def test_a_joining_request_has_the_same_jobs_as_the_one_that_created_them(held: World, service: SyncService):
    async def jobs_at_once() -> dict[Tag, int]:
        return (await service.start(held.request(V1))).job_ids

    first, second = await asyncio.gather(jobs_at_once(), jobs_at_once())

    assert first == second
    assert first.keys() == {V1}


async def test_a_later_request_joins_running_jobs_and_starts_the_rest(held: World, service: SyncService):
    first = await service.start(held.request(V1, V2))
    second = await service.start(held.request(V2, V3))

    assert second.job_ids[V2] == first.job_ids[V2]
    assert [job.tag for job in await held.recorded()] == [V1, V2, V3]
    held.source.reading.set()
    assert await service.wait(first, seconds=60) == []
    assert await service.wait(second, seconds=60) == []


async def test_a_request_after_the_end_creates_new_jobs(world: World):
    await push(world.source, APP, NEW, V1)

    await world.sync(V1)
    await world.sync(V1)

    assert [job.reason for job in await world.recorded()] == [
        "copied and verified",
        "up to date",
    ]


async def test_another_target_is_not_joined(held: World, service: SyncService):
    admin = await held.users.find("admin")
    await held.organizations.create(admin, NORTH, RELEASE)
    first = await service.start(held.request(V1, caller=admin))
    other = await service.start(held.request(V1, caller=admin, target_region=NORTH))

    assert first.job_ids != other.job_ids
    held.source.reading.set()
    assert await service.wait(first, seconds=60) == []


async def test_a_request_with_another_override_runs_after_the_one_before_it(held: World, service: SyncService):
    first = await service.start(held.request(V1))
    second = await service.start(held.request(V1, override=True))
    third = await service.start(held.request(V1, override=True))

    assert len({first.job_ids[V1], second.job_ids[V1]}) == 2
    assert third.job_ids == second.job_ids
    assert held.source.counts["read_blob"] == 0
    held.source.reading.set()
    assert await service.wait(second, seconds=60) == []
    reasons = [job.reason for job in await held.recorded()]
    assert reasons == ["copied and verified", "up to date"]


async def test_findings_from_before_the_end_of_the_earlier_request_are_checked_again(held: World, service: SyncService):
    await service.start(held.request(V1, override=True))
    second = await service.start(held.request(V1))
    await held.source.being_read.wait()
    await push(held.source, APP, image(seed="newer"), V1)
    held.source.reading.set()

    assert await service.wait(second, seconds=60) == [V1]
    assert await held.statuses() == [("v1", "success"), ("v1", "existed")]
    assert await held.target.tag(COPY, V1) == NEW.digest


async def test_a_wait_times_out_and_the_copy_continues(held: World, service: SyncService):
    started = await service.start(held.request(V1, id="call-1"))

    with pytest.raises(Expired, match=r"continues after 0\.01 s.*repeat the request.*call-1"):
        await service.wait(started, seconds=0.01)

    again = await service.start(held.request(V1))
    assert again.job_ids == started.job_ids
    held.source.reading.set()
    assert await service.wait(again, seconds=60) == []
    assert await held.statuses() == [("v1", "success")]
    assert held.source.counts["read_blob"] == len(NEW.blobs)


async def test_a_wait_of_zero_seconds_returns_what_has_ended(world: World, service: SyncService):
    await push(world.source, APP, NEW, V1)
    await push(world.target, COPY, NEW, V1)

    assert await service.wait(await service.start(world.request(V1)), seconds=0) == []


async def test_disconnecting_does_not_cancel_the_sync(held: World, service: SyncService):
    started = await service.start(held.request(V1))
    waiting = asyncio.create_task(service.wait(started, seconds=60))
    await held.source.being_read.wait()

    waiting.cancel()
    await asyncio.wait([waiting])
    held.source.reading.set()

    assert await service.wait(started, seconds=60) == []


async def test_a_request_that_cannot_be_recorded_leaves_nothing_behind(
    world: World, service: SyncService, monkeypatch: pytest.MonkeyPatch
):
    await push(world.source, APP, NEW, V1)

    async def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as broken:
        broken.setattr("tagferry.sync.jobs.store.JobStore.create", fail)
        with pytest.raises(OSError, match="disk full"):
            await service.start(world.request(V1))

    assert await world.sync(V1) == []
    assert await world.statuses() == [("v1", "success")]


async def test_active_requests_of_a_user_are_limited_until_one_ends(held: World):
    service = await held.start_process(max_concurrent_requests_per_user=2)
    first = await service.start(held.request(V1))
    await service.start(held.request(V2))

    with pytest.raises(Throttled, match='user "carol" has 2 syncs in progress') as raised:
        await service.start(held.request(V3))
    assert raised.value.retry_after > 0
    assert [job.tag for job in await held.recorded()] == [V1, V2]

    held.source.reading.set()
    await service.wait(first, seconds=60)
    await asyncio.sleep(0)
    assert await service.wait(await service.start(held.request(V3)), seconds=60) == []


async def test_requests_of_one_user_do_not_throttle_another(held: World):
    service = await held.start_process(max_concurrent_requests_per_user=1)
    await service.start(held.request(V1))

    await service.start(held.request(V2, caller=await held.users.find("admin")))

    assert len(await held.recorded()) == 2


async def test_concurrent_requests_are_throttled_too(held: World):
    service = await held.start_process(max_concurrent_requests_per_user=1)

    results = await asyncio.gather(*(service.start(held.request(tag)) for tag in (V1, V2, V3)), return_exceptions=True)

    assert sorted(type(result).__name__ for result in results) == ["StartedSync", "Throttled", "Throttled"]


async def test_a_repeated_request_joins_even_at_the_limit(held: World):
    service = await held.start_process(max_concurrent_requests_per_user=1)
    started = await service.start(held.request(V1))

    for _ in range(3):
        assert (await service.start(held.request(V1))).job_ids == started.job_ids

    held.source.reading.set()
    await service.wait(started, seconds=60)
    await asyncio.sleep(0)
    assert await service.wait(await service.start(held.request(V2)), seconds=60) == []


async def test_a_request_that_is_refused_or_has_nothing_to_do_does_not_count(world: World):
    service = await world.start_process(max_concurrent_requests_per_user=1)
    for _ in range(2):
        with pytest.raises(Exception, match="does not exist"):
            await service.start(world.request(V1))
    await push(world.source, APP, NEW, V1)
    await push(world.target, COPY, NEW, V1)
    for _ in range(2):
        assert await world.sync(V1, service=service) == []


async def unfinished_after_a_stop(held: World, service: SyncService, *requests: SyncRequest) -> None:
    """Start a sync of these tags, and stop the process while it runs."""
    for request in requests:
        await service.start(request)
    await held.source.being_read.wait()
    assert held.process is not None
    await held.process.stop()


async def test_unfinished_jobs_of_an_earlier_process_are_resumed(held: World, service: SyncService):
    await unfinished_after_a_stop(held, service, held.request(V1, V2))
    assert {job.status for job in await held.recorded()} <= {JobStatus.WAITING, JobStatus.RUNNING}
    assert await held.target.tag(COPY, V1) is None

    fresh = await held.start_process()
    joined = await fresh.start(held.request(V1, V2))
    held.source.reading.set()
    assert await fresh.wait(joined, seconds=10) == []

    assert await held.statuses() == [("v1", "success"), ("v2", "success")]
    assert await held.target.tag(COPY, V1) == NEW.digest


async def test_content_copied_before_the_stop_is_not_copied_again(held: World, service: SyncService):
    await unfinished_after_a_stop(held, service, held.request(V1))
    await push(held.target, COPY, NEW, V1)

    fresh = await held.start_process()
    assert await fresh.wait(await fresh.start(held.request(V1)), seconds=10) == []

    # If the job ended before the repeated request, that request has a job of its own.
    job = (await held.recorded())[0]
    assert (job.status, job.reason) == (JobStatus.SUCCESS, "up to date")
    assert held.source.counts["read_blob"] == 0


async def test_ordered_requests_are_resumed_in_order(held: World, service: SyncService):
    await unfinished_after_a_stop(held, service, held.request(V1), held.request(V1, override=True))

    fresh = await held.start_process()
    joined = await fresh.start(held.request(V1, override=True))
    held.source.reading.set()
    assert await fresh.wait(joined, seconds=10) == []

    assert [job.reason for job in await held.recorded()] == [
        "copied and verified",
        "up to date",
    ]


@pytest.mark.parametrize("begun", [True, False])
async def test_waiting_callers_see_a_shutdown_as_such_and_not_as_failed_tags(
    held: World, service: SyncService, begun: bool
):
    started = await service.start(held.request(V1))
    waiting = asyncio.create_task(service.wait(started, seconds=60))
    if begun:
        await held.source.being_read.wait()
    else:
        await asyncio.sleep(0)
    assert held.process is not None
    await held.process.stop()

    with pytest.raises(Unavailable, match="repeat the request to rejoin the sync"):
        await waiting
    assert await held.statuses() in ([("v1", "waiting")], [("v1", "running")])


async def test_the_progress_of_a_long_copy_is_recorded(held: World, service: SyncService):
    started = await service.start(held.request(V1))
    await held.source.being_read.wait()

    async def recorded() -> list[SyncJob]:
        return [job for job in await held.recorded() if job.bytes_total]

    (job,) = await eventually(recorded)
    assert (job.status, job.bytes_done) == (JobStatus.RUNNING, 0)
    assert job.bytes_total == sum(map(len, NEW.blobs.values()))
    held.source.reading.set()
    assert await service.wait(started, seconds=60) == []
    assert (await held.recorded())[0].status is JobStatus.SUCCESS


async def test_a_copy_reports_its_rate_only_while_it_runs(held: World, service: SyncService):
    async def snapshots() -> list[ProgressSnapshot | None]:
        jobs, _ = await service.jobs_of(held.caller, NORTH, TEAM, REPO, limit=10, offset=0, descending=False)
        return [job.snapshot for job in jobs]

    started = await service.start(held.request(V1))
    await held.source.being_read.wait()
    (running,) = await snapshots()
    held.source.reading.set()
    await service.wait(started, seconds=60)

    assert running is not None
    assert (running.blobs_done, running.blobs_total) == (0, len(NEW.blobs))
    assert running.seconds_left is None
    assert await snapshots() == [None]
