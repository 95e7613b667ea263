"""The progress and rate of a tag's copy, computed only when they are read."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tagferry.copy.timeline import CopyTimeline
from tagferry.names import RepositoryName
from tagferry.oci.images import BlobOutcome

_WINDOW_SECONDS = 5.0
"""The time that a rate covers."""

_STEP_SECONDS = 0.5
"""The shortest time from which a rate is computed."""


class Transfer:
    """The transfer of a blob, shared by all tags that need it.

    Attributes:
        size: bytes of the blob.
        position: bytes read from the source in the current attempt, from the start of the blob.
        read: bytes read from the source in all attempts.
        is_held: whether the target holds the blob.
        outcome: how the target obtained it; None until it has, and once a tag has counted it.
        source: the repository that it was mounted from.
        counted: bytes of `read` that tags have counted.
        is_resumed: whether its upload continued one that had stopped.
    """

    def __init__(self, size: int, *, is_held: bool = False) -> None:
        self.size = size
        self.position = 0
        self.read = 0
        self.is_held = is_held
        self.outcome: BlobOutcome | None = None
        self.source: RepositoryName | None = None
        self.counted = 0
        self.is_resumed = False

    @property
    def done(self) -> int:
        """Bytes that need no further transfer."""
        return self.size if self.is_held else min(self.position, self.size)

    @property
    def uncounted(self) -> tuple[BlobOutcome, int]:
        """How the target obtained the blob, and the bytes read for that, unless a tag has counted it."""
        return self.outcome or BlobOutcome.PRESENT, self.read - self.counted

    def take_outcome(self) -> tuple[BlobOutcome, int]:
        """Return `uncounted`; the next tag finds the blob present."""
        taken = self.uncounted
        self.outcome, self.counted = None, self.read
        return taken

    def count(self, size: int) -> None:
        """Count further bytes that were read."""
        self.position += size
        self.read += size


class ProgressSnapshot(NamedTuple):
    """The progress of a copy at one moment.

    Attributes:
        blobs_total: the tag's blobs.
        blobs_done: the blobs that the target holds.
        bytes_per_second: the rate of reads from the source in the last seconds; None until it can be computed.
        seconds_left: the time that the rest takes at that rate; None if unknown.
    """

    blobs_total: int
    blobs_done: int
    bytes_per_second: float | None
    seconds_left: float | None


class Progress:
    """The progress of a tag's copy.

    Attributes:
        transfers: one for each blob of the plan; empty until there is a plan.
        early: the transfers that have begun before there was a plan.
        clock: seconds, monotonic.
        timeline: what the copy did.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.transfers: Sequence[Transfer] = ()
        self.early: list[Transfer] = []
        self.clock = clock
        self.timeline = CopyTimeline()
        self._samples: deque[tuple[float, int]] = deque()

    @property
    def known_transfers(self) -> Sequence[Transfer]:
        """The transfers of the plan, or those that have begun before there is one."""
        return self.transfers or self.early

    def begin(self, transfers: Sequence[Transfer]) -> None:
        """Start with the transfers of a plan."""
        self.transfers = transfers
        self._samples = deque([(self.clock(), self.bytes_read)])

    @property
    def bytes_total(self) -> int:
        """Bytes of all the tag's blobs."""
        return sum(transfer.size for transfer in self.transfers)

    @property
    def bytes_done(self) -> int:
        """Bytes that the target holds or is receiving."""
        return sum(transfer.done for transfer in self.transfers)

    @property
    def bytes_read(self) -> int:
        """Bytes read from the source in all attempts."""
        return sum(transfer.read for transfer in self.known_transfers)

    @property
    def state(self) -> tuple[int, ...]:
        """A value that changes whenever the copy makes progress."""
        held = sum(transfer.is_held for transfer in self.known_transfers)
        return len(self.transfers), held, self.bytes_read

    def snapshot(self) -> ProgressSnapshot:
        """Return the progress now.

        The rate is that of the last five seconds. If the previous snapshot is older, it is the rate since then; for the
        first snapshot, the rate since the start.
        """
        rate, rest = self._rate(), self.bytes_total - self.bytes_done
        return ProgressSnapshot(
            blobs_total=len(self.transfers),
            blobs_done=sum(transfer.is_held for transfer in self.transfers),
            bytes_per_second=rate,
            seconds_left=rest / rate if rate else None,
        )

    def _rate(self) -> float | None:
        if not self._samples:
            return None
        now, read, samples = self.clock(), self.bytes_read, self._samples
        # A sample from before the window counts only while no later one makes a rate.
        while len(samples) > 1 and samples[0][0] < now - _WINDOW_SECONDS and samples[1][0] <= now - _STEP_SECONDS:
            samples.popleft()
        since, before = samples[0]
        if samples[-1][0] <= now - _STEP_SECONDS:
            samples.append((now, read))
        return (read - before) / (now - since) if since <= now - _STEP_SECONDS else None
