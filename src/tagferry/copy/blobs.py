"""Copy each blob to its target once, by the cheapest method."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from tagferry import tracing
from tagferry.concurrency import SingleFlight
from tagferry.copy.bandwidth import BandwidthLimiter
from tagferry.copy.blob_lock import BlobLock
from tagferry.copy.held_content import HeldContent
from tagferry.copy.mount_sources import MountSources
from tagferry.copy.progress import Transfer
from tagferry.copy.route import Route, StoreKey, key_of
from tagferry.errors import WrongContent
from tagferry.metrics import BYTES
from tagferry.metrics.instruments import CounterSeries
from tagferry.names import Digest, RepositoryName
from tagferry.oci.images import BlobOutcome
from tagferry.oci.model import Descriptor
from tagferry.streams import Piece, Spliceable
from tagferry.tracing import Attributes

ContentKey = tuple[StoreKey, RepositoryName, Digest]
"""Content at a target: the store, the repository and the digest."""


class BlobCopier:
    """Copies the blobs of all tags of this process; a blob that several tags need is copied once.

    Args:
        limit: blobs copied at once between two stores; counted per pair, so that a stalled store does not block others.
        held_content: the content that the targets are known to hold.
        mount_sources: the repositories from which blobs can be mounted.
        blob_lock: keeps other processes from copying the same blob at the same time.
        bandwidth: the limit of each store by its name, for both directions together.
        splice: whether blobs may stay in the kernel on their path between the stores.
    """

    def __init__(
        self,
        *,
        limit: int,
        held_content: HeldContent,
        mount_sources: MountSources,
        blob_lock: BlobLock,
        bandwidth: Mapping[str, BandwidthLimiter],
        splice: bool,
    ) -> None:
        self._slots: dict[tuple[str, str], asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(limit))
        self._held_content = held_content
        self._mount_sources = mount_sources
        self._blob_lock = blob_lock
        self._bandwidth = bandwidth
        self._splice = splice
        self._copies: SingleFlight[ContentKey, None] = SingleFlight()
        self._repairs: SingleFlight[ContentKey, None] = SingleFlight()
        self._transfers: WeakValueDictionary[ContentKey, Transfer] = WeakValueDictionary()
        self._moved: dict[tuple[str, str], tuple[CounterSeries, CounterSeries]] = {}

    def transfer(self, route: Route, blob: Descriptor) -> Transfer:
        """Return the blob's transfer, which all tags that wait for it share."""
        return self._transfers.setdefault(content_key(route, blob.digest), Transfer(size=blob.size))

    async def find_mount_sources(self, route: Route, blobs: Collection[Descriptor]) -> None:
        """Look up the repositories from which the target can mount these blobs; within one store, it is the source."""
        if route.within_one_store:
            return
        held = self._held_content.holds
        wanted = [blob.digest for blob in blobs if not held(route.target, route.target_repository, blob.digest)]
        await self._mount_sources.load(route.target, wanted)

    async def ensure(self, route: Route, blob: Descriptor, transfer: Transfer, *, force: bool) -> None:
        """Make the target hold a blob; with `force`, send it even if the target reports that it exists."""
        attributes: Attributes = {"tagferry.digest": blob.digest, "tagferry.bytes": blob.size}
        with tracing.span("blob", attributes) as span:
            await self._ensure(route, blob, transfer, force=force)
            outcome, read = transfer.uncounted
            span.set({"tagferry.outcome": outcome.value, "tagferry.bytes_moved": read})

    async def _ensure(self, route: Route, blob: Descriptor, transfer: Transfer, *, force: bool) -> None:
        held = (route.target, route.target_repository, blob.digest)
        if not (self._held_content.is_verified(*held, blob.size) if force else self._held_content.holds(*held)):
            transfer.is_held = False
            # A repair must not join a copy that would trust the target's answer.
            calls = self._repairs if force else self._copies
            await calls.run(content_key(route, blob.digest), lambda: self._copy(route, blob, transfer, force=force))
        transfer.is_held = True

    async def _copy(self, route: Route, blob: Descriptor, transfer: Transfer, *, force: bool) -> None:
        @asynccontextmanager
        async def source(offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
            transfer.position = offset
            transfer.is_resumed = transfer.is_resumed or offset > 0
            async with route.source.read_blob(route.source_repository, blob, offset=offset) as chunks:
                yield self._counted(self._limited(route, chunks), self._counting(route, transfer))

        transfer.source = None
        held = (route.target, route.target_repository, blob.digest, blob.size)
        async with self._blob_lock.acquire(route.target.address, route.target_repository, blob.digest) as locked:
            if locked.copied_to is not None:
                self._mount_sources.add(route.target, locked.copied_to, blob.digest)
                if locked.copied_to == route.target_repository and not force:
                    self._held_content.add(*held, verified=False)
                    return
            async with self._slots[route.source.name, route.target.name]:
                mount_from = None if force else await self._mount_from(route, blob)
                try:
                    outcome = await route.target.write_blob(
                        route.target_repository, blob, source, mount_from=mount_from, force=force
                    )
                except WrongContent as error:
                    # Raised where the bytes arrive, which does not know where they come from.
                    message = (
                        f"{route.source.name} holds a blob that does not match its manifest: {error.message}; "
                        "build the image again, or replace it there with an intact copy"
                    )
                    raise WrongContent(message) from error
            locked.is_copied = True
        transfer.outcome = outcome
        if outcome is BlobOutcome.MOUNTED:
            transfer.source = mount_from
        if mount_from is not None and outcome is BlobOutcome.UPLOADED:
            self._mount_sources.remove(route.target, mount_from, blob.digest)
        verified = outcome is BlobOutcome.UPLOADED
        self._held_content.add(*held, verified=verified)
        self._mount_sources.add(route.target, route.target_repository, blob.digest)

    async def _mount_from(self, route: Route, blob: Descriptor) -> RepositoryName | None:
        if route.within_one_store:
            return route.source_repository
        mount_from = self._mount_sources.find(route.target, route.target_repository, blob.digest)
        if mount_from is None or mount_from.unchecked_namespace == route.target_repository.unchecked_namespace:
            return mount_from
        # A manifest that lists a blob its own repository lacks must not obtain it from another organization.
        held = await route.source.stat_blob(route.source_repository, blob.digest)
        return mount_from if held is not None else None

    def _limited(self, route: Route, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        for store in (route.source, route.target):
            if limiter := self._bandwidth.get(store.name):
                chunks = limiter.limit(chunks)
        return chunks

    def _counted(self, chunks: AsyncIterator[bytes], count: Callable[[int], None]) -> AsyncIterator[bytes]:
        if self._splice and isinstance(chunks, Spliceable):
            return Spliceable(_counted(chunks, count), lambda: _counted(chunks.pieces(), count))
        return _counted(chunks, count)

    def _counting(self, route: Route, transfer: Transfer) -> Callable[[int], None]:
        """Return a function that counts bytes for a blob's progress and for the metrics of both regions."""
        names = route.source.name, route.target.name
        if names not in self._moved:
            read = BYTES.labels(region=names[0], direction="read")
            self._moved[names] = read, BYTES.labels(region=names[1], direction="written")
        read, written = self._moved[names]

        def count(size: int) -> None:
            transfer.count(size)
            read.value += size
            written.value += size

        return count


def content_key(route: Route, digest: Digest) -> ContentKey:
    """Return the key of some content at a route's target."""
    return key_of(route.target), route.target_repository, digest


async def _counted(pieces: AsyncIterator[Piece], count: Callable[[int], None]) -> AsyncIterator[Piece]:
    async for piece in pieces:
        if isinstance(piece, bytes):
            count(len(piece))
        else:
            piece.watch(count)
        yield piece
