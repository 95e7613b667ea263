"""The resources of a running server: memory, descriptors, threads, sockets, disk and rows, every few seconds."""

import os
import re
import sqlite3
import statistics
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Bound:
    """The allowed growth from the second to the last quarter: a share, and an additional amount."""

    share: float
    amount: float


BOUNDS = {
    "memory (MiB)": Bound(0.05, 24.0),
    "descriptors": Bound(0.1, 40.0),
    "threads": Bound(0.0, 8.0),
    "sockets": Bound(0.1, 40.0),
}
"""The resources that must not grow. Disk and rows are only shown, since they depend on what is pushed and kept."""


@dataclass
class Series:
    """Samples by resource, in order."""

    values: dict[str, list[float]] = field(default_factory=dict)
    peak: float = 0.0

    def take(self, process_id: int, data: Path) -> None:
        """Take one sample of each kind; raises OSError if the process has ended."""
        status = Path(f"/proc/{process_id}/status").read_text()
        descriptors = _descriptors(process_id)
        self._add("memory (MiB)", _number(status, "VmRSS") / 1024)
        self._add("descriptors", len(descriptors))
        self._add("threads", _number(status, "Threads"))
        self._add("sockets", sum(1 for target in descriptors if target.startswith("socket:")))
        self._add("disk (MiB)", _disk(data) / _MIB)
        for table, rows in _rows(data / "tagferry.db"):
            self._add(f"rows of {table}", rows)
        self.peak = max(self.peak, _number(status, "VmHWM") / 1024)

    def quarters(self) -> Iterator[tuple[str, list[float]]]:
        """Return the mean of each quarter of the time, by resource."""
        for name, values in self.values.items():
            length = len(values) // 4
            if length:
                yield name, [statistics.fmean(values[at * length : (at + 1) * length]) for at in range(4)]

    def growing(self) -> Iterator[str]:
        """Return the resources that grow; the first quarter is warm-up, the last must not be far above the second."""
        for name, (_, second, _, last) in self.quarters():
            bound = BOUNDS.get(name)
            if bound is not None and last > second * (1 + bound.share) + bound.amount:
                yield f"{name} grew from {second:.1f} in the second quarter to {last:.1f} in the last one"

    def _add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)


def _number(status: str, name: str) -> int:
    return int(re.findall(rf"{name}:\s+(\d+)", status)[0])


def _descriptors(process_id: int) -> list[str]:
    folder, found = f"/proc/{process_id}/fd", []
    for name in os.listdir(folder):  # noqa: PTH208 - these are links that may be gone a moment later
        try:
            found.append(os.readlink(f"{folder}/{name}"))  # noqa: PTH115
        except FileNotFoundError:
            continue
    return found


def _disk(folder: Path) -> int:
    """Return the bytes of the files, counting those with several links once."""
    sizes = {}
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.stat(f"{place}/{name}")  # noqa: PTH116
            except FileNotFoundError:
                continue
            sizes[status.st_ino] = status.st_blocks * 512
    return sum(sizes.values())


def _rows(database: Path) -> Iterator[tuple[str, int]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in sorted(tables):
            yield table, connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]  # noqa: S608
