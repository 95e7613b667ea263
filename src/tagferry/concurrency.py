"""Shared and bounded concurrent work."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context, ContextVar
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")
Other = TypeVar("Other")
Item = TypeVar("Item")

_NO_CONTEXT: AbstractContextManager[None] = nullcontext()
EXTERNAL_WAIT: ContextVar[AbstractContextManager[None]] = ContextVar("external_wait", default=_NO_CONTEXT)
"""The context that a task enters while it waits for another server, or in a queue with a limit of its own, so that it
does not count as work of this process meanwhile."""


class _Call(Generic[Result]):
    """The call of a key that is running."""

    def __init__(self, task: asyncio.Task[Result]) -> None:
        self.task = task
        self.callers = 0


class SingleFlight(Generic[Key, Result]):
    """Runs work once for all concurrent callers of a key; they share its result or its error.

    The work is cancelled when the last of its callers is cancelled.
    """

    def __init__(self) -> None:
        self._calls: dict[Key, _Call[Result]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._calls

    async def run(self, key: Key, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Join the running call for this key, or start one with `work`."""
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = _Call(asyncio.create_task(self._run(key, work)))
        call.callers += 1
        try:
            return await asyncio.shield(call.task)
        finally:
            call.callers -= 1
            if call.callers == 0 and not call.task.done():
                await self._cancel(key, call)

    async def _run(self, key: Key, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        task = asyncio.current_task()
        try:
            return await work()
        finally:
            call = self._calls.get(key)
            if call is not None and call.task is task:
                del self._calls[key]

    async def _cancel(self, key: Key, call: _Call[Result]) -> None:
        # Removed first, so that no new caller joins a call that is being cancelled.
        if self._calls.get(key) is call:
            del self._calls[key]
        call.task.cancel()
        await asyncio.wait([call.task])


class LatestResult(Generic[Result]):
    """Runs work whose result must be at least as new as the request for it.

    Callers that arrive during a run share one further run.

    Args:
        work: the work.
    """

    def __init__(self, work: Callable[[], Awaitable[Result]]) -> None:
        self._work = work
        self._running = asyncio.Lock()
        self._next: asyncio.Task[Result] | None = None

    async def result(self) -> Result:
        """Return the result of a run that starts after this call."""
        task = self._next
        if task is None:
            task = self._next = asyncio.create_task(self._run())
        return await asyncio.shield(task)

    async def _run(self) -> Result:
        async with self._running:
            # Callers from here on need a later run: this one may miss what they have seen.
            self._next = None
            return await self._work()


class BackgroundWork:
    """Work that runs in the background until it is closed. It must not raise errors."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def start(self, work: Coroutine[Any, Any, object]) -> None:
        """Start work, outside of the context of the caller."""
        task = asyncio.create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self, *, seconds: float) -> None:
        """Wait that long for the work that was started, and cancel what has not ended by then."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)


async def gather(*work: Awaitable[Any], finishing: tuple[type[Exception], ...] = ()) -> None:
    """Run awaitables concurrently; cancel the rest on the first error, wait for it to end, and raise the error as is.

    Args:
        work: the awaitables.
        finishing: errors that do not cancel the rest; the first of them is raised at the end.
    """
    deferred: list[Exception] = []

    async def run(one: Awaitable[Any]) -> None:
        try:
            await one
        except finishing as error:
            deferred.append(error)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(one)) for one in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    if any(task.cancelled() for task in tasks):
        # A task group treats a task that cancelled itself as done, but its work is not.
        raise asyncio.CancelledError
    if deferred:
        raise deferred[0]


async def both(first: Awaitable[Result], second: Awaitable[Other]) -> tuple[Result, Other]:
    """Run two awaitables concurrently; return their results, and raise as `gather` does."""
    results: list[Any] = [None, None]

    async def run(place: int, one: Awaitable[Any]) -> None:
        results[place] = await one

    await gather(run(0, first), run(1, second))
    return results[0], results[1]


async def bounded_gather(
    items: Iterable[Item], work: Callable[[Item], Awaitable[Result]], *, limit: int
) -> list[Result]:
    """Run the work for every item, at most `limit` at once; return the results in order, and raise as `gather` does."""
    wanted = list(items)
    if len(wanted) == 1:
        # A task would cost more than much of the work that is awaited here.
        return [await work(wanted[0])]
    slots = asyncio.Semaphore(limit)
    results: dict[int, Result] = {}

    async def one(index: int, item: Item) -> None:
        async with slots:
            results[index] = await work(item)

    await gather(*(one(index, item) for index, item in enumerate(wanted)))
    return [results[index] for index in range(len(wanted))]
