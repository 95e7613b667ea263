"""The source and target of a copy."""

from typing import NamedTuple

from tagferry.copy.rewrite import Acceptance
from tagferry.names import RepositoryName
from tagferry.oci.images import ImageStore


class Route(NamedTuple):
    """A source repository, and the target repository in the same or another store.

    Attributes:
        accepts: the images that the target accepts.
    """

    source: ImageStore
    source_repository: RepositoryName
    target: ImageStore
    target_repository: RepositoryName
    accepts: Acceptance = Acceptance()

    @property
    def within_one_store(self) -> bool:
        """True if source and target are the same store, so that blobs can be mounted."""
        return self.source.name == self.target.name
