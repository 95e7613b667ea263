"""Each job has one log event at its end, whatever ends it."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import structlog
from sqlalchemy import text
from structlog.testing import capture_logs

from tagferry import bounds
from tagferry.errors import Conflict, Refused, TagferryError, Unavailable, Unsupported
from tagferry.names import RepositoryName
from tagferry.sync.jobs.cleanup import JobCleanup
from tagferry.sync.jobs.end_events import EVENT
from tests.support.deployment import eventually
from tests.support.images import image, push
from tests.unit.sync.conftest import NORTH, V1, V2, World
from tests.unit.sync.test_jobs import WORKER, run

APP = RepositoryName("team/app")


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logged:
        yield logged


def ends(lines: list[Any]) -> list[Any]:
    return [line for line in lines if line["event"] == EVENT]


async def will_end(lines: list[Any]) -> None:
    """Wait for the event of a job, which a worker logs after it has recorded the end."""

    async def is_logged() -> bool:
        return bool(ends(lines))

    await eventually(is_logged)


async def test_a_copied_tag_is_logged_with_what_matters(world: World, lines: list[Any]):
    sample = image(b"layer")
    await push(world.source, APP, sample, V1)

    await world.sync(V1)
    await will_end(lines)
    (line,) = ends(lines)
    (job,) = await world.recorded()
    moved = sum(len(content) for content in sample.all_blobs.values())
    assert 0 <= line.pop("queued_seconds") < 60
    assert 0 <= line.pop("running_seconds") < 60
    assert line == {
        "event": EVENT,
        "log_level": "info",
        "job": job.id,
        "source": "cn-north-4/team/app",
        "target": "cn-south-1/release",
        "tag": "v1",
        "status": "success",
        "reason": "copied and verified",
        "attempts": 1,
        "user": job.operator_name,
        "request_id": job.request_id,
        "bytes_moved": moved,
        "bytes_mounted": 0,
        "bytes_present": 0,
    }


async def test_tags_that_are_up_to_date_have_no_lines_unless_all_are_shown(
    world: World, lines: list[Any], monkeypatch: pytest.MonkeyPatch
):
    await push(world.source, APP, image(b"layer"), V1)
    await world.sync(V1)
    await will_end(lines)
    lines.clear()

    await world.sync(V1)
    assert ends(lines) == []

    monkeypatch.setattr("logging.Logger.isEnabledFor", lambda *_: True)
    await world.sync(V1)
    (line,) = ends(lines)
    # The fields are those of any other job, but for what an attempt did.
    assert {name: one for name, one in line.items() if name not in ("job", "user", "request_id")} == {
        "event": EVENT,
        "log_level": "debug",
        "source": "cn-north-4/team/app",
        "target": "cn-south-1/release",
        "tag": "v1",
        "status": "success",
        "reason": "up to date",
        "queued_seconds": 0.0,
        "running_seconds": 0.0,
        "attempts": 0,
    }
    assert {"job", "user", "request_id"} <= line.keys()


async def test_a_missing_tag_is_no_warning(world: World, lines: list[Any]):
    await push(world.source, APP, image(b"layer"), V1)

    await world.sync(V2)
    await will_end(lines)

    ((level, status),) = [(line["log_level"], line["status"]) for line in ends(lines)]
    assert (level, status) == ("info", "failed")


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (Conflict("tag rule", "the tag is immutable"), "info"),
        (Unsupported("the registry does not accept this format"), "info"),
        (Refused("the registry denied access"), "warning"),
        (Unavailable("the registry does not answer"), "warning"),
    ],
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)
async def test_a_failure_is_a_warning_unless_its_user_caused_it(
    world: World, lines: list[Any], monkeypatch: pytest.MonkeyPatch, error: TagferryError, level: str
):
    await push(world.source, APP, image(b"layer"), V1)

    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(world.target, "put_manifest", fail)
    await world.sync(V1)
    await will_end(lines)
    ((found, status, reason),) = [(line["log_level"], line["status"], line["reason"]) for line in ends(lines)]
    assert (found, status) == (level, "failed")
    assert reason.startswith(error.message)


async def test_an_unexpected_failure_has_its_traceback_with_the_job(
    world: World, lines: list[Any], monkeypatch: pytest.MonkeyPatch
):
    await push(world.source, APP, image(b"layer"), V1)

    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(world.target, "put_manifest", fail)
    await world.sync(V1)
    await will_end(lines)
    (job,) = await world.recorded()
    (unexpected,) = [line for line in lines if line["event"] == "a sync job failed unexpectedly"]
    assert (unexpected["log_level"], unexpected["job"], unexpected["user"]) == ("error", job.id, job.operator_name)


async def test_a_cancelled_job_is_logged_once(world: World, lines: list[Any]):
    await push(world.source, APP, image(b"layer"), V1)
    world.source.reading.clear()
    assert world.process is not None
    started = await world.process.service.start(world.request(V1))
    await world.source.being_read.wait()

    await world.jobs.cancel([started.job_ids[V1]], reason="cancelled by carol")
    world.source.reading.set()

    async def has_stopped() -> bool:
        assert world.process is not None
        return world.process.worker.running == 0

    await eventually(has_stopped)
    ((status, reason, level),) = [(line["status"], line["reason"], line["log_level"]) for line in ends(lines)]
    assert (status, reason, level) == ("cancel", "cancelled by carol", "info")


async def test_jobs_of_a_deleted_repository_are_logged_when_that_is_committed(world: World, lines: list[Any]):
    await world.start_process(slots=0)
    assert world.process is not None
    (job_id,) = await run(world.jobs, world.database, "v1")

    with suppress(ZeroDivisionError):
        async with world.database.write() as session:
            await JobCleanup(world.process.bus).detach_repository(session, NORTH, APP)
            raise ZeroDivisionError
    assert ends(lines) == []
    async with world.database.write() as session:
        await JobCleanup(world.process.bus).detach_repository(session, NORTH, APP)

    assert [(line["job"], line["status"]) for line in ends(lines)] == [(job_id, "cancel")]


async def test_a_job_whose_workers_were_lost_too_often_is_a_warning(world: World, lines: list[Any]):
    await world.start_process(slots=0)
    assert world.process is not None
    (job_id,) = await run(world.jobs, world.database, "v1")
    async with world.database.write() as session:
        await session.execute(text("UPDATE sync_jobs SET lost_workers = :lost"), {"lost": bounds.JOB_LOST_WORKERS})
        await world.process.queue._delete_worker(session, WORKER, is_lost=True)

    assert [(line["job"], line["status"], line["log_level"]) for line in ends(lines)] == [(job_id, "failed", "warning")]


async def test_a_job_that_times_out_in_the_queue_is_a_warning(world: World, lines: list[Any]):
    await push(world.source, APP, image(b"layer"), V1)
    service = await world.start_process(slots=0)
    started = await service.start(world.request(V1))
    async with world.database.write() as session:
        await session.execute(text("UPDATE sync_jobs SET deadline_at = '2020-01-01 00:00:00'"))

    assert await world.jobs.expire() == [started.job_ids[V1]]

    ((status, level, attempts),) = [(line["status"], line["log_level"], line["attempts"]) for line in ends(lines)]
    assert (status, level, attempts) == ("timeout", "warning", 0)


async def test_a_request_has_one_line_with_its_numbers(world: World, lines: list[Any]):
    for tag in (V1, V2):
        await push(world.source, APP, image(seed=tag), tag)
    await world.sync(V1)
    lines.clear()

    await world.sync(V1, V2)

    ((tags, jobs, joined, settled),) = [
        (line["tags"], line["jobs"], line["joined"], line["settled"])
        for line in lines
        if line["event"] == "accepted a sync request"
    ]
    assert (tags, jobs, joined, settled) == (2, 1, 0, 1)
