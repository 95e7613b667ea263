"""The workers of one database, and how a lost worker is detected.

A worker is lost when the operating system or the database server has freed its lock; clocks of different machines are
never compared.

On PostgreSQL a worker holds an advisory lock on a connection of its own. The server frees it when the process ends, or
after eleven seconds without a response when the machine or the network fails. A process that is suspended keeps it.

A worker that has lost its lock must stop, and another worker must not take over its jobs before it has stopped. So a
worker checks its connection every two seconds and stops six seconds after the last response; others wait for ten
seconds after they first saw the lock free. Each process measures its own time only.

With SQLite only one process at a time can work, which a lock on a file beside the database ensures.
"""

import asyncio
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession


class Membership(Protocol):
    """This process as one of the workers of a database."""

    @property
    def lost(self) -> asyncio.Event:
        """Set once this worker may have lost its lease; `join` creates a new event."""
        ...

    async def join(self) -> int:
        """Become a worker with a new id; raises Unavailable if that is impossible."""
        ...

    async def holds_lease(self) -> bool:
        """Return whether this worker certainly still holds its lease; may query the database. If not, sets `lost`."""
        ...

    async def lost_workers(self) -> list[int]:
        """Return the workers that are lost and have had time to stop their jobs."""
        ...

    async def fence(self, session: AsyncSession, worker_id: int) -> bool:
        """Return whether a worker is lost, and keep it from returning until the session's transaction ends."""
        ...

    async def leave(self) -> None:
        """Stop being a worker."""
        ...
