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

    A sighting saves a question only for a minute, since registries collect garbage. Whoever finds one wrong calls
    `forget`.
    """

    def __init__(self, *, limit: int = _LIMIT, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._seen: OrderedDict[tuple[str, Digest, RepositoryName], float] = OrderedDict()

    def remember(self, store: ImageStore, repository: RepositoryName, digest: Digest) -> None:
        """Note that the repository holds this content now."""
        key = (store.name, digest, repository)
        self._seen[key] = self._clock()
        self._seen.move_to_end(key)
        if len(self._seen) > self._limit:
            self._seen.popitem(last=False)

    def holds(self, store: ImageStore, repository: RepositoryName, digest: Digest) -> bool:
        """Whether the repository held this content within the last minute."""
        seen = self._seen.get((store.name, digest, repository))
        return seen is not None and self._clock() - seen <= _FRESH_SECONDS

    def forget(self, store: ImageStore, repository: RepositoryName) -> None:
        """Drop everything noted about a repository."""
        for key in [key for key in self._seen if key[0] == store.name and key[2] == repository]:
            del self._seen[key]
