"""The source and target of a copy."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from tagferry.copy.rewrite import Acceptance
from tagferry.names import Reference, RepositoryName, Tag
from tagferry.oci.images import ImageStore

StoreKey = tuple[str, str]
"""Identifies a store in this process: its name and its address, since a reload may change a region's address."""


class Route(NamedTuple):
    """A source repository, and the target repository in the same or another store.

    Attributes:
        accepts: the images that the target accepts.
        references: the source's tag or digest of each tag that is not copied under its own name.
    """

    source: ImageStore
    source_repository: RepositoryName
    target: ImageStore
    target_repository: RepositoryName
    accepts: Acceptance = Acceptance()
    references: Mapping[Tag, Reference] = MappingProxyType({})

    def reference(self, tag: Tag) -> Reference:
        """Return the source's tag or digest of the image that the target's tag is to point to."""
        return self.references.get(tag, tag)

    @property
    def within_one_store(self) -> bool:
        """True if source and target are the same store, so that blobs can be mounted."""
        return self.source.name == self.target.name


def key_of(store: ImageStore) -> StoreKey:
    """Return the key of a store, for what is remembered of it."""
    return store.name, store.address
