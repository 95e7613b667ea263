"""The sizes, dates and manifests of images in lists, read within limits and cached by digest.

Any reader may request a list, and any user who may push provides its images. So one request reads a bounded number of
manifests and bytes, and counts a bounded part of one image. An image that cannot be read, or not within the limits, is
listed with its remaining fields.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from weakref import WeakKeyDictionary

from tagferry import bounds
from tagferry.concurrency import SingleFlight
from tagferry.errors import Corrupt, Invalid, NotFound, TagferryError, Unsupported
from tagferry.events import SparseEvents
from tagferry.metrics import BOUND_REACHED
from tagferry.names import Digest, RepositoryName
from tagferry.oci.dates import parse_date
from tagferry.oci.images import ImageStore, high_latency
from tagferry.oci.model import Descriptor, Manifest
from tagferry.oci.strict_json import has_too_many_values

_LOW_LATENCY_READS = 4
_HIGH_LATENCY_READS = 8
"""Manifests that all lists of one store read at once; each may take many times its size in memory."""
_FAILURES = 3
"""Failed reads after which the request for a list fails."""
_CREATED = "org.opencontainers.image.created"
_UNREADABLE = (Invalid, Corrupt, Unsupported, OSError)

log = SparseEvents(__name__)


@dataclass(frozen=True, slots=True)
class Image:
    """An image in a list, or another artifact.

    Attributes:
        config: the config of an image manifest.
        blobs: the sizes of all distinct blobs, over all platforms.
        built: when it was built; None if unknown or not plausible.
        is_referrer: whether it refers to a subject.
    """

    digest: Digest
    is_index: bool
    config: Digest | None
    blobs: dict[Digest, int]
    built: datetime | None
    is_referrer: bool

    @property
    def size(self) -> int:
        """Bytes of every distinct blob."""
        return sum(self.blobs.values())


class _Child(NamedTuple):
    digest: Digest
    size: int
    is_known: bool


@dataclass(frozen=True, slots=True)
class _Facts:
    """The cached facts of one manifest."""

    is_index: bool
    is_referrer: bool
    config: Descriptor | None
    blobs: tuple[tuple[Digest, int], ...]
    children: tuple[_Child, ...]
    annotated: datetime | None

    @classmethod
    def of(cls, manifest: Manifest) -> "_Facts":
        config = None if manifest.is_index else manifest.config
        return cls(
            is_index=manifest.is_index,
            is_referrer=manifest.subject is not None,
            config=config and Descriptor(config.media_type, config.digest, config.size),
            blobs=tuple((blob.digest, blob.size) for blob in manifest.blobs),
            children=tuple(_Child(one.digest, one.size, one.is_known_manifest) for one in manifest.children),
            annotated=parse_date(manifest.annotations.get(_CREATED)),
        )

    @property
    def weight(self) -> int:
        return 1 + len(self.blobs) + len(self.children)


_Key = tuple[int, RepositoryName, Digest]


class _Cache:
    """A bounded cache of the reads from one store; the least recently used entry is evicted first."""

    def __init__(self, *, limit: int) -> None:
        self.reading = asyncio.Semaphore(limit)
        self.reads: SingleFlight[_Key, _Facts | None] = SingleFlight()
        self._kept: OrderedDict[_Key, _Facts | datetime | None] = OrderedDict()
        self._weight = 0

    def facts(self, key: _Key) -> _Facts | None:
        found = self._kept.get(key)
        return found if isinstance(found, _Facts) else None

    def date(self, key: _Key) -> tuple[datetime | None] | None:
        """Return a config's date in a tuple; None if it has not been read."""
        if key not in self._kept:
            return None
        found = self._kept[key]
        return None if isinstance(found, _Facts) else (found,)

    def keep(self, key: _Key, what: _Facts | datetime | None) -> None:
        self._forget(key)
        self._kept[key] = what
        self._weight += _weight(what)
        while self._weight > bounds.LISTED_DESCRIPTORS:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: _Key) -> None:
        if key in self._kept:
            self._weight -= _weight(self._kept.pop(key))


_cache: WeakKeyDictionary[ImageStore, _Cache] = WeakKeyDictionary()


class BoundedReader:
    """The reads of one request for a list.

    Args:
        store: the store.
        with_texts: whether to return the manifests themselves.
    """

    def __init__(self, store: ImageStore, *, with_texts: bool = False) -> None:
        self.store = store
        if store not in _cache:
            _cache[store] = _Cache(limit=_HIGH_LATENCY_READS if high_latency(store) else _LOW_LATENCY_READS)
        self._cache = _cache[store]
        self._manifests = bounds.QUESTION_MANIFESTS
        self._bytes = bounds.QUESTION_BYTES
        self._tags = bounds.QUESTION_TAGS
        self._failures: list[TagferryError] = []
        self._has_succeeded = False
        self._is_cut = False
        self._text_bytes = bounds.LISTED_TEXT_BYTES if with_texts else 0

    def count_tags(self, tags: int) -> bool:
        """Count tags whose digests were read; return False once there are too many for one request."""
        self._tags -= tags
        if self._tags < 0:
            self._reached("QUESTION_TAGS")
        return self._tags >= 0

    async def image(self, name: RepositoryName, digest: Digest) -> Image | None:
        """Describe an image; None if it cannot be read, or not within this request's limits.

        Raises:
            NotFound, Unsupported: as `ImageStore.get_manifest`.
            TagferryError: the registry failed too often.
        """
        try:
            root = await self._facts(name, digest)
            if root is None:
                return None
            parts, unreadable = await self._below(name, digest, root)
        except (NotFound, Unsupported):
            raise
        except (TagferryError, OSError) as error:
            self._tolerate(name, digest, error)
            return None
        config = next((one.config for one in parts.values() if one.config), None)
        built = await self._built(name, config) if config else None
        blobs = {blob: size for one in parts.values() for blob, size in one.blobs}
        blobs |= {one.digest: one.size for one in unreadable if not one.is_known}
        return Image(
            digest=digest,
            is_index=root.is_index,
            config=root.config.digest if root.config else None,
            blobs=blobs,
            built=built or root.annotated,
            is_referrer=root.is_referrer,
        )

    async def manifests(self, name: RepositoryName, digest: Digest) -> frozenset[Digest] | None:
        """Return the digests of a manifest and all manifests below it; None if that exceeds the limits.

        An unreadable manifest counts as listing nothing.
        """
        root = await self._child(name, _Child(digest, 0, is_known=True))
        if root is None:
            return None if self._is_cut else frozenset([digest])
        found, _ = await self._below(name, digest, root)
        listed = {child.digest for facts in found.values() for child in facts.children}
        return None if self._is_cut else frozenset({digest, *listed})

    async def text(self, name: RepositoryName, digest: Digest) -> str:
        """Return a manifest as it was pushed; empty if it cannot be read, or if the limit is reached."""
        if self._text_bytes <= 0:
            return ""
        try:
            async with self._cache.reading:
                manifest = await self.store.get_manifest(name, digest)
        except (TagferryError, OSError):
            return ""
        self._text_bytes -= manifest.size
        if self._text_bytes < 0:
            self._reached("LISTED_TEXT_BYTES")
            return ""
        return manifest.raw.decode("utf-8", "replace")

    def raise_if_all_failed(self) -> None:
        """Raise the first error if no manifest was read at all."""
        if self._failures and not self._has_succeeded:
            raise self._failures[0]

    async def _facts(self, name: RepositoryName, digest: Digest) -> _Facts | None:
        """Return the facts of a manifest; None if this request has reached its limit."""
        key = (self.store.identity, name, digest)
        if known := self._cache.facts(key):
            self._has_succeeded = True
            return known
        facts = await self._cache.reads.run(key, lambda: self._read(key))
        if facts is None and self._manifests > 0 and self._bytes > 0:
            # The shared read belonged to another request, which had reached its limit.
            facts = await self._read(key)
        self._has_succeeded |= facts is not None
        return facts

    async def _read(self, key: _Key) -> _Facts | None:
        _, name, digest = key
        async with self._cache.reading:
            if not self._may_read():
                return None
            self._manifests -= 1
            manifest = await self.store.get_manifest(name, digest)
            self._bytes -= manifest.size
            facts = _Facts.of(manifest)
        self._cache.keep(key, facts)
        return facts

    async def _below(
        self, name: RepositoryName, digest: Digest, root: _Facts
    ) -> tuple[dict[Digest, _Facts], list[_Child]]:
        """Return an image's manifests over all its levels, and its children that cannot be read."""
        found: dict[Digest, _Facts] = {digest: root}
        unreadable: list[_Child] = []
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

    async def _child(self, name: RepositoryName, child: _Child) -> _Facts | None:
        try:
            return await self._facts(name, child.digest)
        except (NotFound, *_UNREADABLE):
            # A child without a manifest type may be a blob, for which stores raise various errors.
            return None

    async def _built(self, name: RepositoryName, config: Descriptor) -> datetime | None:
        key = (self.store.identity, name, config.digest)
        if (known := self._cache.date(key)) is not None:
            return known[0]
        if config.size > bounds.CONFIG_BYTES:
            return None
        try:
            async with self._cache.reading:
                if not self._may_read():
                    return None
                self._bytes -= config.size
                async with self.store.read_blob(name, config) as chunks:
                    raw = b"".join([chunk async for chunk in chunks])
        except (TagferryError, OSError):
            return None
        built = await asyncio.to_thread(_created, raw) if len(raw) > bounds.PARSED_AT_ONCE_BYTES else _created(raw)
        self._cache.keep(key, built)
        return built

    def _may_read(self) -> bool:
        may = self._manifests > 0 and self._bytes > 0
        if not may:
            self._reached("QUESTION_MANIFESTS" if self._bytes > 0 else "QUESTION_BYTES")
        return may

    def _reached(self, bound: str) -> None:
        self._is_cut = True
        BOUND_REACHED.labels(bound=bound).inc()
        log.warning("list.incomplete", store=self.store.name, bound=bound)

    def _tolerate(self, name: RepositoryName, digest: Digest, error: TagferryError | OSError) -> None:
        """Log an unreadable item, which is listed without its manifest; raise errors that do not concern it alone."""
        if isinstance(error, _UNREADABLE):
            where = f"{name}@{digest}"
            log.warning("list.manifest.unreadable", store=self.store.name, manifest=where, reason=str(error))
            return
        self._failures.append(error)
        if len(self._failures) > _FAILURES:
            raise error


def _weight(what: _Facts | datetime | None) -> int:
    return what.weight if isinstance(what, _Facts) else 1


def _created(raw: bytes) -> datetime | None:
    if has_too_many_values(raw):
        return None
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return parse_date(document.get("created")) if isinstance(document, dict) else None


def distinct_blobs(images: Iterable[Image | None]) -> dict[Digest, int]:
    """Return the distinct blobs of images with their sizes."""
    return {digest: size for image in images if image is not None for digest, size in image.blobs.items()}
