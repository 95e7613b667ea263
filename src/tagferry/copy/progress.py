"""How far a tag's copy is, readable at any moment and free of cost while nobody looks."""

from dataclasses import dataclass, field


@dataclass(slots=True, weakref_slot=True, eq=False)
class Transfer:
    """A blob on its way; those tags that share it share this.

    Attributes:
        size: bytes of the blob.
        moved: bytes that have been read from the source in the current attempt.
        settled: whether the target holds the blob.
    """

    size: int
    moved: int = 0
    settled: bool = False

    @property
    def done(self) -> int:
        """Bytes that need not move any more."""
        return self.size if self.settled else min(self.moved, self.size)


@dataclass(slots=True)
class Progress:
    """A tag's copy: what it consists of, and how much of that is done.

    Attributes:
        transfers: one for each blob of the plan, once there is a plan.
    """

    transfers: list[Transfer] = field(default_factory=list)

    @property
    def bytes_total(self) -> int:
        """Bytes of all the tag's blobs."""
        return sum(transfer.size for transfer in self.transfers)

    @property
    def bytes_done(self) -> int:
        """Bytes that the target holds or is just receiving."""
        return sum(transfer.done for transfer in self.transfers)
