"""Progress and ends of jobs reach the processes that watch them, also from other processes and if messages are lost."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Executable

from tagferry.coordination.pubsub import message_bus_of
from tagferry.db.engine import Database
from tagferry.errors import Unavailable
from tagferry.names import RepositoryName
from tagferry.supervision import Supervisor
from tagferry.sync.jobs import live as live_jobs
from tagferry.sync.jobs.live import LiveJobs
from tagferry.sync.jobs.messages import JobProgress
from tagferry.sync.jobs.model import JobStatus, SyncJob
from tests.support import images
from tests.unit.sync.conftest import RELEASE, REPO, SOUTH, TEAM, V1, World

SECONDS = 60


@pytest.fixture
async def elsewhere(world: World) -> AsyncIterator[LiveJobs]:
    """The hub of a process that runs no jobs; with SQLite there is only one process."""
    assert world.process is not None
    if not world.database.is_shared:
        yield world.process.live
        return
    database = Database(world.database.url.render_as_string(hide_password=False))
    bus = message_bus_of(database, Supervisor())
    live = LiveJobs(database, bus)
    await bus.open()
    yield live
    await live.close()
    await bus.close()
    await database.close()


async def started(world: World) -> SyncJob:
    """A job whose copy waits at the source."""
    await images.push(world.source, RepositoryName.of(TEAM, REPO), images.image(b"layer"), V1)
    world.source.reading.clear()
    assert world.process is not None
    await world.process.service.start(world.request(V1), seconds=0)
    return (await world.recorded())[-1]


@pytest.mark.parametrize("rate", [None, 0, 12_345])
def test_a_message_is_read_as_it_was_written(rate: int | None):
    progress = JobProgress(17, 5, 10, 1, 2, rate)

    assert JobProgress.decode(progress.encode()) == progress
    assert "," not in progress.encode()


async def test_a_watcher_in_another_process_sees_the_progress_and_the_end(world: World, elsewhere: LiveJobs):
    job = await started(world)

    with elsewhere.watch([replace(job, status=JobStatus.WAITING)]) as watch:
        seen: list[SyncJob] = []
        async with asyncio.timeout(SECONDS):
            while not any(one.snapshot is not None and one.snapshot.blobs_total for one in seen):
                seen += (await watch.changes(seconds=SECONDS))[0]
            world.source.reading.set()
            while watch.jobs[job.id].status is not JobStatus.SUCCESS:
                await watch.changes(seconds=SECONDS)

    assert watch.jobs[job.id].reason == "copied and verified"
    assert elsewhere.progress(job.id) is None


async def test_progress_of_another_process_is_shown_with_the_job(world: World, elsewhere: LiveJobs):
    job = await started(world)
    async with asyncio.timeout(SECONDS):
        with elsewhere.watch([job]) as watch:
            while elsewhere.progress(job.id) is None:
                await watch.changes(seconds=1)

    progress = elsewhere.progress(job.id)
    assert progress is not None
    shown = progress.applied_to(job)
    assert (shown.status, shown.bytes_total) == (JobStatus.RUNNING, progress.bytes_total)
    world.source.reading.set()


async def test_an_end_whose_message_was_lost_is_seen_at_the_next_look(world: World):
    job = await started(world)
    world.source.reading.set()
    assert world.process is not None
    await world.process.service.wait(await world.process.service.start(world.request(V1)), seconds=SECONDS)

    # This bus is not open, so it receives nothing.
    live = LiveJobs(world.database, message_bus_of(world.database, Supervisor()), look_seconds=0.01)
    with live.watch([job]) as watch:
        async with asyncio.timeout(SECONDS):
            while not watch.jobs[job.id].status.has_ended:
                await watch.changes(seconds=SECONDS)
    await live.close()


async def test_old_progress_is_not_shown(world: World):
    now = 0.0
    bus = message_bus_of(world.database, Supervisor())
    live = LiveJobs(world.database, bus, clock=lambda: now)
    live._on_progress([JobProgress(1, 0, 10, 0, 1, None)])
    assert live.progress(1) is not None

    now = 60.0

    assert live.progress(1) is None
    assert live.progress(2) is None


async def test_late_progress_does_not_reopen_a_job_that_has_ended(world: World):
    job = replace(await started(world), status=JobStatus.SUCCESS)
    world.source.reading.set()
    live = LiveJobs(world.database, message_bus_of(world.database, Supervisor()))
    with live.watch([job]) as watch:
        live._on_progress([JobProgress(job.id, 5, 10, 0, 1, None)])

        assert watch.jobs[job.id].status is JobStatus.SUCCESS
        assert await watch.changes(seconds=0) == ([], False)
    await live.close()


async def test_a_page_that_knows_of_an_end_tells_those_that_do_not(world: World):
    job = await started(world)
    world.source.reading.set()
    live = LiveJobs(world.database, message_bus_of(world.database, Supervisor()))
    with live.watch([job]) as before, live.watch([replace(job, status=JobStatus.SUCCESS)]) as watch:
        live._on_progress([JobProgress(job.id, 5, 10, 0, 1, None)])

        assert before.jobs[job.id].status is watch.jobs[job.id].status is JobStatus.SUCCESS
        assert [one.id for one in (await before.changes(seconds=0))[0]] == [job.id]
    await live.close()


async def test_an_end_is_read_again_after_the_database_was_lost(world: World, monkeypatch: pytest.MonkeyPatch):
    job = await started(world)
    live = LiveJobs(world.database, message_bus_of(world.database, Supervisor()), look_seconds=0.01)
    monkeypatch.setattr(live_jobs, "_PAUSE_SECONDS", 0.01)
    rows, refusals = world.database.rows, [1] * 5

    async def lost(statement: Executable, parameters: Mapping[str, Any]) -> Any:
        if refusals:
            refusals.pop()
            raise Unavailable("the database does not answer")
        return await rows(statement, parameters)

    with live.watch([replace(job, status=JobStatus.SUCCESS)]):
        monkeypatch.setattr(world.database, "rows", lost)
        # This one is behind, and the others know of the end already.
        with live.watch([job]) as watch:
            world.source.reading.set()
            async with asyncio.timeout(SECONDS):
                while not watch.jobs[job.id].status.has_ended:
                    await watch.changes(seconds=SECONDS)
    assert not refusals
    await live.close()


async def test_many_messages_are_one_change_of_each_job(world: World):
    job = await started(world)
    live = LiveJobs(world.database, message_bus_of(world.database, Supervisor()))
    with live.watch([job]) as watch:
        for done in range(1, 500):
            live._on_progress([JobProgress(job.id, done, 1000, 0, 1, None)])

        changed, _ = await watch.changes(seconds=0)

    assert [(one.id, one.bytes_done) for one in changed] == [(job.id, 499)]
    world.source.reading.set()
    await live.close()


async def test_a_watcher_is_told_that_there_may_be_new_jobs(world: World, elsewhere: LiveJobs):
    job = await started(world)
    with elsewhere.watch([job]) as watch:
        while (await watch.changes(seconds=0))[1]:
            pass
        assert world.process is not None
        await world.process.service.start(world.request(V1, override=True), seconds=0)

        async with asyncio.timeout(SECONDS):
            while not (await watch.changes(seconds=SECONDS))[1]:
                pass
    world.source.reading.set()
    assert (job.target_region, job.target_namespace) == (SOUTH, RELEASE)


async def test_a_job_is_compared_once_for_all_that_watch_it(world: World, monkeypatch: pytest.MonkeyPatch):
    job = await started(world)
    assert world.process is not None
    live = world.process.live
    compared: list[int] = []
    is_same = live_jobs._is_same

    def noted(before: SyncJob, now: SyncJob) -> bool:
        compared.append(now.id)
        return is_same(before, now)

    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(live.watch([job]))
        # From then on, all of them have the same object.
        live._show(replace(job))
        live._show(replace(job))
        monkeypatch.setattr(live_jobs, "_is_same", noted)
        live._show(replace(job))
        live._on_progress([JobProgress(job.id, 5, 9, 1, 2, None)])

    assert compared == [job.id] * 2
    world.source.reading.set()
