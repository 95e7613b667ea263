"""The tags of a repository (distribution-spec 1.1, "Listing Tags").

Two kinds of callers ask for them. People and rules want the list itself: an answer that is not a list of tags is
an error. A copy wants to know whether a few names exist. It can also ask for them one by one, so that it continues
without the list.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from urllib.parse import quote

from tagferry import bounds
from tagferry.errors import InvalidName, NotFound, TagferryError, Unavailable
from tagferry.events import Events
from tagferry.names import RepositoryName, Tag
from tagferry.remote.answer import Answer
from tagferry.remote.capabilities import TAG_LIST, Learned
from tagferry.remote.listing import PAGE_SIZE, NotAList, goes_on, not_a_list, pages
from tagferry.remote.manifests import pulling
from tagferry.remote.transport import Call, Transport

_ROUND = 50
"""The lengths at which registries cut their lists are multiples of this."""
_AFTER_DIGESTS = "sha512-g"
"""Sorts after every tag that is made from a digest."""

log = Events(__name__)


class Tags:
    """The lists of tags of one registry."""

    def __init__(self, transport: Transport, learned: Learned) -> None:
        self._transport = transport
        self._learned = learned

    async def all(self, repository: RepositoryName) -> list[Tag]:
        """Every tag, in lexical order.

        Raises:
            NotFound: of the kind `repository`.
            NotAList: the registry answered something else.
        """
        call = self._call(repository)
        lists: list[list[str]] = []
        is_linked = False
        async for page in pages(self._transport, call):
            lists.append(self._names(page, call, repository, is_first=not lists))
            is_linked = is_linked or goes_on(page)
        if not is_linked:
            lists += await self._rest(repository, lists[0])
        return sorted(self._tags(repository, {name for names in lists for name in names}))

    async def within(self, repository: RepositoryName, requests: int) -> frozenset[Tag] | None:
        """See `ImageStore.list_tags_within`; that the registry refuses to list tags is noted."""
        call = self._call(repository, limit=bounds.MANIFEST_BYTES)
        lists: list[list[str]] = []
        is_directory = False
        try:
            async for page in pages(self._transport, call, fetch=self._fetch_once):
                lists.append(self._names(page, call, repository, is_first=not lists))
                is_directory = _is_directory(page, lists[0])
                if goes_on(page) and len(lists) >= requests:
                    return None
        except NotFound:
            return None
        except TagferryError as error:
            if isinstance(error, NotAList) or not isinstance(error, Unavailable):
                await self._learned.note_unavailable(TAG_LIST, error.message)
            return None
        # Tags that are made from digests cannot be missing where the list goes beyond them in order.
        is_whole = len(lists) > 1 or is_directory or _is_sorted_beyond(lists[0], _AFTER_DIGESTS)
        if not is_whole and _may_be_cut(lists[0]):
            return None
        return frozenset(self._tags(repository, {name for names in lists for name in names}))

    async def _rest(self, repository: RepositoryName, names: list[str]) -> list[list[str]]:
        """Return the names after the last one of a list that may have been cut without a link to the rest."""
        lists, seen = [], set(names)
        while _may_be_cut(names):
            call = self._call(repository, last=names[-1])
            try:
                names = self._names(await self._transport.fetch(call), call, repository, is_first=False)
            except TagferryError as error:
                if isinstance(error, Unavailable) and not isinstance(error, NotAList):
                    raise
                break
            if seen.issuperset(names):
                break
            seen.update(names)
            lists.append(names)
        return lists

    async def _fetch_once(self, call: Call) -> Answer:
        return await self._transport.fetch(call, once=True)

    def _call(self, repository: RepositoryName, *, last: str | None = None, limit: int = bounds.TAG_LIST_BYTES) -> Call:
        after = "" if last is None else f"&last={quote(last, safe='')}"
        return Call(
            method="GET",
            task=f"list the tags of {repository}",
            url=f"/v2/{repository}/tags/list?n={PAGE_SIZE}{after}",
            scopes=(pulling(repository),),
            accept=frozenset({200, 404}),
            redirects=True,
            limit=limit,
        )

    def _names(self, page: Answer, call: Call, repository: RepositoryName, *, is_first: bool) -> list[str]:
        """Return the names on a page; null means none, as Go writes an empty list."""
        if page.status == 404 and is_first:
            raise NotFound("repository", repository)
        names = page.document.get("tags", "")
        if names is None:
            return []
        if page.status != 200 or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise not_a_list(self._transport, call, page)
        return names

    def _tags(self, repository: RepositoryName, names: Iterable[str]) -> list[Tag]:
        """Those of the names that are tags; nothing can be asked of the others."""
        tags: list[Tag] = []
        odd: list[str] = []
        for name in names:
            try:
                tags.append(Tag(name))
            except InvalidName:
                odd.append(name)
        if odd:
            log.info(
                "tags with invalid names were left out",
                registry=self._transport.name,
                repository=repository,
                tags=len(odd),
                first=min(odd)[:100],
            )
        return tags


def _may_be_cut(names: Sequence[str]) -> bool:
    return bool(names) and len(names) % _ROUND == 0


def _is_sorted_beyond(names: Sequence[str], name: str) -> bool:
    return bool(names) and names[-1] > name and all(first <= second for first, second in pairwise(names))


def _is_directory(page: Answer, names: Sequence[str]) -> bool:
    """Return whether this is a directory as distribution 2 lists it: whole, and sorted neither by name nor by date."""
    if page.headers.get("Docker-Distribution-Api-Version") != "registry/2.0":
        return False
    ascents = sum(first < second for first, second in pairwise(names))
    return 0.25 < ascents / max(1, len(names) - 1) < 0.75
