"""Run the work of several callers together in one thread."""

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from tagferry.registry.storage.threads import DiskThreads, end_future, translated

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")

_RUNS = 2
"""The runs of a key at the same time: one can compute while the other waits for the disk."""
_ITEMS = 16
"""The most items of a run, which limits how long it holds locks."""

_Waiting = list[tuple[Item, asyncio.Future[None]]]
_Errors = Sequence[Exception | None]


class GatheredWork(Generic[Key, Item]):
    """Work that costs less if it is done for several callers at once.

    What is requested for a key in one turn of the event loop is done by one run. What is requested while two runs of
    the key are in progress waits for the next run, which does all of it.

    Args:
        threads: the threads that run it.
        work: does it for some items of a key, and returns the error of each.
    """

    def __init__(self, threads: DiskThreads, work: Callable[[Key, Sequence[Item]], _Errors]) -> None:
        self._threads = threads
        self._work = work
        self._waiting: dict[Key, _Waiting[Item]] = {}
        self._running: Counter[Key] = Counter()

    async def run(self, key: Key, item: Item) -> None:
        """Do the work for an item, perhaps together with others, which a cancelled caller does not affect.

        Raises:
            DiskUnavailable: the disk is full, read-only or failing.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        waiting = self._waiting.setdefault(key, [])
        waiting.append((item, future))
        if len(waiting) == 1:
            loop.call_soon(self._start, key)
        with translated():
            await future

    def _start(self, key: Key) -> None:
        if key not in self._waiting or self._running[key] >= _RUNS:
            return
        waiting = [one for one in self._waiting.pop(key) if not one[1].done()]
        if len(waiting) > _ITEMS:
            self._waiting[key] = waiting[_ITEMS:]
            del waiting[_ITEMS:]
        if not waiting:
            return

        def end(run: asyncio.Future[_Errors]) -> None:
            self._running[key] -= 1
            error = run.exception()
            _end(waiting, [error] * len(waiting) if error is not None else run.result())
            self._start(key)
            if not self._running[key]:
                del self._running[key]

        try:
            run = self._threads.submit(self._run, key, [item for item, _ in waiting])
        except RuntimeError as error:
            # The threads have ended.
            waiting += self._waiting.pop(key, [])
            _end(waiting, [error] * len(waiting))
            return
        self._running[key] += 1
        run.add_done_callback(end)

    def _run(self, key: Key, items: Sequence[Item]) -> _Errors:
        errors = self._work(key, items)
        for error in errors:
            if isinstance(error, OSError):
                self._threads.report(error)
        return errors


def _end(waiting: _Waiting[Item], errors: Sequence[BaseException | None]) -> None:
    for (_, future), error in zip(waiting, errors, strict=True):
        end_future(future, None, error)
