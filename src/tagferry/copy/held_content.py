"""What the targets are known to hold, so that it is neither asked nor sent again."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from tagferry.names import Digest, RepositoryName
from tagferry.oci.images import ImageStore

_FRESH_SECONDS = 60.0
_LIMIT = 100_000


class _Sighting(NamedTuple):
    at: float
    size: int
    verified: bool


class HeldContent:
    """Where blobs and manifests were seen lately: a bounded memory, oldest sightings forgotten first.

    A sighting saves a question only for a minute, since registries collect garbage. Whoever finds one wrong calls
    `forget`. A sighting is a proof where this process sent the content itself or asked for just that; that a store
    would rather not have it sent is none. It proves one size: a manifest may state another one than content has.
    """

    def __init__(self, *, limit: int = _LIMIT, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._seen: OrderedDict[tuple[str, Digest, RepositoryName], _Sighting] = OrderedDict()

    def add(
        self, store: ImageStore, repository: RepositoryName, digest: Digest, size: int, *, verified: bool = True
    ) -> None:
        """Note that the repository holds this content, of so many bytes, now."""
        key = (store.name, digest, repository)
        self._seen[key] = _Sighting(self._clock(), size, verified)
        self._seen.move_to_end(key)
        if len(self._seen) > self._limit:
            self._seen.popitem(last=False)

    def holds(self, store: ImageStore, repository: RepositoryName, digest: Digest) -> bool:
        """Whether the repository was seen to hold this content within the last minute."""
        return self._fresh(store, repository, digest) is not None

    def is_verified(self, store: ImageStore, repository: RepositoryName, digest: Digest, size: int) -> bool:
        """Whether the repository has been proven to hold this content, of so many bytes, within the last minute."""
        seen = self._fresh(store, repository, digest)
        return seen is not None and seen.verified and seen.size == size

    def forget(self, store: ImageStore, repository: RepositoryName, digest: Digest | None = None) -> None:
        """Drop what is noted about some content of a repository, or everything about the repository."""
        if digest is not None:
            self._seen.pop((store.name, digest, repository), None)
            return
        for key in [key for key in self._seen if key[0] == store.name and key[2] == repository]:
            del self._seen[key]

    def _fresh(self, store: ImageStore, repository: RepositoryName, digest: Digest) -> _Sighting | None:
        seen = self._seen.get((store.name, digest, repository))
        return seen if seen is not None and self._clock() - seen.at <= _FRESH_SECONDS else None
