"""Failed authentications are counted, and too many of them lock the name or key for a while."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from tagferry.errors import Throttled

_LIMIT = 10_000
_LONGEST = 64
"""So long is the longest name or key; of what is longer the beginning counts, so that it takes no more memory."""


@dataclass(slots=True)
class _Failures:
    count: int
    last: float


class Lockout:
    """Counts by who is claimed and from which address, so that nobody can lock out somebody else from afar."""

    def __init__(
        self, *, attempts: int = 5, seconds: float = 300.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._attempts = attempts
        self._seconds = seconds
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()

    def check(self, claimed: str, address: str) -> None:
        """Let an attempt pass; raises Throttled while locked."""
        claimed = claimed[:_LONGEST]
        failures = self._failures.get((claimed, address))
        if failures is None:
            return
        left = failures.last + self._seconds - self._clock()
        if left <= 0:
            del self._failures[claimed, address]
        elif failures.count >= self._attempts:
            raise Throttled(
                f"{claimed} is locked after {failures.count} failed authentications; try again in {left:.0f} s",
                retry_after=left,
            )

    def failed(self, claimed: str, address: str) -> None:
        """Count a failed attempt."""
        claimed = claimed[:_LONGEST]
        failures = self._failures.setdefault((claimed, address), _Failures(count=0, last=0.0))
        failures.count += 1
        failures.last = self._clock()
        self._failures.move_to_end((claimed, address))
        if len(self._failures) > _LIMIT:
            self._failures.popitem(last=False)

    def succeeded(self, claimed: str, address: str) -> None:
        """Forget the failures."""
        self._failures.pop((claimed[:_LONGEST], address), None)
