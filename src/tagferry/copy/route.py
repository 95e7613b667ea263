"""From where to where images travel."""

from typing import NamedTuple

from tagferry.copy.rewrite import Acceptance
from tagferry.names import RepositoryName
from tagferry.oci.images import ImageStore


class Route(NamedTuple):
    """A repository in one store, and the repository in the same or another store that shall hold its images.

    Attributes:
        accepts: what the target takes.
    """

    source: ImageStore
    source_repository: RepositoryName
    target: ImageStore
    target_repository: RepositoryName
    accepts: Acceptance = Acceptance()

    @property
    def within_one_store(self) -> bool:
        """Whether both ends are the same store, so that blobs can be mounted instead of moved."""
        return self.source.name == self.target.name
