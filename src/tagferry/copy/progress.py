"""How far a tag's copy is and how fast it goes, readable at any moment and free of cost while nobody looks."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_WINDOW_SECONDS = 5.0
"""How far back the rate looks."""

_STEP_SECONDS = 0.5
"""Less time than this does not make a rate."""


@dataclass(slots=True, weakref_slot=True, eq=False)
class Transfer:
    """A blob on its way; those tags that share it share this.

    Attributes:
        size: bytes of the blob.
        moved: bytes that have been read from the source in the current attempt.
        read: bytes that have been read from the source in all attempts.
        settled: whether the target holds the blob.
    """

    size: int
    moved: int = 0
    read: int = 0
    settled: bool = False

    @property
    def done(self) -> int:
        """Bytes that need not move any more."""
        return self.size if self.settled else min(self.moved, self.size)

    def count(self, size: int) -> None:
        """Take note of further bytes."""
        self.moved += size
        self.read += size


class ProgressSnapshot(NamedTuple):
    """A copy as it is at one moment.

    Attributes:
        blobs_total: the tag's blobs.
        blobs_done: those that the target holds.
        bytes_per_second: what has come from the source in the last seconds; None where it is too early to tell.
        seconds_left: how long the rest takes at that rate; None where nobody can tell.
    """

    blobs_total: int
    blobs_done: int
    bytes_per_second: float | None
    seconds_left: float | None


@dataclass(slots=True)
class Progress:
    """A tag's copy: what it consists of, and how much of that is done.

    Attributes:
        transfers: one for each blob of the plan, once there is a plan.
        clock: seconds, monotonic.
    """

    transfers: Sequence[Transfer] = ()
    clock: Callable[[], float] = time.monotonic
    _looks: deque[tuple[float, int]] = field(default_factory=deque, init=False)

    def begin(self, transfers: Sequence[Transfer]) -> None:
        """Fill in what the plan is to move."""
        self.transfers = transfers
        self._looks = deque([(self.clock(), self._read)])

    @property
    def bytes_total(self) -> int:
        """Bytes of all the tag's blobs."""
        return sum(transfer.size for transfer in self.transfers)

    @property
    def bytes_done(self) -> int:
        """Bytes that the target holds or is just receiving."""
        return sum(transfer.done for transfer in self.transfers)

    @property
    def mark(self) -> tuple[int, ...]:
        """What changes whenever the copy makes progress."""
        settled = sum(transfer.settled for transfer in self.transfers)
        return len(self.transfers), settled, self._read

    def snapshot(self) -> ProgressSnapshot:
        """How the copy is now.

        The rate is that of the last five seconds. Who looks more seldom sees that since the last look, and who looks
        for the first time that since the beginning.
        """
        rate, rest = self._rate(), self.bytes_total - self.bytes_done
        return ProgressSnapshot(
            blobs_total=len(self.transfers),
            blobs_done=sum(transfer.settled for transfer in self.transfers),
            bytes_per_second=rate,
            seconds_left=rest / rate if rate else None,
        )

    @property
    def _read(self) -> int:
        return sum(transfer.read for transfer in self.transfers)

    def _rate(self) -> float | None:
        if not self._looks:
            return None
        now, read, looks = self.clock(), self._read, self._looks
        # A look from before the window counts only while no later one makes a rate.
        while len(looks) > 1 and looks[0][0] < now - _WINDOW_SECONDS and looks[1][0] <= now - _STEP_SECONDS:
            looks.popleft()
        since, before = looks[0]
        if looks[-1][0] <= now - _STEP_SECONDS:
            looks.append((now, read))
        return (read - before) / (now - since) if since <= now - _STEP_SECONDS else None
