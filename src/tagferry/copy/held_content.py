"""The content that targets are known to hold, so that it is neither checked nor sent again."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from tagferry.copy.route import StoreKey, key_of
from tagferry.names import Digest, RepositoryName
from tagferry.oci.images import ImageStore

_FRESH_SECONDS = 60.0
_LIMIT = 100_000


class _Entry(NamedTuple):
    seen_at: float
    size: int
    verified: bool


class HeldContent:
    """A bounded cache of the blobs and manifests that targets hold; the oldest entries are evicted first.

    An entry is valid for a minute, since registries collect garbage. Callers that find one wrong call `forget`. An
    entry is verified if this process sent the content, or asked the target for exactly that content; a store that
    declines an upload does not verify it. Verification covers one size, because a manifest may state a wrong one.
    """

    def __init__(self, *, limit: int = _LIMIT, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._seen: OrderedDict[tuple[StoreKey, Digest, RepositoryName], _Entry] = OrderedDict()

    def add(
        self, store: ImageStore, repository: RepositoryName, digest: Digest, size: int, *, verified: bool = True
    ) -> None:
        """Record that the repository holds this content of `size` bytes now."""
        key = (key_of(store), digest, repository)
        self._seen[key] = _Entry(self._clock(), size, verified)
        self._seen.move_to_end(key)
        if len(self._seen) > self._limit:
            self._seen.popitem(last=False)

    def holds(self, store: ImageStore, repository: RepositoryName, digest: Digest) -> bool:
        """Return whether the repository held this content within the last minute."""
        return self._fresh(store, repository, digest) is not None

    def is_verified(self, store: ImageStore, repository: RepositoryName, digest: Digest, size: int) -> bool:
        """Return whether the repository was verified to hold this content of `size` bytes within the last minute."""
        seen = self._fresh(store, repository, digest)
        return seen is not None and seen.verified and seen.size == size

    def forget(self, store: ImageStore, repository: RepositoryName, digest: Digest | None = None) -> None:
        """Remove the entry of some content of a repository, or all entries of the repository."""
        if digest is not None:
            self._seen.pop((key_of(store), digest, repository), None)
            return
        of_store = key_of(store)
        for key in [key for key in self._seen if key[0] == of_store and key[2] == repository]:
            del self._seen[key]

    def _fresh(self, store: ImageStore, repository: RepositoryName, digest: Digest) -> _Entry | None:
        seen = self._seen.get((key_of(store), digest, repository))
        return seen if seen is not None and self._clock() - seen.seen_at <= _FRESH_SECONDS else None
