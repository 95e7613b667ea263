"""What the targets are known to hold, so that it is neither asked nor sent again."""

import time
from collections import OrderedDict
from collections.abc import Callable

from tagferry.names import Digest, RepositoryName
from tagferry.oci.images import ImageStore

_FRESH_SECONDS = 60.0
_LIMIT = 100_000


class KnownContent:
    """Where blobs and manifests were seen lately: a bounded memory, oldest sightings forgotten first.

    A sighting saves a question only for a minute, since registries collect garbage; an older one still tells where
    a blob may be mounted from. Whoever finds one wrong calls `forget`.
    """

    def __init__(self, *, limit: int = _LIMIT, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._seen: OrderedDict[tuple[str, Digest, RepositoryName], float] = OrderedDict()
        self._homes: dict[tuple[str, Digest], set[RepositoryName]] = {}

    def remember(self, store: ImageStore, repository: RepositoryName, digest: Digest) -> None:
        """Note that the repository holds this content now."""
        key = (store.name, digest, repository)
        self._seen[key] = self._clock()
        self._seen.move_to_end(key)
        self._homes.setdefault((store.name, digest), set()).add(repository)
        if len(self._seen) > self._limit:
            self._drop(next(iter(self._seen)))

    def holds(self, store: ImageStore, repository: RepositoryName, digest: Digest) -> bool:
        """Whether the repository held this content within the last minute."""
        seen = self._seen.get((store.name, digest, repository))
        return seen is not None and self._clock() - seen <= _FRESH_SECONDS

    def another_home(self, store: ImageStore, repository: RepositoryName, digest: Digest) -> RepositoryName | None:
        """Another repository of the same store that was seen to hold this content, to mount it from."""
        homes = self._homes.get((store.name, digest), set())
        return next((home for home in homes if home != repository), None)

    def forget(self, store: ImageStore, repository: RepositoryName) -> None:
        """Drop everything noted about a repository."""
        for key in [key for key in self._seen if key[0] == store.name and key[2] == repository]:
            self._drop(key)

    def _drop(self, key: tuple[str, Digest, RepositoryName]) -> None:
        del self._seen[key]
        store, digest, repository = key
        homes = self._homes[store, digest]
        homes.discard(repository)
        if not homes:
            del self._homes[store, digest]
