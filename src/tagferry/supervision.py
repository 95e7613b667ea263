"""Supervision of background tasks: one that fails is restarted, and readiness reports it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn, TypeVar

import structlog

from tagferry.metrics import TASK_FAILURES, TASK_RUNNING

SETTLED_SECONDS = 10.0
"""After a restart, a task counts as failing until it has run for so long."""
REPEATED_SECONDS = 600.0
"""Failures less than this apart are counted together."""
_SHORTEST_SECONDS = 1.0
_LONGEST_SECONDS = 60.0

_NEVER = datetime.min.replace(tzinfo=UTC)

_Result = TypeVar("_Result")

log = structlog.get_logger(__name__)


async def surfacing(work: Awaitable[_Result]) -> _Result:
    """Await work; if something that it waits for was cancelled, but not the current task, raise a RuntimeError.

    A CancelledError would end the task, and task groups and callers would take it for one that was meant to end.
    """
    try:
        return await work
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError("something that the task waits for was cancelled") from error


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task does not run as it should.

    Attributes:
        reason: the type of the last error; its text may contain internal details, and is logged.
        count: the number of failures, each less than `REPEATED_SECONDS` after the one before.
        since: the time of the first of them.
        is_running: whether the task runs at present, and has for `SETTLED_SECONDS`.
        seconds: for how long it has not run, apart from shorter runs; 0 if it runs.
        is_essential: whether requests or accepted jobs depend on the task.
    """

    reason: str
    count: int
    since: datetime
    is_running: bool
    seconds: float
    is_essential: bool


@dataclass(slots=True)
class _Task:
    is_essential: bool
    reason: str = ""
    count: int = 0
    since: datetime = _NEVER
    failed_at: float = 0.0
    failing_since: float = 0.0
    restarted_at: float = 0.0
    pause: float = _SHORTEST_SECONDS


class Supervisor:
    """Runs background tasks that never end.

    A task that raises, or returns, is restarted after a pause. The pause doubles with each failure, up to a minute, and
    is back at a second once the task has run for `SETTLED_SECONDS`.

    Args:
        clock: seconds, monotonic.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._tasks: dict[str, _Task] = {}

    def start(
        self, name: str, work: Callable[[], Awaitable[object]], *, is_essential: bool = False
    ) -> asyncio.Task[NoReturn]:
        """Start a task; cancel it to end it.

        Args:
            name: unique in the process; shown in logs, metrics and by `/readyz`.
            work: called for each run.
            is_essential: whether requests or accepted jobs depend on it, so that the process is not ready without it.
        """
        state = self._tasks[name] = _Task(is_essential)
        return asyncio.create_task(self._keep_running(name, work, state), name=name)

    @property
    def tasks(self) -> list[str]:
        """The names of all running tasks, including those that wait to be restarted."""
        return sorted(self._tasks)

    @property
    def failures(self) -> Mapping[str, Failure]:
        """The tasks that failed and have not yet run for `SETTLED_SECONDS`, or that fail repeatedly, by name."""
        now = self._clock()
        failures = {}
        for name, task in self._tasks.items():
            is_settled = self._is_settled(task, now)
            if task.reason and not (is_settled and (task.count == 1 or self._is_over(task, now))):
                failures[name] = Failure(
                    task.reason,
                    task.count,
                    task.since,
                    is_running=is_settled,
                    seconds=0.0 if is_settled else now - task.failing_since,
                    is_essential=task.is_essential,
                )
        return failures

    async def _keep_running(self, name: str, work: Callable[[], Awaitable[object]], state: _Task) -> NoReturn:
        running = TASK_RUNNING.labels(task=name)
        try:
            while True:
                running.set(1)
                state.restarted_at = self._clock()
                try:
                    await surfacing(work())
                    reason, error = "it ended", None
                except Exception as failure:
                    reason, error = type(failure).__name__, failure
                running.set(0)
                now = self._clock()
                if not state.reason or self._is_settled(state, now):
                    state.failing_since, state.pause = now, _SHORTEST_SECONDS
                if not state.reason or self._is_over(state, now):
                    state.count, state.since = 0, datetime.now(UTC)
                state.count, state.failed_at = state.count + 1, now
                # A task that waits to be restarted is never settled.
                state.reason, state.restarted_at = reason, float("inf")
                TASK_FAILURES.labels(task=name).inc()
                log.error(
                    "background task failed",
                    task=name,
                    reason=reason,
                    failures=state.count,
                    restart_in=state.pause,
                    exc_info=error,
                )
                await self._sleep(state.pause)
                state.pause = min(_LONGEST_SECONDS, state.pause * 2)
        finally:
            running.set(0)
            if self._tasks.get(name) is state:
                del self._tasks[name]

    def _is_settled(self, task: _Task, now: float) -> bool:
        return now - task.restarted_at >= SETTLED_SECONDS

    def _is_over(self, task: _Task, now: float) -> bool:
        return now - task.failed_at >= REPEATED_SECONDS
