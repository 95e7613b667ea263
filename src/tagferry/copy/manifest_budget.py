"""Limits on the manifests that are read for one image, and on those that all copies of this process hold at once.

A registry can list thousands of manifests of megabytes each, which a copy would hold in memory.
"""

import weakref

from tagferry import bounds
from tagferry.errors import Invalid, Unavailable
from tagferry.metrics import BOUND_REACHED
from tagferry.oci.model import Manifest


class HeldManifests:
    """The manifests that all copies of this process hold, for as long as each is in use."""

    def __init__(self) -> None:
        self.bytes = 0

    def hold(self, manifest: Manifest, *, is_guaranteed: bool) -> None:
        """Count a manifest until it is released.

        Args:
            manifest: the manifest.
            is_guaranteed: whether there is room for it whatever others hold.

        Raises:
            Unavailable: others hold so many that there is no room for it now.
        """
        if not is_guaranteed and self.bytes + manifest.size > bounds.MANIFESTS_HELD_BYTES:
            BOUND_REACHED.labels(bound="manifests_held_bytes").inc()
            raise Unavailable(
                f"manifest {manifest.digest} of {manifest.size} bytes was not read: the copies of this process "
                f"hold at most {bounds.MANIFESTS_HELD_BYTES} bytes of manifests at once; it is tried again"
            )
        self.bytes += manifest.size
        weakref.finalize(manifest, self._let_go, manifest.size).atexit = False

    def _let_go(self, size: int) -> None:
        self.bytes -= size


HELD = HeldManifests()
"""Those of this process."""


class ManifestBudget:
    """The manifests that may be read for one image, or for everything that is attached to it.

    Args:
        whose: names these in messages.
        manifests: how many there may be.
        held: those that all copies hold.
    """

    def __init__(
        self, whose: str = "an image", *, manifests: int = bounds.IMAGE_MANIFESTS + 1, held: HeldManifests = HELD
    ) -> None:
        self._whose = whose
        self._most = manifests
        self._held = held
        self._manifests = 0
        self._bytes = 0

    def require(self, manifests: int = 1) -> None:
        """Raise Invalid if this many more manifests exceed a limit."""
        if self._manifests + manifests > self._most:
            raise Invalid("manifests", f"of {self._whose} must be at most {self._most}")
        if self._bytes > bounds.IMAGE_MANIFEST_BYTES:
            raise self._too_many_bytes()

    def take(self, manifest: Manifest) -> Manifest:
        """Count a manifest that was read, and return it.

        Raises:
            Invalid: there are too many bytes of them.
            Unavailable: there is no room for it among those that all copies hold.
        """
        self._manifests += 1
        self._bytes += manifest.size
        if self._bytes > bounds.IMAGE_MANIFEST_BYTES:
            raise self._too_many_bytes()
        self._held.hold(manifest, is_guaranteed=self._bytes <= bounds.GUARANTEED_MANIFEST_BYTES)
        return manifest

    def _too_many_bytes(self) -> Invalid:
        BOUND_REACHED.labels(bound="image_manifest_bytes").inc()
        return Invalid("manifests", f"of {self._whose} must have at most {bounds.IMAGE_MANIFEST_BYTES} bytes together")
