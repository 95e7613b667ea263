"""Stores whose lists cost system calls instead of requests: embedded registries."""

from typing import TYPE_CHECKING

from tagferry.oci.images import ImageStore

if TYPE_CHECKING:
    from tagferry.registry.storage.listings import Listings


def listings_of(store: ImageStore) -> "Listings | None":
    """Return a store's reads for lists; None if it is not on a local disk."""
    listings: Listings | None = getattr(store, "listings", None)
    return listings
