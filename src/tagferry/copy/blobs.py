"""Brings blobs to targets, each once, by the cheapest way."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from tagferry.concurrency import SingleFlight
from tagferry.copy.bandwidth import BandwidthLimiter
from tagferry.copy.blob_lock import BlobLock
from tagferry.copy.held_content import HeldContent
from tagferry.copy.mount_sources import MountSources
from tagferry.copy.progress import Transfer
from tagferry.copy.route import Route
from tagferry.names import Digest, RepositoryName
from tagferry.oci.images import BlobOutcome
from tagferry.oci.model import Descriptor
from tagferry.streams import Piece, Spliceable

ContentKey = tuple[str, RepositoryName, Digest]
"""A target's content: the store's name, the repository and the digest."""


class BlobCopier:
    """The blobs on their way in this process, so that what tags share is moved once.

    Args:
        at_once: how many are moved at once between two stores, so that a silent one keeps no others waiting.
        known: what the targets are known to hold.
        homes: where the targets are known to have blobs.
        moves: lets one mover at a time bring a blob, where other processes do so too.
        paces: the rate that each store of this name keeps, in and out together.
        splice: whether large ones may go from one store to the other without being seen here.
    """

    def __init__(
        self,
        *,
        at_once: int,
        held_content: HeldContent,
        mount_sources: MountSources,
        blob_lock: BlobLock,
        bandwidth: Mapping[str, BandwidthLimiter],
        splice: bool,
    ) -> None:
        self._slots: dict[tuple[str, str], asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(at_once))
        self._held_content = held_content
        self._mount_sources = mount_sources
        self._blob_lock = blob_lock
        self._bandwidth = bandwidth
        self._splice = splice
        self._copies: SingleFlight[ContentKey, None] = SingleFlight()
        self._repairs: SingleFlight[ContentKey, None] = SingleFlight()
        self._transfers: WeakValueDictionary[ContentKey, Transfer] = WeakValueDictionary()

    def transfer(self, route: Route, blob: Descriptor) -> Transfer:
        """The blob's transfer, one for all the tags that are waiting for it now."""
        return self._transfers.setdefault(content_key(route, blob.digest), Transfer(size=blob.size))

    async def find_mount_sources(self, route: Route, blobs: Collection[Descriptor]) -> None:
        """Learn where the target has what is to be brought; no question where the source itself is there."""
        if route.within_one_store:
            return
        held = self._held_content.holds
        wanted = [blob.digest for blob in blobs if not held(route.target, route.target_repository, blob.digest)]
        await self._mount_sources.load(route.target, wanted)

    async def ensure(self, route: Route, blob: Descriptor, transfer: Transfer, *, force: bool) -> None:
        """Make the target hold a blob; with `anew` it is sent whatever the target says."""
        held = (route.target, route.target_repository, blob.digest)
        if not (self._held_content.is_verified(*held, blob.size) if force else self._held_content.holds(*held)):
            transfer.settled = False
            # Whoever only asks for a blob must not be joined by somebody who knows that the answer is wrong.
            calls = self._repairs if force else self._copies
            await calls.run(content_key(route, blob.digest), lambda: self._move(route, blob, transfer, force=force))
        transfer.settled = True

    async def _move(self, route: Route, blob: Descriptor, transfer: Transfer, *, force: bool) -> None:
        @asynccontextmanager
        async def source(offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
            transfer.moved = offset
            async with route.source.read_blob(route.source_repository, blob, offset=offset) as chunks:
                yield self._counted(self._limited(route, chunks), transfer)

        held = (route.target, route.target_repository, blob.digest, blob.size)
        async with self._blob_lock.acquire(route.target.name, route.target_repository, blob.digest) as locked:
            if locked.copied_to is not None:
                self._mount_sources.add(route.target, locked.copied_to, blob.digest)
                if locked.copied_to == route.target_repository and not force:
                    self._held_content.add(*held, verified=False)
                    return
            async with self._slots[route.source.name, route.target.name]:
                mount_from = None if force else await self._mount_from(route, blob)
                outcome = await route.target.write_blob(
                    route.target_repository, blob, source, mount_from=mount_from, force=force
                )
            locked.is_copied = True
        if mount_from is not None and outcome is BlobOutcome.UPLOADED:
            self._mount_sources.remove(route.target, mount_from, blob.digest)
        verified = outcome is BlobOutcome.UPLOADED
        self._held_content.add(*held, verified=verified)
        self._mount_sources.add(route.target, route.target_repository, blob.digest)

    async def _mount_from(self, route: Route, blob: Descriptor) -> RepositoryName | None:
        if route.within_one_store:
            return route.source_repository
        mount_from = self._mount_sources.find(route.target, route.target_repository, blob.digest)
        if mount_from is None or _owner(mount_from) == _owner(route.target_repository):
            return mount_from
        # A manifest that lists a blob which its own repository lacks must not get it from another organization.
        held = await route.source.stat_blob(route.source_repository, blob.digest)
        return mount_from if held is not None else None

    def _limited(self, route: Route, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        for store in (route.source, route.target):
            if limiter := self._bandwidth.get(store.name):
                chunks = limiter.limit(chunks)
        return chunks

    def _counted(self, chunks: AsyncIterator[bytes], transfer: Transfer) -> AsyncIterator[bytes]:
        if self._splice and isinstance(chunks, Spliceable):
            return Spliceable(_counted(chunks, transfer), lambda: _counted(chunks.pieces(), transfer))
        return _counted(chunks, transfer)


def content_key(route: Route, digest: Digest) -> ContentKey:
    """What some content is at a route's target."""
    return route.target.name, route.target_repository, digest


def _owner(repository: RepositoryName) -> str:
    return repository.partition("/")[0]


async def _counted(pieces: AsyncIterator[Piece], transfer: Transfer) -> AsyncIterator[Piece]:
    async for piece in pieces:
        if isinstance(piece, bytes):
            transfer.count(len(piece))
        else:
            piece.watch(transfer.count)
        yield piece
