"""`python -m bench.lists --against OTHER/bin/python`: compare lists with those of the tagferry of that Python.

Both servers have the same content and get requests in turn, so that other load on the machine affects both alike. CPU
is the time that the kernel attributes to the process with its threads. The figures are medians; a ratio below 1 means
that this one costs less. The first line of each kind is a server's first request, of which there is one sample. The
last line compares two lists of this tagferry: its "before" is the list of a hundred jobs.

`--scale` measures this tagferry alone: its start, its memory and its lists, as repositories and jobs grow tenfold.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path

from bench.cost.exchange import Signed
from bench.cost.table import Sample, Table
from bench.lists import scale
from bench.lists.content import Shelf, add_jobs
from bench.measure import cpu_of
from bench.served import ORGANIZATION, Tagferry, served
from tests.support.processes import exit_on_signals

_REPOSITORIES = f"/v2/manage/namespaces/{ORGANIZATION}/repos"
_ELSEWHERE = Path(__file__).parents[2] / "build" / "bench"
_MANY = 10_000
_JOBS = 100_000
_REQUESTS = 10
"""Requests of a sample: the first one finds the caches of the processor cold, since the other server had its turn."""
_MORE_REQUESTS = 50
"""Requests of a sample of two lists that differ by a few percent."""
_LONG = 1.0
"""Seconds after which a sample makes no further request."""
_Asked = tuple[str, str]
_TAGS: dict[str, _Asked] = {
    "tags of 100": (f"{_REPOSITORIES}/hundred/tags", ""),
    "10 of 100 tags": (f"{_REPOSITORIES}/hundred/tags", "limit=10"),
    "10 of 10,000 tags": (f"{_REPOSITORIES}/many/tags", "limit=10"),
    "10 of 10,000 tags by name": (f"{_REPOSITORIES}/many/tags", "limit=10&order_column=name"),
    "10 of 10,000 tags, v3": (f"/v3{_REPOSITORIES[3:]}/many/tags", "limit=10"),
}
_REPOS: dict[str, _Asked] = {
    "overview of 10,000 repositories": ("/v2/manage/overview", ""),
    "100 of 10,000 repositories": ("/v2/manage/repos", "limit=100"),
    "10 of 10,000 repositories": ("/v2/manage/repos", "limit=10"),
    "10 of 10,000 by update": ("/v2/manage/repos", "limit=10&order_column=updated_time&order_type=desc"),
    "10 of 10,000, v3": ("/v3/manage/repos", "limit=10"),
}
_LISTED_JOBS: dict[str, _Asked] = {
    "100 jobs": (f"{_REPOSITORIES}/few/sync_job", ""),
    "100 of 100,000 jobs": (f"{_REPOSITORIES}/jobs/sync_job", ""),
    "100 failed of 100,000 jobs": (f"{_REPOSITORIES}/jobs/sync_job", "filter=status%3A%3Afailed"),
    "two statuses of 100,000 jobs": (f"{_REPOSITORIES}/jobs/sync_job", "filter=status%3A%3Afailed%2Csuccess"),
}


FILTERED = "100 failed of 100,000 jobs, beside 100 of 100"
"""The line that compares a filtered list with one of as many jobs that is not filtered, of the same server."""


class _Subject:
    """A served tagferry with the content of one kind of list."""

    def __init__(self, stack: ExitStack, folder: Path, python: str, fill: Callable[[Path], object]) -> None:
        self._server: Tagferry = stack.enter_context(served(folder, python=python))
        self._serial = count()
        self._shelf = Shelf(folder / "data")
        fill(folder / "data")

    def sample(self, asked: _Asked, times: int) -> list[Sample]:
        """Make a request several times, or less often if it takes long."""
        # A kept connection would be closed while the other server is measured.
        signed = Signed(self._server)
        used, begun = cpu_of(self._server.process_id), time.perf_counter()
        made = 0
        while made < times and time.perf_counter() - begun < _LONG:
            signed.ask("GET", *asked)
            made += 1
        used = cpu_of(self._server.process_id) - used
        return [(used / made, (time.perf_counter() - begun) / made)]

    def sample_changed(self, asked: _Asked) -> list[Sample]:
        """Make a request right after a tag was moved."""
        self._shelf.move("many", f"v{next(self._serial) % _MANY}", "v5000")
        return self.sample(asked, 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.lists", description=__doc__)
    parser.add_argument(
        "--against", type=Path, default=Path(sys.executable), help="a Python that has the other tagferry installed"
    )
    parser.add_argument("--pairs", type=int, default=5, help="samples of each (5)")
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="lists with this in their names")
    parser.add_argument("--scale", action="store_true", help="measure how this tagferry's lists grow")
    parser.add_argument("--out", type=Path, default=_ELSEWHERE, help="folder for lists.* or scale.* (build/bench)")
    parser.add_argument("--fraction", type=int, default=1, help="divides the numbers of --scale, for a quick run")
    options = parser.parse_args(arguments)
    exit_on_signals()
    os.chdir(Path(__file__).parents[2])
    with tempfile.TemporaryDirectory(prefix="tagferry-lists-") as name:
        if options.scale:
            few = [(repositories // options.fraction, jobs // options.fraction) for repositories, jobs in scale.SIZES]
            scale.measure(Path(name), few, options.out)
        else:
            table = Table(options.pairs, options.only)
            _compare(table, Path(name), str(options.against.absolute()))
            table.save(options.out, "lists", options.against)
    return 0


def _compare(table: Table, folder: Path, other: str) -> None:
    kinds: tuple[tuple[dict[str, _Asked], Callable[[Path], object]], ...] = (
        (_TAGS, _fill_tags),
        (_REPOS, _fill_repositories),
        (_LISTED_JOBS, _fill_jobs),
    )
    for asked, fill in kinds:
        if not table.wants(*asked):
            continue
        with ExitStack() as stack:
            before = _Subject(stack, folder / "before", other, fill)
            after = _Subject(stack, folder / "after", sys.executable, fill)
            for key, path in asked.items():
                if not table.wants(key):
                    continue
                table.once(f"{key}, first", partial(before.sample, path, 1), partial(after.sample, path, 1))
                samples = partial(before.sample, path, _REQUESTS), partial(after.sample, path, _REQUESTS)
                table.measure([key], *samples)
                if "10,000 tags" in key:
                    changed = partial(before.sample_changed, path), partial(after.sample_changed, path)
                    table.measure([f"{key}, one moved"], *changed)
            if asked is _LISTED_JOBS:
                few, failed = asked["100 jobs"], asked["100 failed of 100,000 jobs"]
                samples = partial(after.sample, few, _MORE_REQUESTS), partial(after.sample, failed, _MORE_REQUESTS)
                table.measure([FILTERED], *samples)


def _fill_tags(data: Path) -> None:
    shelf = Shelf(data)
    shelf.add("hundred", 100)
    shelf.add("many", _MANY)


def _fill_repositories(data: Path) -> None:
    shelf = Shelf(data)
    for number in range(_MANY):
        shelf.add(f"r{number:05}", 1)


def _fill_jobs(data: Path) -> None:
    database = data / "tagferry.db"
    add_jobs(database, "few", 100)
    add_jobs(database, "jobs", _JOBS)


if __name__ == "__main__":
    sys.exit(main())
