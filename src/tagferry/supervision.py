"""Supervision of background tasks: one that fails is restarted, and readiness reports it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

import structlog

from tagferry.metrics import TASK_FAILURES, TASK_RUNNING

SETTLED_SECONDS = 10.0
"""After a restart, a task counts as failing until it has run for so long."""
_SHORTEST_SECONDS = 1.0
_LONGEST_SECONDS = 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task does not run as it should.

    Attributes:
        reason: the type of the last error; its text may contain internal details, and is logged.
        seconds: since when.
        is_essential: whether requests or accepted jobs depend on the task.
    """

    reason: str
    seconds: float
    is_essential: bool


@dataclass(slots=True)
class _Task:
    is_essential: bool
    reason: str = ""
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
        """The tasks that failed and have not yet run for long enough since then, by name."""
        now = self._clock()
        return {
            name: Failure(task.reason, now - task.failing_since, task.is_essential)
            for name, task in self._tasks.items()
            if task.reason and not self._is_settled(task, now)
        }

    async def _keep_running(self, name: str, work: Callable[[], Awaitable[object]], state: _Task) -> NoReturn:
        running = TASK_RUNNING.labels(task=name)
        try:
            while True:
                running.set(1)
                state.restarted_at = self._clock()
                try:
                    await work()
                    reason, error = "it ended", None
                except Exception as failure:
                    reason, error = type(failure).__name__, failure
                running.set(0)
                now = self._clock()
                if not state.reason or self._is_settled(state, now):
                    state.failing_since, state.pause = now, _SHORTEST_SECONDS
                # A task that waits to be restarted is never settled.
                state.reason, state.restarted_at = reason, float("inf")
                TASK_FAILURES.labels(task=name).inc()
                log.error("background task failed", task=name, reason=reason, restart_in=state.pause, exc_info=error)
                await self._sleep(state.pause)
                state.pause = min(_LONGEST_SECONDS, state.pause * 2)
        finally:
            running.set(0)
            if self._tasks.get(name) is state:
                del self._tasks[name]

    def _is_settled(self, task: _Task, now: float) -> bool:
        return now - task.restarted_at >= SETTLED_SECONDS
