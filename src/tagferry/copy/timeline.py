"""The steps of a copy in the order of time, and the bytes that it transferred."""

import time
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from tagferry import bounds
from tagferry.names import Digest, RepositoryName
from tagferry.oci.images import BlobOutcome


class Step(StrEnum):
    """A step of a copy."""

    COMPARED = "compared"
    PLANNED = "planned"
    BLOB = "blob"
    VERIFIED = "verified"
    TAG_WRITTEN = "tag_written"


class Event(NamedTuple):
    """A step of a copy that was completed.

    Attributes:
        at: when, in seconds since the epoch.
        digest: the digest of the target's image, the blob or the new image; empty if unknown.
        size: bytes of the blob, or of all blobs of the plan.
        blobs: blobs of the plan.
        outcome: how the target obtained the blob.
        source: the repository that the blob was mounted from.
    """

    at: float
    step: Step
    digest: str = ""
    size: int = 0
    blobs: int = 0
    outcome: BlobOutcome | None = None
    source: str = ""


class Amount(NamedTuple):
    """A number of blobs and their bytes."""

    blobs: int = 0
    size: int = 0

    def plus(self, size: int) -> "Amount":
        """Return this amount and one more blob."""
        return Amount(self.blobs + 1, self.size + size)


NOTHING = Amount()


class CopyTimeline:
    """The events of one copy of a tag.

    Attributes:
        clock: seconds since the epoch.
        events: the events; of blobs only the first `bounds.TIMELINE_BLOBS`.
        uploaded: the blobs that were transferred; the bytes are those that were read from the source for them.
        mounted: the blobs that the target mounted from another repository.
        present: the blobs that the target held already, or obtained for another tag at the same time.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.events: list[Event] = []
        self.uploaded = NOTHING
        self.mounted = NOTHING
        self.present = NOTHING
        self._present: set[Digest] = set()

    @property
    def blobs(self) -> int:
        """The number of blobs that the target holds now."""
        return self.uploaded.blobs + self.mounted.blobs + self.present.blobs

    @property
    def omitted(self) -> int:
        """The number of blobs without an event."""
        return max(0, self.blobs - bounds.TIMELINE_BLOBS)

    def add(self, step: Step, digest: Digest | None = None, *, size: int = 0, blobs: int = 0) -> None:
        """Record that a step was completed now."""
        self.events.append(Event(self.clock(), step, digest or "", size, blobs))

    def add_blob(
        self, digest: Digest, size: int, outcome: BlobOutcome, *, read: int = 0, source: RepositoryName | None = None
    ) -> bool:
        """Record that the target holds a blob now; `read` is the number of bytes that were read for it.

        Returns:
            Whether this was not recorded before.
        """
        if digest in self._present:
            if outcome is BlobOutcome.PRESENT:
                return False
            # The target did not hold it after all.
            self._present.discard(digest)
            self.present = Amount(self.present.blobs - 1, self.present.size - size)
        match outcome:
            case BlobOutcome.UPLOADED:
                self.uploaded = self.uploaded.plus(read)
            case BlobOutcome.MOUNTED:
                self.mounted = self.mounted.plus(size)
            case BlobOutcome.PRESENT:
                self.present = self.present.plus(size)
                self._present.add(digest)
        if self.blobs <= bounds.TIMELINE_BLOBS:
            self.events.append(Event(self.clock(), Step.BLOB, digest, size, 0, outcome, source or ""))
        return True
