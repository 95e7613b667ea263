"""The repositories of a target that hold a blob, from which another one can mount it without a transfer."""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from tagferry.names import Digest, RepositoryName
from tagferry.oci.images import ImageStore

_BLOB_LIMIT = 100_000
_SOURCES_OF_A_BLOB = 4


class BlobLocationStore(Protocol):
    """Stores blob locations beyond the life of a process, and may share them between processes.

    Locations are hints, so no method raises: what cannot be stored is lost, and what cannot be read is unknown.
    Stores are identified by their addresses.
    """

    async def find(self, address: str, digests: Collection[Digest]) -> Mapping[Digest, Sequence[RepositoryName]]:
        """Return the repositories that held each of these blobs, the most recently seen first."""
        ...

    def add(self, address: str, repository: RepositoryName, digest: Digest) -> None:
        """Record that the repository holds the blob now; return at once."""
        ...

    def remove(self, address: str, repository: RepositoryName, digest: Digest) -> None:
        """Remove the record that the repository holds the blob; return at once."""
        ...


class MountSources:
    """A bounded cache of the repositories that hold a blob; the least recently used blobs are evicted first.

    A source may be wrong, since registries collect garbage: a store that does not find the blob there receives its
    bytes instead. The caller then calls `remove`.

    Args:
        locations: stores sources beyond this process; without it they live as long as this object.
        limit: blobs in this cache.
    """

    def __init__(self, locations: BlobLocationStore | None = None, *, limit: int = _BLOB_LIMIT) -> None:
        self._locations = locations
        self._limit = limit
        self._repositories: OrderedDict[tuple[str, Digest], dict[RepositoryName, None]] = OrderedDict()

    async def load(self, store: ImageStore, digests: Collection[Digest]) -> None:
        """Load the stored locations of those of these blobs that have no source here, by one query."""
        unknown = [digest for digest in digests if (store.address, digest) not in self._repositories]
        if self._locations is None or not unknown:
            return
        for digest, repositories in (await self._locations.find(store.address, unknown)).items():
            for repository in repositories[:_SOURCES_OF_A_BLOB]:
                self._enter(store, repository, digest)

    def find(self, store: ImageStore, repository: RepositoryName, digest: Digest) -> RepositoryName | None:
        """Return another repository of the same store that held this blob; None if none is known."""
        sources = self._repositories.get((store.address, digest), {})
        return next((source for source in sources if source != repository), None)

    def add(self, store: ImageStore, repository: RepositoryName, digest: Digest) -> None:
        """Record that the repository holds this blob now, unless enough sources are known."""
        if self._enter(store, repository, digest) and self._locations is not None:
            self._locations.add(store.address, repository, digest)

    def remove(self, store: ImageStore, repository: RepositoryName, digest: Digest) -> None:
        """Remove a source that turned out to be wrong."""
        sources = self._repositories.get((store.address, digest), {})
        sources.pop(repository, None)
        if not sources:
            self._repositories.pop((store.address, digest), None)
        if self._locations is not None:
            self._locations.remove(store.address, repository, digest)

    def _enter(self, store: ImageStore, repository: RepositoryName, digest: Digest) -> bool:
        key = (store.address, digest)
        sources = self._repositories.setdefault(key, {})
        self._repositories.move_to_end(key)
        if len(self._repositories) > self._limit:
            self._repositories.popitem(last=False)
        if repository not in sources and len(sources) >= _SOURCES_OF_A_BLOB:
            return False
        sources[repository] = None
        return True
