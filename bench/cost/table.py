"""The table of a comparison, and the measured samples."""

from collections.abc import Callable, Sequence

from bench.measure import middle

Sample = tuple[float, float]
"""Seconds of CPU and of wall time."""


class Table:
    """Measures both in turn, and prints each line as soon as it is known."""

    def __init__(self, pairs: int, only: Sequence[str]) -> None:
        self._pairs = pairs
        self._only = only
        print(f"{'':34}{'CPU before':>12}{'after':>12}{'ratio':>8}{'time ratio':>12}", flush=True)

    def wants(self, *keys: str) -> bool:
        """Return whether one of these workloads is selected."""
        return not self._only or any(part in key for part in self._only for key in keys)

    def measure(
        self, keys: Sequence[str], before: Callable[[], list[Sample]], after: Callable[[], list[Sample]]
    ) -> None:
        """Take samples of both in turn; each has one for every key."""
        if not self.wants(*keys):
            return
        before(), after()
        self._measure(keys, before, after, self._pairs)

    def once(self, key: str, before: Callable[[], list[Sample]], after: Callable[[], list[Sample]]) -> None:
        """Take one sample of both, without an earlier request."""
        if self.wants(key):
            self._measure([key], before, after, 1)

    def _measure(
        self,
        keys: Sequence[str],
        before: Callable[[], list[Sample]],
        after: Callable[[], list[Sample]],
        pairs_wanted: int,
    ) -> None:
        pairs = []
        for turn in range(pairs_wanted):
            # The second one may find warm caches, so the order alternates.
            first, second = (before, after) if turn % 2 == 0 else (after, before)
            samples = {first: first(), second: second()}
            pairs.append((samples[before], samples[after]))
        for place, key in enumerate(keys):
            earlier = [one[place] for one, _ in pairs]
            later = [one[place] for _, one in pairs]
            cpu = middle([new[0] / old[0] for old, new in zip(earlier, later, strict=True)])
            wall = middle([new[1] / old[1] for old, new in zip(earlier, later, strict=True)])
            figures = [shown(middle([one[0] for one in samples])) for samples in (earlier, later)]
            print(f"{key:34}{figures[0]:>12}{figures[1]:>12}{cpu:8.3f}{wall:12.3f}", flush=True)


def shown(seconds: float) -> str:
    """Return seconds as text."""
    return f"{seconds * 1e6:.0f} µs" if seconds < 0.01 else f"{seconds:.3f} s"
