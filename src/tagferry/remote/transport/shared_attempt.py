"""An attempt that concurrent requests share.

Unlike in `concurrency.SingleFlight`, the work runs in the task of one request, under its deadline. Each waiting request
then decides whether it still needs work of its own.
"""

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tagferry.errors import TagferryError

T = TypeVar("T")


class SharedAttempt:
    """Lets one of several concurrent requests do some work; they share its failure.

    Each request raises its own copy of the error, because their attempts are counted separately. If the request that
    does the work is cancelled, the next one does it.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._failures = 0
        self._failure: TagferryError | None = None

    async def run(self, ready: Callable[[], T | None], work: Callable[[], Awaitable[T]]) -> T:
        """Return the current result if there is one; otherwise do the work, or wait for it."""
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
