"""Shares work that several callers request at the same time, and bounds how much work runs at once.

A flight is work under a key. Callers that request the same key meanwhile share its result, or its error. It is
cancelled only when the last caller that waits for it is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")
Item = TypeVar("Item")

_NOTHING: AbstractContextManager[None] = nullcontext()
ELSEWHERE: ContextVar[AbstractContextManager[None]] = ContextVar("elsewhere", default=_NOTHING)
"""What a task enters while it waits for another server, or in a queue that has a limit of its own, so that it does not
count as work of this process meanwhile."""


@dataclass(slots=True)
class _Flight(Generic[Result]):
    task: asyncio.Task[Result]
    waiting: int = 0


class Flights(Generic[Key, Result]):
    """The work under way, by key."""

    def __init__(self) -> None:
        self._flights: dict[Key, _Flight[Result]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._flights

    async def share(self, key: Key, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Join the flight of this key, or start it with `work`."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(self._fly(key, work)))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if flight.waiting == 0 and not flight.task.done():
                await self._abandon(key, flight)

    async def _fly(self, key: Key, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        me = asyncio.current_task()
        try:
            return await work()
        finally:
            flight = self._flights.get(key)
            if flight is not None and flight.task is me:
                del self._flights[key]

    async def _abandon(self, key: Key, flight: _Flight[Result]) -> None:
        # Nobody may join a flight that is going down, so it leaves the table first.
        if self._flights.get(key) is flight:
            del self._flights[key]
        flight.task.cancel()
        await asyncio.wait([flight.task])


class LatestResult(Generic[Result]):
    """Work without arguments whose result everybody wants, as new as their own question.

    While it runs, all that ask wait together for one more run.

    Args:
        work: the work.
    """

    def __init__(self, work: Callable[[], Awaitable[Result]]) -> None:
        self._work = work
        self._running = asyncio.Lock()
        self._next: asyncio.Task[Result] | None = None

    async def result(self) -> Result:
        """Return the result of a run that began after this call."""
        task = self._next
        if task is None:
            task = self._next = asyncio.create_task(self._run())
        return await asyncio.shield(task)

    async def _run(self) -> Result:
        async with self._running:
            # Who asks from here on may see what this run does not.
            self._next = None
            return await self._work()


async def gather(*work: Awaitable[Any], finishing: tuple[type[Exception], ...] = ()) -> None:
    """Wait for all of them; the first error cancels the rest, waits for their end and is raised as it is.

    Args:
        work: what is done at the same time.
        finishing: errors after which the rest still runs to its end, before the first of them is raised.
    """
    late: list[Exception] = []

    async def run(one: Awaitable[Any]) -> None:
        try:
            await one
        except finishing as error:
            late.append(error)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(one)) for one in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    if any(task.cancelled() for task in tasks):
        # The group takes work that was cancelled by itself for done, and it is not.
        raise asyncio.CancelledError
    if late:
        raise late[0]


async def each(items: Iterable[Item], work: Callable[[Item], Awaitable[Result]], *, at_once: int) -> list[Result]:
    """Do the work for every item, a bounded number at once; results in the items' order, errors as in `gather`."""
    gate = asyncio.Semaphore(at_once)
    wanted = list(items)
    results: dict[int, Result] = {}

    async def one(place: int, item: Item) -> None:
        async with gate:
            results[place] = await work(item)

    await gather(*(one(place, item) for place, item in enumerate(wanted)))
    return [results[place] for place in range(len(wanted))]
