"""The timeline of a job: what its attempts did, and what was really moved, mounted and already there."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from tagferry import bounds
from tagferry.copy.timeline import Amount, CopyTimeline, Event, Step
from tagferry.db.engine import Database
from tagferry.errors import Unavailable
from tagferry.names import Digest, RepositoryName
from tagferry.oci.images import BlobOutcome
from tagferry.sync.jobs.attempts import attempts_of, write_attempts
from tagferry.sync.jobs.model import AttemptRecord, JobStatus, SyncJob
from tagferry.sync.jobs.retries import JobRetry
from tagferry.sync.jobs.timeline import EventKind, JobDetails
from tests.support import images
from tests.support.deployment import eventually
from tests.unit.sync.conftest import RELEASE, REPO, TEAM, V1, V2, World

SOURCE = RepositoryName.of(TEAM, REPO)
TARGET = RepositoryName.of(RELEASE, REPO)


async def details(world: World, job: SyncJob) -> JobDetails:
    return JobDetails.of(job, await attempts_of(world.database, job.id))


async def last_details(world: World) -> JobDetails:
    return await details(world, (await world.recorded())[-1])


def kinds(shown: JobDetails) -> list[str]:
    return [event.kind.value for event in shown.events]


async def test_a_copy_is_told_from_the_queue_to_its_end(world: World):
    sample = images.image(b"layer")
    await images.push(world.source, SOURCE, sample, V1)

    await world.sync(V1)

    shown = await last_details(world)
    config, layer = (len(content) for content in sample.all_blobs.values())
    assert kinds(shown) == [
        *["queued", "started", "compared", "planned", "blob", "blob", "verified", "tag_written", "ended"]
    ]
    assert shown.uploaded == Amount(2, config + layer)
    assert (shown.mounted, shown.present) == (Amount(), Amount())
    planned, written, ended = shown.events[3], shown.events[-2], shown.events[-1]
    assert (planned.count, planned.size) == (2, config + layer)
    assert {event.digest for event in shown.events if event.kind is EventKind.BLOB} == set(sample.all_blobs)
    assert {event.method for event in shown.events if event.kind is EventKind.BLOB} == {"uploaded"}
    assert written.digest == sample.manifest.digest
    assert (ended.status, ended.reason) == (JobStatus.SUCCESS, "copied and verified")
    times = [event.at for event in shown.events if event.at is not None]
    assert all(before <= after + timedelta(milliseconds=1) for before, after in pairwise(times))


async def test_what_tags_share_is_counted_as_moved_once(world: World):
    sample = images.image(b"layer")
    for tag in (V1, V2):
        await images.push(world.source, SOURCE, sample, tag)

    await world.sync(V1, V2)

    shown = [await details(world, job) for job in await world.recorded()]
    size = sum(len(content) for content in sample.all_blobs.values())
    assert sum(one.uploaded.blobs for one in shown) == 2
    assert sum(one.uploaded.size for one in shown) == size
    assert sum(one.present.blobs for one in shown) == 2


async def test_a_job_shows_behind_which_job_it_was_queued_also_after_it_has_ended(world: World):
    await images.push(world.source, SOURCE, images.image(b"layer"), V1)
    assert world.process is not None
    service = world.process.service
    world.source.reading.clear()
    first = (await service.start(world.request(V1))).job_ids[V1]
    second = (await service.start(world.request(V1, override=True))).job_ids[V1]
    queued = (await world.recorded())[-1]
    assert (queued.id, queued.queued_behind, queued.blocked_by) == (second, first, first)
    world.source.reading.set()
    await service.wait(await service.start(world.request(V1, override=True)), seconds=60)

    shown = await last_details(world)

    assert shown.job.blocked_by is None
    assert shown.events[0].behind == first


async def test_each_attempt_is_shown_with_its_failure_and_the_next_attempt(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    await world.start_process(retry=JobRetry(interactive=timedelta(minutes=1), automatic=timedelta()))
    await images.push(world.source, SOURCE, images.image(b"layer"), V1)
    assert world.process is not None
    original, calls = world.source.get_manifest, 0

    async def failing(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls <= 1:
            raise Unavailable("registry answered 503")
        return await original(*arguments, **options)  # type: ignore[arg-type]

    started = await world.process.service.start(world.request(V1), seconds=0)
    monkeypatch.setattr(world.source, "get_manifest", failing)
    await world.process.service.wait(started, seconds=60)

    shown = await last_details(world)
    failed = [event for event in shown.events if event.kind is EventKind.FAILED]
    assert [event.reason for event in failed] == ["registry answered 503"] * len(failed)
    assert all(event.next_at is not None for event in failed)
    assert [event.attempt for event in shown.events if event.kind is EventKind.STARTED] == [
        number + 1 for number in range(shown.job.attempts)
    ]


async def test_the_first_and_the_last_attempts_are_kept(world: World, database: Database):
    await images.push(world.source, SOURCE, images.image(b"layer"), V1)
    await world.sync(V1)
    (job,) = await world.recorded()
    last = bounds.TIMELINE_ATTEMPTS + 5
    for number in range(1, last + 1):
        record = AttemptRecord(job.id, number, "host:1", datetime.now(UTC), datetime.now(UTC), error="503")
        async with database.write() as session:
            await (await session.connection()).run_sync(write_attempts, [record])

    kept = [attempt.number for attempt in await attempts_of(database, job.id)]

    assert kept == [1, *range(7, last + 1)]
    assert len(kept) == bounds.TIMELINE_ATTEMPTS
    (omitted,) = [event for event in (await last_details(world)).events if event.kind is EventKind.ATTEMPTS_OMITTED]
    assert omitted.count == 5


async def test_timelines_are_deleted_with_their_jobs(world: World, database: Database):
    await images.push(world.source, SOURCE, images.image(b"layer"), V1)
    await world.sync(V1)
    (job,) = await world.recorded()
    assert await attempts_of(database, job.id)

    await world.jobs.prune(ended_before=datetime.now(UTC) + timedelta(days=1))

    assert await attempts_of(database, job.id) == []


async def test_a_running_job_shows_what_it_has_done_so_far(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.sync.jobs.runner._TIMELINE_SECONDS", 0.0)
    await images.push(world.source, SOURCE, images.image(b"layer"), V1)
    assert world.process is not None
    world.source.reading.clear()
    await world.process.service.start(world.request(V1), seconds=0)

    async def compared() -> list[JobDetails]:
        shown = await last_details(world)
        return [shown] if EventKind.COMPARED in kinds(shown) else []

    (shown,) = await eventually(compared)
    assert kinds(shown)[:3] == ["queued", "started", "compared"]
    assert "ended" not in kinds(shown)


def blob(number: int) -> Digest:
    return Digest(f"sha256:{number:064x}")


def test_a_timeline_lists_a_limited_number_of_blobs_and_counts_all():
    timeline = CopyTimeline(clock=lambda: 0.0)
    for number in range(bounds.TIMELINE_BLOBS + 7):
        timeline.add_blob(blob(number), 10, BlobOutcome.UPLOADED, read=12)

    assert len(timeline.events) == bounds.TIMELINE_BLOBS
    assert timeline.omitted == 7
    assert timeline.uploaded == Amount(bounds.TIMELINE_BLOBS + 7, 12 * (bounds.TIMELINE_BLOBS + 7))


def test_a_blob_that_the_target_lacked_after_all_is_counted_once():
    timeline = CopyTimeline(clock=lambda: 0.0)
    timeline.add_blob(blob(1), 10, BlobOutcome.PRESENT)
    timeline.add_blob(blob(1), 10, BlobOutcome.PRESENT)
    timeline.add_blob(blob(1), 10, BlobOutcome.UPLOADED, read=10)

    assert (timeline.present, timeline.uploaded) == (Amount(), Amount(1, 10))
    assert timeline.omitted == 0


async def test_events_are_read_as_they_were_written_and_damaged_ones_are_left_out(world: World, database: Database):
    await images.push(world.source, SOURCE, images.image(b"layer"), V1)
    await world.sync(V1)
    (job,) = await world.recorded()
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    events = (
        Event(begin.timestamp() + 0.25, Step.COMPARED),
        Event(begin.timestamp() + 1.5, Step.BLOB, blob(1), 7, 0, BlobOutcome.MOUNTED, "team/base"),
        Event(begin.timestamp() + 2, Step.PLANNED, "", 9, 3),
    )
    async with database.write() as session:
        await (await session.connection()).run_sync(
            write_attempts, [AttemptRecord(job.id, 9, "host:1", begin, events=events)]
        )

    assert (await attempts_of(database, job.id))[-1].events == events
