"""Named locks that one worker at a time can hold."""

import asyncio
from typing import Protocol


class NamedLocks(Protocol):
    """Locks of this worker, by name; they are released if the worker is lost."""

    @property
    def lost(self) -> asyncio.Event:
        """Set once this worker may have lost its locks."""
        ...

    async def try_lock(self, name: str) -> bool:
        """Take a lock; returns False if another worker holds it, or may hold it."""
        ...

    async def unlock(self, name: str, *, notify: str | None = None) -> None:
        """Release a lock, and send a payload (see `payload_of`) to all workers; the message may be lost."""
        ...
