"""One mover for each blob and registry, among all workers on one database.

A lock with the blob's name is held by whoever brings it; it goes with its worker. Those who wait are told when it is
there, and where, so that they mount it instead of sending it again.
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
"""The topic of messages that a blob is there: the key of its lock and the repository, with a space between."""

_LOOK_SECONDS = 0.5
"""How often one who waits tries the lock by itself: its holder may have failed, or be gone."""


class SharedBlobLock:
    """The `BlobLock` of `tagferry.copy.blob_lock`, among all workers on one database.

    Args:
        bus: how they are told.
        membership: this process as a worker; it holds the locks.
        addresses: each store's registry by the store's name, since workers may call it differently.
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
                # Without the database nobody can tell; this worker is about to stop anyway.
                break
            locked.copied_to = await self._told(key) or locked.copied_to
        try:
            yield locked
        finally:
            await asyncio.shield(self._end(key, repository if locked.is_copied else None))

    async def _try(self, key: str) -> bool:
        """Try the lock; whoever is cancelled meanwhile does not keep it."""
        if key in self._held:
            # The database would let the same worker have it twice.
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

    async def _told(self, key: str) -> RepositoryName | None:
        told: asyncio.Future[RepositoryName] = asyncio.get_running_loop().create_future()
        self._waiting[key].add(told)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    return await told
            return None
        finally:
            self._waiting[key].discard(told)
            if not self._waiting[key]:
                del self._waiting[key]

    async def _end(self, key: str, home: RepositoryName | None) -> None:
        await self._membership.unlock(key, notify=(BLOB_COPIED, f"{key} {home}") if home is not None else None)
        self._held.discard(key)

    def _on_moved(self, payload: str) -> None:
        for message in filter(None, payload.split(",")):
            key, _, home = message.rpartition(" ")
            for told in self._waiting.get(key, ()):
                if not told.done():
                    told.set_result(RepositoryName(home))
