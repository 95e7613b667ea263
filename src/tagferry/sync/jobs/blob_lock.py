"""A blob lock across all workers of one database: each blob is uploaded to a registry once at a time.

The worker that uploads a blob holds a named lock, which is released if the worker is lost. Waiting workers are notified
of the repository that has the blob, so that they mount it instead of uploading it again.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from tagferry.coordination.membership import Membership
from tagferry.coordination.pubsub import MessageBus
from tagferry.copy.blob_lock import LockedBlob
from tagferry.names import Digest, RepositoryName

BLOB_COPIED = "moved"
"""The topic of messages that a blob was uploaded: the key of its lock and the repository, separated by a space."""

_LOOK_SECONDS = 0.5
"""Seconds between attempts to take the lock while waiting: its holder may have failed or been lost."""


class SharedBlobLock:
    """The `BlobLock` of `tagferry.copy.blob_lock` across all workers of one database.

    Args:
        bus: notifies waiting workers.
        membership: holds the locks of this worker.
        addresses: the registry's address by store name, since workers may name the same registry differently.
    """

    def __init__(self, bus: MessageBus, membership: Membership, addresses: Mapping[str, str]) -> None:
        self._membership = membership
        self._addresses = addresses
        self._held: set[str] = set()
        self._waiting: dict[str, set[asyncio.Future[RepositoryName]]] = defaultdict(set)
        bus.subscribe(BLOB_COPIED, self._on_moved)

    @asynccontextmanager
    async def acquire(self, store: str, repository: RepositoryName, digest: Digest) -> AsyncIterator[LockedBlob]:
        """See `BlobLock.acquire`."""
        key = f"{self._addresses.get(store, store)} {digest}"
        locked = LockedBlob()
        while not await self._try(key):
            if self._membership.lost.is_set():
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
        trying = asyncio.ensure_future(self._membership.try_lock(key))
        got = False
        try:
            got = await asyncio.shield(trying)
        except asyncio.CancelledError:
            if await trying:
                await self._membership.unlock(key)
            raise
        finally:
            if not got:
                self._held.discard(key)
        return got

    async def _wait_for_copy(self, key: str) -> RepositoryName | None:
        copied: asyncio.Future[RepositoryName] = asyncio.get_running_loop().create_future()
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

    async def _release(self, key: str, home: RepositoryName | None) -> None:
        await self._membership.unlock(key, notify=(BLOB_COPIED, f"{key} {home}") if home is not None else None)
        self._held.discard(key)

    def _on_moved(self, payload: str) -> None:
        for message in filter(None, payload.split(",")):
            key, _, home = message.rpartition(" ")
            for copied in self._waiting.get(key, ()):
                if not copied.done():
                    copied.set_result(RepositoryName(home))
