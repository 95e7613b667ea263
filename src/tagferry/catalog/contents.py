"""The sizes, dates and manifests of images in lists, read within limits.

Any reader may request a list, and any user who may push provides its images. So one request reads a bounded number of
manifests and bytes, and counts a bounded part of one image. An image that cannot be read, or not within the limits, is
listed with its remaining fields.
"""

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from weakref import WeakKeyDictionary

from tagferry import bounds
from tagferry.catalog.facts import Child, ConfigFacts, Facts, FactsMemory, Image
from tagferry.catalog.listings import listings_of
from tagferry.catalog.read_ahead import Budget, ReadAhead, read_ahead
from tagferry.concurrency import SingleFlight
from tagferry.errors import Corrupt, Invalid, NotFound, TagferryError, Unsupported
from tagferry.events import SparseEvents
from tagferry.metrics import BOUND_REACHED
from tagferry.names import Digest, RepositoryName
from tagferry.oci.images import ImageStore, high_latency
from tagferry.oci.model import Descriptor

_LOW_LATENCY_READS = 4
_HIGH_LATENCY_READS = 8
"""Manifests that all lists of one store read at once; each may take many times its size in memory."""
_FAILURES = 3
"""Failed reads after which the request for a list fails."""
_UNREADABLE = (Invalid, Corrupt, Unsupported, OSError)
_LOCAL = "local"
"""The scope of content read from files, whose existence is checked separately."""

log = SparseEvents(__name__)
_serial = count()


class _Reading:
    """State that all lists of one store share: the limit of concurrent reads, and the reads in progress."""

    def __init__(self, *, limit: int) -> None:
        self.slots = asyncio.Semaphore(limit)
        self.reads: SingleFlight[tuple[Hashable, Digest], Facts | None] = SingleFlight()
        self.number = next(_serial)


_reading: WeakKeyDictionary[ImageStore, _Reading] = WeakKeyDictionary()


class BoundedReader:
    """The reads of one request for a list.

    Args:
        store: the store.
        with_texts: whether to return the manifests themselves.
    """

    def __init__(self, store: ImageStore, *, with_texts: bool = False) -> None:
        self.store = store
        if store not in _reading:
            _reading[store] = _Reading(limit=_HIGH_LATENCY_READS if high_latency(store) else _LOW_LATENCY_READS)
        self._reading = _reading[store]
        self._listings = listings_of(store)
        self._ahead: dict[RepositoryName, ReadAhead] = {}
        self._budget = Budget(
            manifests=bounds.LIST_REQUEST_MANIFESTS,
            bytes=bounds.LIST_REQUEST_BYTES,
            text_bytes=bounds.LISTED_TEXT_BYTES if with_texts else 0,
        )
        self._tags = bounds.LIST_REQUEST_TAGS
        self._failures: list[TagferryError] = []
        self._has_succeeded = False
        self._is_cut = False
        self._has_unread_config = False
        self._has_other_sources = False
        self._read_ahead: Sequence[Digest] = ()

    @property
    def scope(self) -> int:
        """The number of the store in this process."""
        return self._reading.number

    @property
    def is_complete(self) -> bool:
        """True if no limit was reached, and every config was read."""
        return not (self._is_cut or self._has_unread_config)

    @property
    def has_skipped(self) -> bool:
        """True if a limit was reached, or a read failed for a reason that does not concern its content."""
        return self._is_cut or bool(self._failures)

    @property
    def sources(self) -> Sequence[Digest]:
        """The manifests that alone determine what was read of one repository; none if there may be others.

        There are others if an image could not be read, or not within the limits, or not ahead.
        """
        return self._read_ahead if self.is_complete and not self._has_other_sources else ()

    @asynccontextmanager
    async def reading_ahead(self, name: RepositoryName, digests: Sequence[Digest]) -> AsyncIterator[bool]:
        """Read these images at once if the store is on a local disk; returns whether they need no further reads."""
        if self._listings is not None:
            memory, slots = self._memory(name), self._reading.slots
            ahead = await read_ahead(self._listings, memory, self._budget, slots, name, digests)
            self._ahead[name], self._read_ahead = ahead, ahead.manifests
        try:
            yield self._listings is not None
        finally:
            self._ahead.pop(name, None)

    def count_tags(self, tags: int) -> bool:
        """Count tags whose digests were read; return False once there are too many for one request."""
        self._tags -= tags
        if self._tags < 0:
            self._reached("LIST_REQUEST_TAGS")
        return self._tags >= 0

    async def image(self, name: RepositoryName, digest: Digest) -> Image | None:
        """Describe an image; None if it cannot be read, or not within this request's limits.

        Raises:
            NotFound, Unsupported: as `ImageStore.get_manifest`.
            TagferryError: the registry failed too often.
        """
        if (ahead := self._ahead.get(name)) is not None and (remembered := ahead.images.get(digest)) is not None:
            self._has_succeeded = True
            return remembered
        try:
            root = await self._facts(name, digest)
            if root is None:
                return None
            if not root.children and (known := self._memory(name).image(digest)) is not None:
                return known
            parts, unreadable = await self._below(name, digest, root)
        except (NotFound, Unsupported):
            raise
        except (TagferryError, OSError) as error:
            self._tolerate(name, digest, error)
            return None
        config = next((one.config for one in parts.values() if one.config), None)
        about = await self._config(name, config) if config else ConfigFacts()
        own = (about.platform,) if about.platform and not root.is_index else ()
        blobs = {blob: size for one in parts.values() for blob, size in one.blobs}
        blobs |= {one.digest: one.size for one in unreadable if not one.is_known}
        image = Image(
            digest=digest,
            is_index=root.is_index,
            config=root.config.digest if root.config else None,
            blobs=blobs,
            size=sum(blobs.values()),
            built=about.built or root.annotated,
            is_referrer=root.is_referrer,
            platforms=root.platforms or own,
        )
        if not root.children and (config is None or self._memory(name).config(config.digest) is not None):
            self._memory(name).keep_image(image)
        return image

    async def manifests(self, name: RepositoryName, digest: Digest) -> frozenset[Digest] | None:
        """Return the digests of a manifest and all manifests below it; None if that exceeds the limits.

        An unreadable manifest counts as listing nothing.
        """
        root = await self._child(name, Child(digest, 0, is_known=True))
        if root is None:
            return None if self._is_cut else frozenset([digest])
        found, _ = await self._below(name, digest, root)
        listed = {child.digest for facts in found.values() for child in facts.children}
        return None if self._is_cut else frozenset({digest, *listed})

    async def text(self, name: RepositoryName, digest: Digest) -> str:
        """Return a manifest as it was pushed; empty if it cannot be read, or if the limit is reached."""
        if self._budget.text_bytes <= 0:
            return ""
        ahead = self._ahead.get(name)
        text = ahead.texts.get(digest) if ahead is not None else None
        if text is None:
            self._has_other_sources = True
            try:
                async with self._reading.slots:
                    manifest = await self.store.get_manifest(name, digest)
            except (TagferryError, OSError):
                return ""
            text = manifest.raw.decode("utf-8", "replace")
        return self._within_limit(text)

    def read_before(self, name: RepositoryName, digest: Digest) -> tuple[Image, str] | None:
        """Return an image and its text, as `image` and `text` do, if both were read ahead; otherwise None."""
        ahead = self._ahead.get(name)
        image = ahead.images.get(digest) if ahead is not None else None
        if ahead is None or image is None:
            return None
        text = ahead.texts.get(digest) if self._budget.text_bytes > 0 else ""
        if text is None:
            return None
        self._has_succeeded = True
        return image, self._within_limit(text) if text else ""

    def _within_limit(self, text: str) -> str:
        """Count a text of the answer; return it, or an empty one if the limit is exceeded."""
        self._budget.text_bytes -= len(text)
        if self._budget.text_bytes < 0:
            self._reached("LISTED_TEXT_BYTES")
            return ""
        return text

    def raise_if_all_failed(self) -> None:
        """Raise the first error if no manifest was read at all."""
        if self._failures and not self._has_succeeded:
            raise self._failures[0]

    async def _facts(self, name: RepositoryName, digest: Digest) -> Facts | None:
        """Return the facts of a manifest; None if this request has reached its limit."""
        if (ahead := self._ahead.get(name)) is not None and (found := ahead.facts.get(digest)) is not None:
            if not isinstance(found, Facts):
                self._has_other_sources = True
                raise found
            self._has_succeeded = True
            return found
        self._has_other_sources = True
        if self._listings is None and (known := self._memory(name).facts(digest)):
            self._has_succeeded = True
            return known
        facts = await self._reading.reads.run((self._scope(name), digest), lambda: self._read(name, digest))
        if facts is None and self._budget.manifests > 0 and self._budget.bytes > 0:
            # The shared read belonged to another request, which had reached its limit.
            facts = await self._read(name, digest)
        self._has_succeeded |= facts is not None
        return facts

    async def _read(self, name: RepositoryName, digest: Digest) -> Facts | None:
        async with self._reading.slots:
            if not self._may_read():
                return None
            self._budget.manifests -= 1
            manifest = await self.store.get_manifest(name, digest)
            self._budget.bytes -= manifest.size
            facts = Facts.of(manifest)
        self._memory(name).keep_facts(digest, facts)
        return facts

    def _memory(self, name: RepositoryName) -> FactsMemory:
        return FactsMemory(_LOCAL if self._listings is not None else self._scope(name))

    def _scope(self, name: RepositoryName) -> Hashable:
        """Return what the store's answers for a digest may depend on."""
        return self._reading.number, self.store.identity, name

    async def _below(
        self, name: RepositoryName, digest: Digest, root: Facts
    ) -> tuple[dict[Digest, Facts], list[Child]]:
        """Return an image's manifests over all its levels, and its children that cannot be read."""
        found: dict[Digest, Facts] = {digest: root}
        unreadable: list[Child] = []
        level = [root]
        left = bounds.LISTED_IMAGE_DESCRIPTORS - root.weight
        for _ in range(bounds.INDEX_DEPTH):
            children = {child.digest: child for one in level for child in one.children if child.digest not in found}
            level = []
            for child in children.values():
                if left < 0 or len(found) >= bounds.IMAGE_MANIFESTS:
                    self._reached("LISTED_IMAGE_DESCRIPTORS" if left < 0 else "IMAGE_MANIFESTS")
                    return found, unreadable
                facts = await self._child(name, child)
                if facts is None:
                    unreadable.append(child)
                    continue
                found[child.digest] = facts
                level.append(facts)
                left -= facts.weight
            if not level:
                return found, unreadable
        self._reached("INDEX_DEPTH")
        return found, unreadable

    async def _child(self, name: RepositoryName, child: Child) -> Facts | None:
        try:
            return await self._facts(name, child.digest)
        except (NotFound, *_UNREADABLE):
            # A child without a manifest type may be a blob, for which stores raise various errors.
            return None

    async def _config(self, name: RepositoryName, config: Descriptor) -> ConfigFacts:
        """Return what is known of a config, nothing if it cannot be read."""
        memory = self._memory(name)
        if (known := memory.config(config.digest)) is not None:
            return known
        if config.size > bounds.CONFIG_BYTES:
            return ConfigFacts()
        try:
            async with self._reading.slots:
                if not self._may_read():
                    return ConfigFacts()
                self._budget.bytes -= config.size
                async with self.store.read_blob(name, config) as chunks:
                    raw = b"".join([chunk async for chunk in chunks])
        except (TagferryError, OSError):
            self._has_unread_config = True
            return ConfigFacts()
        is_large = len(raw) > bounds.PARSED_AT_ONCE_BYTES
        facts = await asyncio.to_thread(ConfigFacts.of, raw) if is_large else ConfigFacts.of(raw)
        memory.keep_config(config.digest, facts)
        return facts

    def _may_read(self) -> bool:
        may = self._budget.manifests > 0 and self._budget.bytes > 0
        if not may:
            self._reached("LIST_REQUEST_MANIFESTS" if self._budget.bytes > 0 else "LIST_REQUEST_BYTES")
        return may

    def _reached(self, bound: str) -> None:
        self._is_cut = True
        BOUND_REACHED.labels(bound=bound).inc()
        log.warning("listed a repository incompletely", store=self.store.name, bound=bound)

    def _tolerate(self, name: RepositoryName, digest: Digest, error: TagferryError | OSError) -> None:
        """Log an unreadable item, which is listed without its manifest; raise errors that do not concern it alone."""
        if isinstance(error, _UNREADABLE):
            where = f"{name}@{digest}"
            log.warning("could not read a listed manifest", store=self.store.name, manifest=where, reason=str(error))
            return
        self._failures.append(error)
        if len(self._failures) > _FAILURES:
            raise error


def distinct_blobs(images: Iterable[Image | None]) -> dict[Digest, int]:
    """Return the distinct blobs of images with their sizes."""
    return {digest: size for image in images if image is not None for digest, size in image.blobs.items()}
