"""Stores whose lists cost system calls instead of requests: embedded registries."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tagferry.oci.images import ImageStore

if TYPE_CHECKING:
    from tagferry.registry.storage.listings import Listings


@runtime_checkable
class HasListings(Protocol):
    """An image store on a local disk."""

    @property
    def listings(self) -> "Listings":
        """Its reads for lists."""
        ...


def listings_of(store: ImageStore) -> "Listings | None":
    """Return a store's reads for lists; None if it is not on a local disk."""
    return store.listings if isinstance(store, HasListings) else None
