"""Which repositories of a target have a blob, so that another one can take it from there without moving bytes."""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from tagferry.names import Digest, RepositoryName
from tagferry.oci.images import ImageStore

_BLOB_LIMIT = 100_000
_HOMES_OF_A_BLOB = 4


class BlobLocationStore(Protocol):
    """Keeps homes for longer than a process lives, and may share them between processes.

    It is only a help, so that nothing here raises: what cannot be kept is lost, and what cannot be found is not
    known. Stores are told by their names.
    """

    async def find(self, store: str, digests: Collection[Digest]) -> Mapping[Digest, Sequence[RepositoryName]]:
        """The repositories in which each of these blobs was seen, the latest sighting first."""
        ...

    def add(self, store: str, repository: RepositoryName, digest: Digest) -> None:
        """Keep that the repository holds the blob now; returns at once."""
        ...

    def remove(self, store: str, repository: RepositoryName, digest: Digest) -> None:
        """Forget that the repository holds the blob; returns at once."""
        ...


class MountSources:
    """The homes of blobs: a bounded memory, blobs that were not needed for the longest time forgotten first.

    A home may be wrong, since registries collect garbage: a store that does not find the blob there is given its
    bytes, as if no home were known. Whoever sees that calls `forget`.

    Args:
        locations: keeps homes beyond this process; without it they live as long as this object.
        limit: blobs that are remembered here.
    """

    def __init__(self, locations: BlobLocationStore | None = None, *, limit: int = _BLOB_LIMIT) -> None:
        self._locations = locations
        self._limit = limit
        self._repositories: OrderedDict[tuple[str, Digest], dict[RepositoryName, None]] = OrderedDict()

    async def load(self, store: ImageStore, digests: Collection[Digest]) -> None:
        """Ask what is kept about those of these blobs of which no home is known here, all by one question."""
        unknown = [digest for digest in digests if (store.name, digest) not in self._repositories]
        if self._locations is None or not unknown:
            return
        for digest, repositories in (await self._locations.find(store.name, unknown)).items():
            for repository in repositories[:_HOMES_OF_A_BLOB]:
                self._enter(store, repository, digest)

    def find(self, store: ImageStore, repository: RepositoryName, digest: Digest) -> RepositoryName | None:
        """Another repository of the same store that was seen to hold this blob."""
        homes = self._repositories.get((store.name, digest), {})
        return next((home for home in homes if home != repository), None)

    def add(self, store: ImageStore, repository: RepositoryName, digest: Digest) -> None:
        """Note that the repository holds this blob now; where enough homes are known, one more is not kept."""
        if self._enter(store, repository, digest) and self._locations is not None:
            self._locations.add(store.name, repository, digest)

    def remove(self, store: ImageStore, repository: RepositoryName, digest: Digest) -> None:
        """Drop a home that turned out to be wrong."""
        homes = self._repositories.get((store.name, digest), {})
        homes.pop(repository, None)
        if not homes:
            self._repositories.pop((store.name, digest), None)
        if self._locations is not None:
            self._locations.remove(store.name, repository, digest)

    def _enter(self, store: ImageStore, repository: RepositoryName, digest: Digest) -> bool:
        key = (store.name, digest)
        homes = self._repositories.setdefault(key, {})
        self._repositories.move_to_end(key)
        if len(self._repositories) > self._limit:
            self._repositories.popitem(last=False)
        if repository not in homes and len(homes) >= _HOMES_OF_A_BLOB:
            return False
        homes[repository] = None
        return True
