"""Repositories with the number and size of their images."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from tagferry.catalog.contents import BoundedReader, distinct_blobs
from tagferry.catalog.facts import MEMORY
from tagferry.catalog.listings import listings_of
from tagferry.catalog.tags import describe_tags, has_tags
from tagferry.concurrency import bounded_gather
from tagferry.errors import Corrupt, Invalid, NotFound, TagferryError
from tagferry.names import Namespace, RepositoryName, Tag
from tagferry.oci.images import ImageStore

if TYPE_CHECKING:
    from tagferry.registry.storage.tag_records import ContentState

_AT_ONCE = 4
_ASKED_AT_ONCE = 16
_STATES = 500
"""Repositories whose state one turn of a thread reads."""
_ENTRY_BYTES = 1000
_TAG_BYTES = 80

Unreadable = NotFound | Corrupt | Invalid | OSError
"""An error that concerns one repository alone."""


@dataclass(frozen=True, slots=True)
class RepositoryDetails:
    """A repository with all its tags.

    Attributes:
        size: bytes of all distinct blobs.
        created: the earliest date of its images, if one is known.
        updated: when the last tag was written or, if that is unknown, built.
        is_described: whether the images were looked at; otherwise the size and the first date are unknown.
    """

    name: RepositoryName
    tags: tuple[Tag, ...] = ()
    size: int = 0
    created: datetime | None = None
    updated: datetime | None = None
    is_described: bool = True


async def list_repositories(store: ImageStore, namespaces: Collection[Namespace] | None) -> list[RepositoryName]:
    """Return the store's repositories in these organizations, or in all, in lexical order.

    Raises:
        Unsupported: the store does not list its repositories.
    """
    if namespaces is not None and not namespaces:
        return []
    wanted = None if namespaces is None else frozenset(map(str, namespaces))
    listings = listings_of(store)
    if listings is not None:
        names = await listings.repositories()
    else:
        names = [name async for name in store.list_repositories()]
    parts = ((name, name.partition("/")) for name in names)
    return [name for name, (namespace, slash, _) in parts if slash and (wanted is None or namespace in wanted)]


async def repositories_with_tags(store: ImageStore, names: Sequence[RepositoryName]) -> set[RepositoryName]:
    """Return those of these repositories that have a tag, or cannot be asked."""
    listings = listings_of(store)
    if listings is not None:
        states = zip(names, await listings.states(names), strict=True)
        return {name for name, state in states if state is None or state.has_tags}

    async def has_some(name: RepositoryName) -> bool:
        try:
            return await has_tags(store, name)
        except TagferryError:
            return True

    found = await bounded_gather(names, has_some, limit=_ASKED_AT_ONCE)
    return {name for name, has in zip(names, found, strict=True) if has}


async def describe_repositories(
    store: ImageStore,
    names: Sequence[RepositoryName],
    reader: BoundedReader | None = None,
    *,
    largest: int | None = None,
) -> list[RepositoryDetails | Unreadable]:
    """Return repositories as `describe_repository` does, or the errors of those that cannot be read.

    A repository of an embedded registry is described from memory while nothing in it has changed.

    Args:
        store: the store.
        names: the repositories.
        reader: limits the reads.
        largest: the images of repositories with more tags are not looked at; None for no limit.
    """
    reader = reader or BoundedReader(store)
    listings = listings_of(store)
    found: dict[RepositoryName, RepositoryDetails | Unreadable] = {}
    states: dict[RepositoryName, ContentState | None] = {}
    if listings is not None:
        for start in range(0, len(names), _STATES):
            part = names[start : start + _STATES]
            states |= zip(part, await listings.states(part), strict=True)
        for name, state in states.items():
            if (details := _remembered(reader, name, state)) is not None:
                found[name] = details

    async def one(name: RepositoryName) -> None:
        try:
            found[name] = await _describe(store, name, reader, states.get(name), largest)
        except (NotFound, Corrupt, Invalid, OSError) as error:
            found[name] = error

    await bounded_gather([name for name in names if name not in found], one, limit=_AT_ONCE)
    return [found[name] for name in names]


async def describe_repository(
    store: ImageStore, name: RepositoryName, reader: BoundedReader | None = None, *, largest: int | None = None
) -> RepositoryDetails:
    """Return a repository's tags, size and dates; raises NotFound if it has no tag, even if the registry lists it.

    Damaged tags are left out.

    Args:
        store: the store.
        name: the repository.
        reader: limits the reads for a list of repositories.
        largest: the images of a repository with more tags are not looked at; None for no limit.
    """
    (found,) = await describe_repositories(store, [name], reader, largest=largest)
    if isinstance(found, RepositoryDetails):
        return found
    raise found


async def _describe(
    store: ImageStore,
    name: RepositoryName,
    reader: BoundedReader,
    state: "ContentState | None",
    largest: int | None,
) -> RepositoryDetails:
    records = await store.describe_tags(name)
    if not records and not await has_tags(store, name):
        raise NotFound("repository", name)
    tags = tuple(record.tag for record in records)
    if (largest is not None and len(tags) > largest) or not reader.count_tags(len(tags)):
        written = max((record.updated for record in records if record.updated), default=None)
        return RepositoryDetails(name=name, tags=tags, updated=written, is_described=False)
    details = await describe_tags(store, name, records, reader=reader)
    moments = [moment for detail in details for moment in (detail.built, detail.written) if moment]
    updates = [detail.updated for detail in details if detail.updated]
    described = RepositoryDetails(
        name=name,
        tags=tags,
        size=sum(distinct_blobs(detail.image for detail in details).values()),
        created=min(moments, default=None),
        updated=max(updates, default=None),
    )
    is_whole = len(details) == len(records) and all(detail.image is not None for detail in details)
    if state is not None and is_whole and reader.is_complete:
        _remember(reader, name, state, described)
    return described


def _remembered(reader: BoundedReader, name: RepositoryName, state: "ContentState | None") -> RepositoryDetails | None:
    """Return a repository as it was described in this state."""
    if state is None or state.fingerprint is None:
        return None
    fingerprint, details = MEMORY.get(("repository", reader.scope, name)) or (None, None)
    return details if fingerprint == state.fingerprint else None


def _remember(reader: BoundedReader, name: RepositoryName, state: "ContentState", details: RepositoryDetails) -> None:
    if state.fingerprint is not None:
        size = _ENTRY_BYTES + sum(_TAG_BYTES + len(tag) for tag in details.tags)
        MEMORY.keep(("repository", reader.scope, name), (state.fingerprint, details), size)
