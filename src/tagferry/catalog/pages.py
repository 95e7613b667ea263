"""Pages of a repository's tags, ordered by name or by their last update."""

import asyncio
import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, NamedTuple

from tagferry.catalog.tags import choose_by_name, choose_tags, describe_tags
from tagferry.errors import NotFound
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.images import ImageStore, TagRecord

_INLINE = 1000
"""The maximum number of tags that are ordered on the event loop, which takes some milliseconds."""
_EPOCH = datetime.fromtimestamp(0, UTC)
_UPDATED_AND_NAME = itemgetter(2, 0)

Place = tuple[datetime | None, str]
"""A position in a list: the last update of a tag, if it is known, and its name."""


@dataclass(frozen=True, slots=True)
class TagQuery:
    """The tags of a list and their order.

    Attributes:
        part: a part of their names.
        by_name: whether they are ordered by name, and not by update and name.
        after: only tags after this one.
    """

    part: str
    by_name: bool
    descending: bool
    after: Place | None = None


class FoundTags(NamedTuple):
    """A page of tags.

    Attributes:
        total: the number of tags in the list.
        has_more: whether there are tags after the page.
        last: the position of the page's last tag.
        are_unchanged: whether the store knows that the manifests that the caller has named are unchanged.
    """

    records: Sequence[TagRecord] = ()
    total: int = 0
    has_more: bool = False
    last: Place | None = None
    are_unchanged: bool = False


def known_date(moment: datetime | None) -> datetime | None:
    """Return a date; None if it is the start of 1970, which lists show for an unknown date."""
    return None if moment == _EPOCH else moment


async def find_tags(
    store: ImageStore,
    name: RepositoryName,
    query: TagQuery,
    *,
    limit: int,
    offset: int = 0,
    manifests: Sequence[Digest] = (),
) -> FoundTags:
    """Return a page of a repository's tags. Only these are looked up, if the order allows.

    Args:
        store: the store.
        name: the repository.
        query: the tags and their order.
        limit: the maximum number of tags on the page.
        offset: tags to skip.
        manifests: manifests to look at, too, if that takes no request.

    Raises:
        NotFound: the repository does not exist, or has no readable tag.
    """
    return await (_by_name if query.by_name else _by_update)(store, name, query, limit, offset, manifests)


async def _by_name(
    store: ImageStore, name: RepositoryName, query: TagQuery, limit: int, offset: int, manifests: Sequence[Digest]
) -> FoundTags:
    found: list[Tag] = []

    def choose(tags: Sequence[Tag]) -> Sequence[Tag]:
        if not tags:
            raise NotFound("repository", name)
        after = query.after[1] if query.after is not None else None
        found[:] = [
            tag
            for tag in tags
            if query.part in tag and (after is None or (tag < after if query.descending else tag > after))
        ]
        if query.descending:
            found.reverse()
        return found[offset : offset + limit]

    chosen = await choose_by_name(store, name, choose, manifests=manifests)
    page = found[offset : offset + limit]
    last = (None, page[-1]) if page else None
    return FoundTags(chosen.records, len(found), len(found) > offset + limit, last, chosen.are_unchanged)


async def _by_update(
    store: ImageStore, name: RepositoryName, query: TagQuery, limit: int, offset: int, manifests: Sequence[Digest]
) -> FoundTags:
    page = FoundTags()

    async def choose(records: Sequence[TagRecord], by_update: Sequence[TagRecord] | None) -> Sequence[TagRecord]:
        nonlocal page
        if not records:
            raise NotFound("repository", name)
        if by_update is not None and by_update[0].updated != _EPOCH:
            page = _page_of_ordered(by_update, query, limit, offset)
            return page.records
        found = [record for record in records if query.part in record.tag]
        # Images are read only if the registry does not report when their tags were updated.
        undated = [record for record in found if record.updated is None]
        updates = {one.tag: one.updated for one in await describe_tags(store, name, undated)} if undated else {}
        if len(found) <= _INLINE:
            page = _page(found, updates, query, limit, offset)
        else:
            page = await asyncio.to_thread(_page, found, updates, query, limit, offset)
        return page.records

    chosen = await choose_tags(store, name, choose, manifests=manifests)
    return page._replace(are_unchanged=chosen.are_unchanged)


def _page_of_ordered(by_update: Sequence[TagRecord], query: TagQuery, limit: int, offset: int) -> FoundTags:
    """Return a page of tags that are ordered by update; all of them are dated."""
    found = [record for record in by_update if query.part in record.tag] if query.part else by_update
    start, end = 0, len(found)
    if query.after is not None:
        moment, tag = query.after
        if moment is None:
            # Unknown dates come last in both directions.
            return FoundTags(total=len(found))
        if query.descending:
            end = bisect_left(found, (moment, tag), key=_UPDATED_AND_NAME)
        else:
            start = bisect_right(found, (moment, tag), key=_UPDATED_AND_NAME)
    if query.descending:
        stop = max(0, end - offset)
        chosen = found[max(0, stop - limit) : stop][::-1]
    else:
        chosen = found[start + offset : start + offset + limit]
    last = (chosen[-1].updated, chosen[-1].tag) if chosen else None
    return FoundTags(chosen, len(found), end - start > offset + limit, last)


def _page(
    records: Sequence[TagRecord], updates: Mapping[Tag, datetime | None], query: TagQuery, limit: int, offset: int
) -> FoundTags:
    total = len(records)

    def place(updated: datetime | None, tag: str) -> Any:
        moment = known_date(updated)
        # Unknown dates come last in both directions.
        return (moment is not None) == query.descending, moment, tag

    def place_of(record: TagRecord) -> Any:
        return place(record.updated or updates.get(record.tag), record.tag)

    if query.after is not None:
        after = place(*query.after)
        records = [one for one in records if (place_of(one) < after if query.descending else place_of(one) > after)]
    pick = heapq.nlargest if query.descending else heapq.nsmallest
    chosen = pick(offset + limit, records, place_of)[offset:]
    last = chosen[-1] if chosen else None
    return FoundTags(
        chosen,
        total,
        len(records) > offset + limit,
        None if last is None else (last.updated or updates.get(last.tag), last.tag),
    )
