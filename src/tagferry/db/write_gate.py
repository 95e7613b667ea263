"""One writer at a time on SQLite, in the order in which they asked.

SQLite itself lets a writer that finds another one sleep and try again, in no order, and refuses it after a while. It
still does so for other processes, such as commands of the CLI.
"""

import asyncio
from types import TracebackType

from tagferry.db.faults import DatabaseFault

WAIT_SECONDS = 60.0
"""The longest wait for the writers before: hundreds of times what a busy server needs."""


class WriteGate:
    """A fair lock for the writers of one process.

    Args:
        seconds: the longest wait.

    Raises:
        DatabaseUnavailable: the wait took too long.
        RuntimeError: the task holds the gate already, so it would wait for itself.
    """

    def __init__(self, *, seconds: float = WAIT_SECONDS) -> None:
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._holder: asyncio.Task[object] | None = None

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        if task is not None and task is self._holder:
            raise RuntimeError("a task must end its write before it begins another: it would wait for itself")
        try:
            async with asyncio.timeout(self._seconds):
                await self._lock.acquire()
        except TimeoutError:
            detail = f"a write waited {self._seconds:.0f} s for those before it; check the disk of the database"
            raise DatabaseFault("the database cannot be used", detail=detail) from None
        self._holder = task

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._holder = None
        self._lock.release()
