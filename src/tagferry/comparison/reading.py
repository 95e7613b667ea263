"""Read the tags and digests of one repository within a bounded time, for comparisons.

A registry that fails, or does not answer in time, makes what it was asked for unknown; it does not fail the comparison.
"""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from tagferry.catalog.listings import listings_of
from tagferry.concurrency import bounded_gather
from tagferry.errors import NotFound, TagferryError
from tagferry.names import Digest, Reference, RepositoryRef, Tag
from tagferry.oci.images import ImageStore, TagRecord

_AT_ONCE = 8
"""Requests that a comparison makes at once to one repository."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A question that a registry did not answer, with the reason for users."""

    reason: str


Content = Digest | None | Unknown
"""The digest that a tag points to; None if the tag does not exist."""


class RepositoryReader:
    """The tags of one repository.

    Args:
        reference: the repository.
        store: the store of its region.
        seconds: how long `list_tags` may take, and then all calls of `contents` together.
    """

    def __init__(self, reference: RepositoryRef, store: ImageStore, *, seconds: float) -> None:
        self.reference = reference
        self._store = store
        self._listings = listings_of(store)
        self._seconds = seconds
        self._records: Mapping[Tag, TagRecord] = {}
        self._is_confirmed = False
        self._until: float | None = None
        self.tags: Collection[Tag] = frozenset()
        self.exists = True
        self.failure: Unknown | None = None

    @property
    def is_local(self) -> bool:
        """True if digests cost no requests."""
        return self._listings is not None

    async def list_tags(self) -> None:
        """List the tags; sets `tags`, and `exists` or `failure`."""
        try:
            async with asyncio.timeout(self._seconds):
                await self._list()
        except NotFound:
            self.exists = False
        except TimeoutError:
            self.failure = self._silent()
        except (TagferryError, OSError) as error:
            self.failure = _unknown(error)

    async def contents(self, tags: Collection[Tag]) -> dict[Tag, Content]:
        """Return what these tags point to. Only tags that were listed are looked up."""
        if self.failure is not None:
            return dict.fromkeys(tags, self.failure)
        found: dict[Tag, Content] = {tag: None for tag in tags if tag not in self.tags}
        listed = [tag for tag in tags if tag in self.tags]
        if not listed:
            return found
        if self._listings is not None:
            return found | await self._local(listed)
        return found | await self._remote(listed)

    async def holds(self, digest: Digest) -> bool | Unknown:
        """Return whether the repository has this manifest."""
        try:
            async with asyncio.timeout(self._seconds):
                found = await self._head(digest)
        except TimeoutError:
            return self._silent()
        return found if isinstance(found, Unknown) else found is not None

    async def _list(self) -> None:
        name = self.reference.name
        if self._listings is None:
            self.tags = frozenset([tag async for tag in self._store.list_tags(name)])
            return
        listed = await self._listings.tags(name)
        self._records = {record.tag: record for record in listed.records}
        self._is_confirmed = listed.is_confirmed
        self.tags = self._records.keys()

    async def _local(self, tags: list[Tag]) -> dict[Tag, Content]:
        name, records = self.reference.name, [self._records[tag] for tag in tags]
        try:
            if not (self._is_confirmed or (self._listings and await self._listings.confirm(name, records))):
                records = await self._store.describe_tags(name, only=tags)
        except (TagferryError, OSError) as error:
            return dict.fromkeys(tags, _unknown(error))
        return dict.fromkeys(tags) | {record.tag: record.digest for record in records}

    async def _remote(self, tags: list[Tag]) -> dict[Tag, Content]:
        found: dict[Tag, Content] = {}

        async def one(tag: Tag) -> None:
            found[tag] = await self._head(tag)

        if self._until is None:
            self._until = asyncio.get_running_loop().time() + self._seconds
        # What was answered by then is kept.
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._until):
                await bounded_gather(tags, one, limit=_AT_ONCE)
        return dict.fromkeys(tags, self._silent()) | found

    async def _head(self, reference: Reference) -> Content:
        try:
            found = await self._store.head_manifest(self.reference.name, reference, confirm_missing=True)
        except NotFound:
            return None
        except (TagferryError, OSError) as error:
            return _unknown(error)
        return None if found is None else found.digest

    def _silent(self) -> Unknown:
        return Unknown(f"registry {self._store.name} did not answer within {self._seconds:g} s")


def _unknown(error: TagferryError | OSError) -> Unknown:
    return Unknown(error.message if isinstance(error, TagferryError) else f"cannot read it: {error.strerror}")
