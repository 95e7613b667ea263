"""The tags of a repository (distribution-spec 1.1, "Listing Tags").

There are two kinds of callers. Users and rules need the list itself, so a response that is not a list of tags is an
error. A copy needs to know whether a few names exist; it can also look them up one by one, and continues without the
list.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from urllib.parse import quote

from tagferry import bounds
from tagferry.errors import InvalidName, NotFound, TagferryError, Unavailable
from tagferry.events import Events
from tagferry.names import RepositoryName, Tag
from tagferry.remote.capabilities import TAG_LIST, LearnedCapabilities
from tagferry.remote.transport.pagination import (
    PAGE_SIZE,
    EndlessList,
    NotAList,
    has_next_page,
    list_too_long,
    not_a_list,
    pages,
    require_bounded,
    too_many_names,
)
from tagferry.remote.transport.requests import Call, Transport
from tagferry.remote.transport.response import Answer
from tagferry.remote.transport.scopes import pull_scope

_PAGE_MULTIPLE = 50
"""Registries truncate their lists at multiples of this length."""
_AFTER_DIGESTS = "sha512-g"
"""Sorts after every tag that is derived from a digest."""

_MAX_INLINE = 5000
"""Number of names that are processed on the event loop, which takes some milliseconds."""
_MAX_REPEATED_PAGES = 50
"""Consecutive pages without a new name after which a list counts as endless."""

log = Events(__name__)


class TagLists:
    """The lists of tags of one registry."""

    def __init__(self, transport: Transport, learned: LearnedCapabilities) -> None:
        self._transport = transport
        self._learned = learned

    async def all(self, repository: RepositoryName) -> list[Tag]:
        """Return all tags, in lexical order.

        Raises:
            NotFound: of the kind `repository`.
            NotAList: the response is not a list of tags.
        """
        call = self._call(repository)
        found = _Names(self._transport, call)
        is_linked = False
        async for page in pages(self._transport, call):
            found.add(self._names(page, call, repository, is_first=not found.pages), page)
            is_linked = is_linked or has_next_page(page)
        if not is_linked:
            await self._add_rest(repository, found)
        return await self._sorted_tags(repository, found.names)

    async def within(self, repository: RepositoryName, requests: int) -> frozenset[Tag] | None:
        """See `ImageStore.list_tags_within`; records if the registry refuses to list tags."""
        call = self._call(repository, limit=bounds.MANIFEST_BYTES)
        found = _Names(self._transport, call)
        is_directory = False
        try:
            async for page in pages(self._transport, call, fetch=self._fetch_once):
                if page.status == 404 and not found.pages:
                    # Without this code, the registry may just not list tags.
                    return frozenset() if page.code == "NAME_UNKNOWN" else None
                found.add(self._names(page, call, repository, is_first=not found.pages), page)
                is_directory = _is_directory(page, found.first)
                if has_next_page(page) and found.pages >= requests:
                    return None
        except TagferryError as error:
            if isinstance(error, NotAList | EndlessList) or not isinstance(error, Unavailable):
                await self._learned.mark_unavailable(TAG_LIST, error.message)
            return None
        # Tags that are derived from digests are complete if the sorted list extends beyond them.
        is_whole = found.pages > 1 or is_directory or _is_sorted_beyond(found.first, _AFTER_DIGESTS)
        if not is_whole and _may_be_cut(found.first):
            return None
        return frozenset(await self._sorted_tags(repository, found.names))

    async def _add_rest(self, repository: RepositoryName, found: "_Names") -> None:
        """Add the names after the last one of a list that may be truncated without a link to the rest."""
        names = found.first
        while _may_be_cut(names):
            call = self._call(repository, last=names[-1])
            try:
                page = await self._transport.fetch(call)
                names = self._names(page, call, repository, is_first=False)
                page.release()
            except TagferryError as error:
                if isinstance(error, Unavailable) and not isinstance(error, NotAList):
                    raise
                break
            if not found.add(names, page):
                break

    async def _sorted_tags(self, repository: RepositoryName, names: Collection[str]) -> list[Tag]:
        """Return the tags among the names; many names are processed in a thread, to keep the event loop responsive."""
        if len(names) <= _MAX_INLINE:
            return sorted(self._tags(repository, names))
        return await asyncio.to_thread(lambda: sorted(self._tags(repository, names)))

    async def _fetch_once(self, call: Call) -> Answer:
        return await self._transport.fetch(call, once=True)

    def _call(self, repository: RepositoryName, *, last: str | None = None, limit: int = bounds.TAG_LIST_BYTES) -> Call:
        after = "" if last is None else f"&last={quote(last, safe='')}"
        return Call(
            method="GET",
            task=f"list the tags of {repository}",
            url=f"/v2/{repository}/tags/list?n={PAGE_SIZE}{after}",
            scopes=(pull_scope(repository),),
            accept=frozenset({200, 404}),
            redirects=True,
            limit=limit,
        )

    def _names(self, page: Answer, call: Call, repository: RepositoryName, *, is_first: bool) -> list[str]:
        """Return the names on a page; null means none, as Go encodes an empty list."""
        require_bounded(self._transport, call, page)
        if page.status == 404 and is_first:
            raise NotFound("repository", repository)
        names = page.document.get("tags", "")
        if names is None:
            return []
        if page.status != 200 or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise not_a_list(self._transport, call, page)
        return names

    def _tags(self, repository: RepositoryName, names: Iterable[str]) -> list[Tag]:
        """Return the names that are valid tags; the others cannot be requested."""
        tags: list[Tag] = []
        invalid: list[str] = []
        for name in names:
            try:
                tags.append(Tag(name))
            except InvalidName:
                invalid.append(name)
        if invalid:
            log.info(
                "tags with invalid names were left out",
                registry=self._transport.name,
                repository=repository,
                tags=len(invalid),
                first=min(invalid)[:100],
            )
        return tags


class _Names:
    """The names of one list, over all of its pages.

    Attributes:
        names: all names, without duplicates.
        first: the names of the first page.
        pages: number of pages.
    """

    def __init__(self, transport: Transport, call: Call) -> None:
        self._transport = transport
        self._call = call
        self._bytes = 0
        self._repeated_pages = 0
        self.names: set[str] = set()
        self.first: list[str] = []
        self.pages = 0

    def add(self, names: list[str], page: Answer) -> bool:
        """Add the names of a page; return whether some are new.

        Raises:
            ListTooLong: there are too many names or bytes.
            EndlessList: too many consecutive pages repeat earlier names.
        """
        known = len(self.names)
        if not self.pages:
            self.first = names
        self.pages += 1
        self.names.update(names)
        self._bytes += len(page.body)
        if len(self.names) > bounds.TAG_LIST_NAMES:
            raise too_many_names(self._transport, self._call)
        if self._bytes > bounds.TAG_LIST_BYTES:
            raise list_too_long(
                self._transport, self._call, f"more than {bounds.TAG_LIST_BYTES} bytes", bound="tag_list_bytes"
            )
        is_new = len(self.names) > known
        self._repeated_pages = 0 if is_new else self._repeated_pages + 1
        if self._repeated_pages > _MAX_REPEATED_PAGES:
            raise EndlessList(f"registry {self._transport.name} repeated its pages when asked to {self._call.task}")
        return is_new


def _may_be_cut(names: Sequence[str]) -> bool:
    return bool(names) and len(names) % _PAGE_MULTIPLE == 0


def _is_sorted_beyond(names: Sequence[str], name: str) -> bool:
    return bool(names) and names[-1] > name and all(first <= second for first, second in pairwise(names))


def _is_directory(page: Answer, names: Sequence[str]) -> bool:
    """Return whether distribution 2 listed this directory: complete, and sorted neither by name nor by date."""
    if page.headers.get("Docker-Distribution-Api-Version") != "registry/2.0":
        return False
    ascents = sum(first < second for first, second in pairwise(names))
    return 0.25 < ascents / max(1, len(names) - 1) < 0.75
