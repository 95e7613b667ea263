"""The table of a comparison, and the measured samples."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import machine
from bench.measure import middle
from bench.report import TIMES

Sample = tuple[float, float]
"""Seconds of CPU and of wall time."""


class Table:
    """Measures both in turn, and prints each line as soon as it is known."""

    def __init__(self, pairs: int, only: Sequence[str]) -> None:
        self._pairs = pairs
        self._only = only
        self._about = machine.facts()
        self._lines: dict[str, dict[str, float]] = {}
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
            before_cpu, after_cpu = (middle([one[0] for one in samples]) for samples in (earlier, later))
            self._lines[key] = {"before_cpu_s": before_cpu, "after_cpu_s": after_cpu, "cpu": cpu, "wall": wall}
            print(f"{key:34}{shown(before_cpu):>12}{shown(after_cpu):>12}{cpu:8.3f}{wall:12.3f}", flush=True)

    def save(self, out: Path, name: str, other: Path) -> None:
        """Write what was measured to NAME.md and NAME.json in a folder.

        Args:
            out: the folder.
            name: of the files.
            other: the Python whose tagferry is the one before.
        """
        about = self._about | {"before": machine.commit(other.absolute().parents[2])}
        rows = [
            f"| {key} | {shown(line['before_cpu_s'])} | {shown(line['after_cpu_s'])} | {1 / line['cpu']:.2f}{TIMES} "
            f"| {1 / line['wall']:.2f}{TIMES} |"
            for key, line in self._lines.items()
        ]
        head = ["| request | CPU before | CPU | less CPU by | faster by |", "|---|--:|--:|--:|--:|"]
        says = f"{machine.sentence(about)} Before: commit {about['before']}."
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{name}.md").write_text("\n".join([says, "", *head, *rows, ""]))
        (out / f"{name}.json").write_text(json.dumps({**self._lines, "machine": about}, indent=2) + "\n")


def shown(seconds: float) -> str:
    """Return seconds as text."""
    return f"{seconds * 1e6:.0f} µs" if seconds < 0.01 else f"{seconds:.3f} s"
