"""Work that its callers wait for only a moment at a time: it continues, and one of the next calls gets its result."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from contextvars import Context
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from tagferry.errors import Overloaded, Throttled

Result = TypeVar("Result")

_PATIENCE_SECONDS = 0.1
_UNCLAIMED_SECONDS = 30.0
"""Seconds after the last call for which work continues, and its result is kept."""
_AT_ONCE = 16
"""Works of one owner that are in progress or unclaimed."""


@dataclass(slots=True)
class Progress:
    """How far work is.

    Attributes:
        done: what is done.
        total: what there is to do; 0 if that is not known yet.
    """

    done: int = 0
    total: int = 0


@dataclass(slots=True)
class _Work:
    """Work with the owner that began it, and the timer that abandons it."""

    task: asyncio.Task[Any]
    progress: Progress
    owner: str
    timer: asyncio.TimerHandle | None = None


class EventualResults:
    """Runs work that may take longer than a call can wait. As a context, it cancels all work when it exits.

    Args:
        unclaimed_seconds: seconds after the last call for which work continues, and its result is kept.
        at_once: the maximum number of works of one owner.

    Attributes:
        patience: seconds that callers should wait.
    """

    def __init__(self, *, unclaimed_seconds: float = _UNCLAIMED_SECONDS, at_once: int = _AT_ONCE) -> None:
        self.patience = _PATIENCE_SECONDS
        self._unclaimed_seconds = unclaimed_seconds
        self._at_once = at_once
        self._works: dict[Hashable, _Work] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def get(
        self,
        key: Hashable,
        begin: Callable[[Progress], Coroutine[Any, Any, Result]],
        *,
        owner: str,
        seconds: float,
    ) -> Result | Progress:
        """Return the result of the work of this key, or its progress if it takes longer than some seconds.

        A result is returned once; the next call begins the work again. Errors are raised in the same way.

        Args:
            key: identifies the work, with everything that its result depends on.
            begin: begins it, unless it is in progress or its result is unclaimed.
            owner: who asks for it.
            seconds: how long to wait.

        Raises:
            Throttled: the owner has too many works in progress.
            Overloaded: the server is shutting down.
        """
        work = self._works.get(key) or self._begin(key, begin, owner)
        self._abandon_later(key, work)
        done, _ = await asyncio.wait([work.task], timeout=seconds)
        if not done:
            return work.progress
        self._drop(key, work)
        if work.task.cancelled():
            raise Overloaded("the server is shutting down", retry_after=5.0)
        result: Result = work.task.result()
        return result

    async def close(self) -> None:
        """Cancel all work."""
        works = list(self._works.items())
        for key, work in works:
            self._drop(key, work)
        if works:
            await asyncio.wait([work.task for _, work in works])

    def _begin(self, key: Hashable, begin: Callable[[Progress], Coroutine[Any, Any, Any]], owner: str) -> _Work:
        if sum(work.owner == owner for work in self._works.values()) >= self._at_once:
            raise Throttled("too many pages of this user are still being computed; wait for them", retry_after=5.0)
        progress = Progress()
        # In a context of its own: what the request counts and limits does not concern the work, which may outlive it.
        task = asyncio.create_task(begin(progress), context=Context())
        # Otherwise the event loop would log the error of a work that is abandoned.
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        work = self._works[key] = _Work(task, progress, owner)
        return work

    def _abandon_later(self, key: Hashable, work: _Work) -> None:
        if work.timer is not None:
            work.timer.cancel()
        loop = asyncio.get_running_loop()
        work.timer = loop.call_later(self._unclaimed_seconds, self._drop, key, work)

    def _drop(self, key: Hashable, work: _Work) -> None:
        """Forget a work, and cancel it if it has not ended."""
        if work.timer is not None:
            work.timer.cancel()
        if self._works.get(key) is work:
            del self._works[key]
        work.task.cancel()
