"""Work that several requests wait for at the same time."""

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tagferry.errors import TagferryError

T = TypeVar("T")


class Flight:
    """Has one of several requests do some work; a failure counts for all that waited for it meanwhile.

    Each of them gets an error of its own, because their attempts are counted apart. If the one that does the work is
    cancelled, the next one does it.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._failures = 0
        self._failure: TagferryError | None = None

    async def run(self, ready: Callable[[], T | None], work: Callable[[], Awaitable[T]]) -> T:
        """Return what is ready, else the result of the work; raises what the work raises."""
        failures = self._failures
        async with self._lock:
            if (found := ready()) is not None:
                return found
            if self._failures != failures and self._failure is not None:
                raise copy.copy(self._failure)
            try:
                return await work()
            except TagferryError as failure:
                self._failures += 1
                self._failure = copy.copy(failure)
                raise
