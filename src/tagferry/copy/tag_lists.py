"""Lists of a repository's tags, where they cost less than requests for single digest-based tags."""

import time
from collections.abc import Callable, Iterable

from tagferry.concurrency import SingleFlight
from tagferry.copy.route import StoreKey, key_of
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.images import ImageStore

_FRESH_SECONDS = 10.0
_MANY_SUBJECTS = 8
"""After single requests for the tags of this many manifests, a longer list is tried."""
_MANY_REQUESTS = 24
"""The requests that the longer list may cost: as many as the single ones before it."""

_Key = tuple[StoreKey, RepositoryName]


class _TagList:
    """The known tags of a repository.

    Attributes:
        tags: all tags; None if they were not listed.
        requests: the requests that the list was allowed to cost.
        subjects: the number of manifests for which the list was used.
    """

    def __init__(self, listed_at: float, tags: frozenset[Tag] | None, requests: int) -> None:
        self.listed_at = listed_at
        self.tags = tags
        self.requests = requests
        self.subjects = 0


class TagLists:
    """The tags of repositories, listed once for all the tags of a request.

    A repository with few tags is listed by one request. If it has many, or its list is not permitted, callers request
    single tags until that has cost more than a longer list would.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._listing: SingleFlight[tuple[_Key, int], _TagList] = SingleFlight()
        self._lists: dict[_Key, _TagList] = {}

    async def of(
        self, store: ImageStore, repository: RepositoryName, *, holding: Reference, subjects: int = 1
    ) -> frozenset[Tag] | None:
        """Return the repository's tags, at most a few seconds old; None if callers must request single tags.

        Args:
            store: the store of the repository.
            repository: the repository.
            holding: a tag that exists there; a list without it is incomplete. With a digest, no list is known to be
                complete, so callers request single tags.
            subjects: the number of manifests for which the list is used.
        """
        if isinstance(holding, Digest):
            return None
        key = (key_of(store), repository)
        known = await self._known(store, key, requests=1)
        known.subjects += subjects
        if known.tags is None and known.requests == 1 and known.subjects > _MANY_SUBJECTS:
            known = await self._known(store, key, requests=_MANY_REQUESTS)
        return known.tags if known.tags is not None and holding in known.tags else None

    def add(self, store: ImageStore, repository: RepositoryName, tags: Iterable[Tag], *, asked_at: float) -> None:
        """Use a complete list of a repository's tags, which the caller requested at this time."""
        self._keep((key_of(store), repository), _TagList(asked_at, frozenset(tags), _MANY_REQUESTS))

    async def _known(self, store: ImageStore, key: _Key, *, requests: int) -> _TagList:
        known = self._lists.get(key)
        if known is None or known.requests < requests or self._clock() - known.listed_at > _FRESH_SECONDS:
            known = await self._listing.run((key, requests), lambda: self._list(store, key, requests))
        return known

    async def _list(self, store: ImageStore, key: _Key, requests: int) -> _TagList:
        tags = await store.list_tags_within(key[1], requests)
        return self._keep(key, _TagList(self._clock(), tags, requests))

    def _keep(self, key: _Key, known: _TagList) -> _TagList:
        oldest = self._clock() - _FRESH_SECONDS
        self._lists = {one: known for one, known in self._lists.items() if known.listed_at >= oldest}
        self._lists[key] = known
        return known
