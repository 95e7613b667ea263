"""Which of the tags that are made from digests a repository has: by its list of tags where that is cheap."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tagferry.concurrency import SingleFlight
from tagferry.names import RepositoryName, Tag
from tagferry.oci.images import ImageStore

_FRESH_SECONDS = 10.0
_MANY_SUBJECTS = 8
"""After so many manifests whose tags were asked for one by one, a longer list is tried."""
_MANY_REQUESTS = 24
"""How many requests the longer list may cost: as many as the first questions did."""

_Key = tuple[str, RepositoryName]


@dataclass(slots=True)
class _List:
    """The known tags of a repository.

    Attributes:
        tags: all of them; None where they were not listed.
        requests: how many the list was allowed to cost.
        subjects: for how many manifests it was needed.
    """

    listed_at: float
    tags: frozenset[Tag] | None
    requests: int
    subjects: int = 0


class TagLists:
    """The tags of repositories, listed once for all the tags of a request.

    A repository with few tags is listed by one request. In one with many, or whose list is not permitted, callers ask
    for single names, until that has cost more than a longer list would.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._listing: SingleFlight[tuple[_Key, int], _List] = SingleFlight()
        self._lists: dict[_Key, _List] = {}

    async def of(
        self, store: ImageStore, repository: RepositoryName, *, holding: Tag, subjects: int = 1
    ) -> frozenset[Tag] | None:
        """The repository's tags as of a few seconds ago at most; None where single tags have to be asked for.

        Args:
            store: where the repository is.
            repository: its name.
            holding: a tag that exists there; a list without it is not all.
            subjects: for how many manifests the answer is needed.
        """
        key = (store.name, repository)
        known = await self._known(store, key, requests=1)
        known.subjects += subjects
        if known.tags is None and known.requests == 1 and known.subjects > _MANY_SUBJECTS:
            known = await self._known(store, key, requests=_MANY_REQUESTS)
        return known.tags if known.tags is not None and holding in known.tags else None

    async def _known(self, store: ImageStore, key: _Key, *, requests: int) -> _List:
        known = self._lists.get(key)
        if known is None or known.requests < requests or self._clock() - known.listed_at > _FRESH_SECONDS:
            known = await self._listing.run((key, requests), lambda: self._list(store, key, requests))
        return known

    async def _list(self, store: ImageStore, key: _Key, requests: int) -> _List:
        tags = await store.list_tags_within(key[1], requests)
        now = self._clock()
        self._lists = {one: known for one, known in self._lists.items() if now - known.listed_at <= _FRESH_SECONDS}
        known = self._lists[key] = _List(now, tags, requests)
        return known
