"""From where to where images travel."""

from dataclasses import dataclass

from tagferry.names import RepositoryName
from tagferry.oci.images import ImageStore


@dataclass(frozen=True, slots=True)
class Route:
    """A repository in one store, and the repository in the same or another store that shall hold its images."""

    source: ImageStore
    source_repository: RepositoryName
    target: ImageStore
    target_repository: RepositoryName

    @property
    def within_one_store(self) -> bool:
        """Whether both ends are the same store, so that blobs can be mounted instead of moved."""
        return self.source.name == self.target.name
