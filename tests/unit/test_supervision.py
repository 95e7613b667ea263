"""Background tasks that fail are restarted and reported."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from tagferry.metrics import TASK_FAILURES
from tagferry.supervision import REPEATED_SECONDS, SETTLED_SECONDS, Supervisor, surfacing
from tests.support.clock import Clock


class Pauses:
    """Sleeps without waiting, and moves the clock on."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.taken: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.taken.append(seconds)
        self.clock.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def supervisor(pauses: Pauses) -> Supervisor:
    return Supervisor(clock=pauses.clock, sleep=pauses.sleep)


def failing(
    times: int, then: Callable[[], Awaitable[object]], error: Exception | None
) -> Callable[[], Awaitable[None]]:
    """Return work that fails, or ends, this often before it does something else."""
    left = times

    async def work() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            await then()
        elif error is not None:
            raise error

    return work


def running_again(supervisor: Supervisor) -> dict[str, bool]:
    """Return whether each task that failed runs again."""
    return {name: failure.is_running for name, failure in supervisor.failures.items()}


async def stop(task: asyncio.Task[object]) -> None:
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("error", [ValueError("secret detail"), None], ids=["raises", "returns"])
async def test_a_task_that_ends_is_restarted_with_growing_pauses(
    supervisor: Supervisor, pauses: Pauses, error: Exception | None
) -> None:
    running = asyncio.Event()

    async def run() -> None:
        running.set()
        await asyncio.Event().wait()

    before = TASK_FAILURES.labels(task="test").value
    with capture_logs() as logs:
        task = supervisor.start("test", failing(8, run, error))
        await running.wait()
    assert pauses.taken == [1, 2, 4, 8, 16, 32, 60, 60]
    assert TASK_FAILURES.labels(task="test").value == before + 8
    assert [entry["event"] for entry in logs] == ["background task failed"] * 8
    await stop(task)


async def cancelled_from_within() -> None:
    """Wait for something that is cancelled, as by a driver that closes its connection."""
    waited_for = asyncio.get_running_loop().create_future()
    waited_for.cancel()
    await waited_for


async def test_a_task_is_restarted_if_what_it_waits_for_is_cancelled(supervisor: Supervisor) -> None:
    running, calls = asyncio.Event(), iter([cancelled_from_within])

    async def run() -> None:
        running.set()
        await asyncio.Event().wait()

    task = supervisor.start("test", lambda: next(calls, run)())
    async with asyncio.timeout(30):
        await running.wait()
    assert supervisor.tasks == ["test"]
    assert supervisor.failures["test"].reason == "RuntimeError"

    await stop(task)
    assert task.cancelled()
    assert supervisor.tasks == []


async def test_a_group_fails_with_a_task_whose_work_was_cancelled_from_within() -> None:
    async def run_group() -> None:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(surfacing(cancelled_from_within()))
            group.create_task(surfacing(asyncio.Event().wait()))

    with pytest.raises(ExceptionGroup):
        await run_group()


async def test_a_failure_is_reported_until_the_task_has_run_for_a_while(supervisor: Supervisor, pauses: Pauses) -> None:
    running = asyncio.Event()

    async def run() -> None:
        running.set()
        await asyncio.Event().wait()

    task = supervisor.start("test", failing(3, run, ValueError("secret detail")), is_essential=True)
    assert supervisor.failures == {}
    await running.wait()
    failure = supervisor.failures["test"]
    assert (failure.reason, failure.count, failure.seconds, failure.is_essential) == ("ValueError", 3, 7, True)
    pauses.clock.now += SETTLED_SECONDS - 0.1
    assert running_again(supervisor) == {"test": False}
    pauses.clock.now += 0.1
    assert running_again(supervisor) == {"test": True}
    pauses.clock.now += REPEATED_SECONDS
    assert supervisor.failures == {}
    await stop(task)
    assert supervisor.tasks == []


async def test_a_single_failure_is_forgotten_once_the_task_has_run_for_a_while(
    supervisor: Supervisor, pauses: Pauses
) -> None:
    running = asyncio.Event()

    async def run() -> None:
        running.set()
        await asyncio.Event().wait()

    task = supervisor.start("test", failing(1, run, ValueError()))
    await running.wait()
    assert supervisor.failures["test"].count == 1
    pauses.clock.now += SETTLED_SECONDS
    assert supervisor.failures == {}
    await stop(task)


@pytest.mark.parametrize(("run_seconds", "count"), [(SETTLED_SECONDS + 20, 200), (REPEATED_SECONDS + 1, 1)])
async def test_failures_between_longer_runs_are_counted_for_hours(
    supervisor: Supervisor, pauses: Pauses, run_seconds: float, count: int
) -> None:
    running, runs = asyncio.Event(), 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs > 200:
            running.set()
            await asyncio.Event().wait()
        pauses.clock.now += run_seconds
        raise ValueError

    began = datetime.now(UTC)
    task = supervisor.start("test", work, is_essential=True)
    await running.wait()
    failure = supervisor.failures["test"]
    assert failure.count == count
    assert began <= failure.since <= datetime.now(UTC)
    pauses.clock.now += SETTLED_SECONDS
    assert running_again(supervisor) == ({"test": True} if count > 1 else {})
    await stop(task)


async def test_a_task_that_has_run_for_a_while_is_restarted_soon(supervisor: Supervisor, pauses: Pauses) -> None:
    done = asyncio.Event()
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 4:
            done.set()
            await asyncio.Event().wait()
        if runs == 3:
            pauses.clock.now += SETTLED_SECONDS
        raise ValueError

    task = supervisor.start("test", work)
    await done.wait()
    assert pauses.taken == [1, 2, 1]
    await stop(task)


async def test_a_task_that_waits_to_be_restarted_can_be_ended() -> None:
    supervisor = Supervisor()
    failed = asyncio.Event()

    async def work() -> None:
        failed.set()
        raise ValueError

    task = supervisor.start("test", work)
    await failed.wait()
    # The task has raised within the same turn of the event loop.
    await asyncio.sleep(0)
    assert "test" in supervisor.failures
    await stop(task)
    assert task.cancelled()
    assert supervisor.failures == {}
