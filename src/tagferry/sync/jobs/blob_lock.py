"""A blob lock across all workers of one database: each blob is uploaded to a registry once at a time.

The worker that uploads a blob holds a named lock, which is released if the worker is lost. Waiting workers are notified
of the repository that has the blob, so that they mount it instead of uploading it again.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple, Self

from tagferry.coordination.locks import NamedLocks
from tagferry.coordination.pubsub import MessageBus, Topic, payload_of
from tagferry.copy.blob_lock import LockedBlob
from tagferry.names import Digest, RepositoryName


class CopiedBlob(NamedTuple):
    """A blob that was uploaded.

    Attributes:
        key: the key of its lock, which may contain spaces.
        repository: the repository that has it now.
    """

    key: str
    repository: RepositoryName

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read a message."""
        key, _, repository = text.rpartition(" ")
        return cls(key, RepositoryName(repository))

    def encode(self) -> str:
        """Write the message."""
        return f"{self.key} {self.repository}"


BLOB_COPIED = Topic("moved", encode=CopiedBlob.encode, decode=CopiedBlob.decode)
"""Blobs that were uploaded, for workers that wait for their locks."""

_LOOK_SECONDS = 0.5
"""Seconds between attempts to take the lock while waiting: its holder may have failed or been lost."""


class SharedBlobLock:
    """The `BlobLock` of `tagferry.copy.blob_lock` across all workers of one database.

    Args:
        bus: notifies waiting workers.
        locks: the named locks of this worker.
    """

    def __init__(self, bus: MessageBus, locks: NamedLocks) -> None:
        self._locks = locks
        self._held: set[str] = set()
        self._waiting: dict[str, set[asyncio.Future[RepositoryName | None]]] = defaultdict(set)
        bus.subscribe(BLOB_COPIED, self._on_copied)

    @asynccontextmanager
    async def acquire(self, address: str, repository: RepositoryName, digest: Digest) -> AsyncIterator[LockedBlob]:
        """See `BlobLock.acquire`."""
        key = f"{address} {digest}"
        locked = LockedBlob()
        while not await self._try(key):
            if self._locks.lost.is_set():
                # Without the database the lock is unknown, and this worker is about to stop anyway.
                break
            locked.copied_to = await self._wait_for_copy(key) or locked.copied_to
        try:
            yield locked
        finally:
            await asyncio.shield(self._release(key, repository if locked.is_copied else None))

    async def _try(self, key: str) -> bool:
        """Try to take the lock; if the caller is cancelled meanwhile, release it."""
        if key in self._held:
            # The database would grant the lock to the same session twice.
            return False
        self._held.add(key)
        trying = asyncio.ensure_future(self._locks.try_lock(key))
        got = False
        try:
            got = await asyncio.shield(trying)
        except asyncio.CancelledError:
            if await trying:
                await self._locks.unlock(key)
            raise
        finally:
            if not got:
                self._held.discard(key)
        return got

    async def _wait_for_copy(self, key: str) -> RepositoryName | None:
        copied: asyncio.Future[RepositoryName | None] = asyncio.get_running_loop().create_future()
        self._waiting[key].add(copied)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    return await copied
            return None
        finally:
            self._waiting[key].discard(copied)
            if not self._waiting[key]:
                del self._waiting[key]

    async def _release(self, key: str, repository: RepositoryName | None) -> None:
        notification = None if repository is None else payload_of(BLOB_COPIED, CopiedBlob(key, repository))
        await self._locks.unlock(key, notify=notification)
        self._held.discard(key)
        # The notice may have reached waiters of this process before the lock was free, so they could not take it.
        self._end_waits(key, repository)

    def _on_copied(self, blobs: Sequence[CopiedBlob]) -> None:
        for blob in blobs:
            self._end_waits(blob.key, blob.repository)

    def _end_waits(self, key: str, copied_to: RepositoryName | None) -> None:
        for waiting in self._waiting.get(key, ()):
            if not waiting.done():
                waiting.set_result(copied_to)
