"""Limits on the manifests read for one image, and on those that all copies of this process hold at once.

A registry can list thousands of manifests of megabytes each, which a copy would hold in memory.
"""

import weakref

from tagferry import bounds
from tagferry.errors import Invalid, Unavailable
from tagferry.metrics import BOUND_REACHED
from tagferry.oci.model import Manifest


class HeldManifests:
    """The manifests in use by all copies of this process."""

    def __init__(self) -> None:
        self.bytes = 0

    def hold(self, manifest: Manifest, *, is_guaranteed: bool) -> None:
        """Count a manifest until it is released.

        Args:
            manifest: the manifest.
            is_guaranteed: whether to hold it even if the limit is reached.

        Raises:
            Unavailable: the limit is reached.
        """
        if not is_guaranteed and self.bytes + manifest.size > bounds.MANIFESTS_HELD_BYTES:
            BOUND_REACHED.labels(bound="manifests_held_bytes").inc()
            raise Unavailable(
                f"manifest {manifest.digest} of {manifest.size} bytes was not read: the copies of this process "
                f"hold at most {bounds.MANIFESTS_HELD_BYTES} bytes of manifests at once; the copy is retried"
            )
        self.bytes += manifest.size
        weakref.finalize(manifest, self._release, manifest.size).atexit = False

    def _release(self, size: int) -> None:
        self.bytes -= size


HELD = HeldManifests()
"""The manifests of this process."""


class ManifestBudget:
    """The limits of the manifests of one image, or of all its referrers.

    Args:
        owner: names the manifests in messages.
        manifests: the maximum number.
        held: counts the manifests of all copies.
    """

    def __init__(
        self, owner: str = "an image", *, manifests: int = bounds.IMAGE_MANIFESTS + 1, held: HeldManifests = HELD
    ) -> None:
        self._owner = owner
        self._limit = manifests
        self._held = held
        self._manifests = 0
        self._bytes = 0

    def require(self, manifests: int = 1) -> None:
        """Raise Invalid if this many more manifests exceed a limit."""
        if self._manifests + manifests > self._limit:
            raise Invalid("manifests", f"of {self._owner} must be at most {self._limit}")
        if self._bytes > bounds.IMAGE_MANIFEST_BYTES:
            raise self._too_many_bytes()

    def take(self, manifest: Manifest) -> Manifest:
        """Count a manifest that was read, and return it.

        Raises:
            Invalid: the manifests exceed the limit in bytes.
            Unavailable: all copies together hold too many bytes.
        """
        self._manifests += 1
        self._bytes += manifest.size
        if self._bytes > bounds.IMAGE_MANIFEST_BYTES:
            raise self._too_many_bytes()
        self._held.hold(manifest, is_guaranteed=self._bytes <= bounds.GUARANTEED_MANIFEST_BYTES)
        return manifest

    def _too_many_bytes(self) -> Invalid:
        BOUND_REACHED.labels(bound="image_manifest_bytes").inc()
        return Invalid("manifests", f"of {self._owner} must have at most {bounds.IMAGE_MANIFEST_BYTES} bytes together")
