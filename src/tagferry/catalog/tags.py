"""The tags of a repository with their images."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from tagferry.catalog.contents import BoundedReader
from tagferry.catalog.facts import Image
from tagferry.catalog.listings import listings_of
from tagferry.concurrency import bounded_gather
from tagferry.errors import NotFound, Unsupported
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.images import ImageStore, TagRecord

_AT_ONCE = 8
_WITHOUT_PAUSE = 500
"""Images that are described from memory before other requests get their turn; this takes some milliseconds."""

ChoosePage = Callable[[Sequence[TagRecord], Sequence[TagRecord] | None], Awaitable[Sequence[TagRecord]]]
"""Chooses the tags of a page from all tags by name, and the same by update if the store has them in this order."""


class ChosenTags(NamedTuple):
    """The tags of a page.

    Attributes:
        are_unchanged: whether the store knows that the manifests that the caller has named are unchanged.
    """

    records: Sequence[TagRecord]
    are_unchanged: bool = False


class TagDetails(NamedTuple):
    """A tag and its image.

    Attributes:
        digest: the digest that it points to.
        image: the image; None if it cannot be read.
        written: when the tag was written; None if the store does not know.
        text: the manifest, if it was requested and can be read; otherwise empty.
    """

    tag: Tag
    digest: Digest
    image: Image | None
    written: datetime | None
    text: str = ""

    @property
    def size(self) -> int:
        """Bytes of all distinct blobs of the image, over all its platforms, as far as they are known."""
        return self.image.size if self.image else 0

    @property
    def built(self) -> datetime | None:
        """When the image was built, by its config or the manifest's annotation; None if unknown or not plausible."""
        return self.image.built if self.image else None

    @property
    def created(self) -> datetime | None:
        """When it was built, or else written; None if neither is known."""
        return self.built or self.written

    @property
    def updated(self) -> datetime | None:
        """When it was written, or else built; None if neither is known."""
        return self.written or self.built


async def has_tags(store: ImageStore, name: RepositoryName) -> bool:
    """Return whether a repository has a tag; a registry may still list one whose images were deleted."""
    try:
        async for _ in store.list_tags(name):
            return True
    except NotFound:
        pass
    return False


async def choose_tags(
    store: ImageStore, name: RepositoryName, choose: ChoosePage, *, manifests: Sequence[Digest] = ()
) -> ChosenTags:
    """Choose tags for a page, from the remembered repository if the store knows that it is unchanged.

    Args:
        store: the store.
        name: the repository.
        choose: chooses the tags.
        manifests: manifests to look at, too, if that takes no request.

    Raises:
        NotFound: of the kind `repository`.
    """
    listings = listings_of(store)
    if listings is not None:
        listed = await listings.tags(name, manifests)
        chosen = await choose(listed.records, listed.by_update)
        if listed.is_confirmed or await listings.confirm(name, chosen):
            return ChosenTags(chosen, listed.are_unchanged)
    return ChosenTags(await choose(await store.describe_tags(name), None))


async def choose_by_name(
    store: ImageStore,
    name: RepositoryName,
    choose: Callable[[Sequence[Tag]], Sequence[Tag]],
    *,
    manifests: Sequence[Digest] = (),
) -> ChosenTags:
    """Choose tags for a page by their names alone, so that a registry over HTTP is asked only for those chosen.

    Args:
        store: the store.
        name: the repository.
        choose: chooses the tags.
        manifests: as in `choose_tags`.

    Raises:
        NotFound: of the kind `repository`.
    """
    if listings_of(store) is None:
        chosen = choose([tag async for tag in store.list_tags(name)])
        found = {record.tag: record for record in await store.describe_tags(name, only=chosen)}
        return ChosenTags([found[tag] for tag in chosen if tag in found])

    async def by_name(records: Sequence[TagRecord], _: object) -> Sequence[TagRecord]:
        found = {record.tag: record for record in records}
        return [found[tag] for tag in choose(list(found))]

    return await choose_tags(store, name, by_name, manifests=manifests)


async def describe_tags(
    store: ImageStore,
    name: RepositoryName,
    records: Sequence[TagRecord],
    *,
    reader: BoundedReader | None = None,
) -> list[TagDetails]:
    """Describe these tags; leave out those deleted meanwhile, or with unsupported manifests.

    Args:
        store: the store.
        name: the repository.
        records: the tags.
        reader: limits the reads; by default these tags have limits of their own.
    """
    reads = reader or BoundedReader(store)

    async def one(record: TagRecord) -> TagDetails | None:
        try:
            image = await reads.image(name, record.digest)
        except (NotFound, Unsupported):
            return None
        text = await reads.text(name, record.digest)
        return TagDetails(record.tag, record.digest, image, record.updated, text)

    async with reads.reading_ahead(name, [record.digest for record in records]) as has_all:
        found = (
            await _in_order(reads, name, records, one)
            if has_all
            else await bounded_gather(records, one, limit=_AT_ONCE)
        )
    reads.raise_if_all_failed()
    return [details for details in found if details is not None]


async def _in_order(
    reads: BoundedReader,
    name: RepositoryName,
    records: Sequence[TagRecord],
    describe: Callable[[TagRecord], Awaitable[TagDetails | None]],
) -> list[TagDetails | None]:
    """Describe tags that hardly need further reads, one after the other: a task for each would cost more."""
    found: list[TagDetails | None] = []
    for number, record in enumerate(records, start=1):
        if (known := reads.read_before(name, record.digest)) is not None:
            found.append(TagDetails(record.tag, record.digest, known[0], record.updated, known[1]))
        else:
            found.append(await describe(record))
        if number % _WITHOUT_PAUSE == 0:
            await asyncio.sleep(0)
    return found
