"""`python -m bench.requests`: measure requests to tagferry's embedded registry, on both databases, and to others.

All registries run at once and get the same requests in turn, so that other load on the machine affects them alike. The
time is that of one request, on average over the connections; CPU is the server's. The figures are medians.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

from bench import machine
from bench.content import MIB
from bench.copying import room_for
from bench.measure import cpu_of, cpu_of_all, peak_rss_of
from bench.registries import PROGRAM, docker_registry
from bench.report import times
from bench.requests.works import WORKS, Target, Work, filled, remove_uploads
from bench.served import served
from tests.interop.programs import DISTRIBUTION, built
from tests.support.postgres import is_installed, postgres_server
from tests.support.processes import exit_on_signals

_HERE = Path(__file__).parent
_ROOM = 9 * 1024**3
_SQLITE, _POSTGRESQL = "tagferry", "tagferry on PostgreSQL"


@dataclass(frozen=True)
class _Server:
    """A running registry: its address, its process, its login, if it has one, and the process of its database."""

    address: str
    process_id: int
    login: tuple[str, str] | None = None
    database: int = 0

    def cpu(self) -> float:
        """Return the seconds of CPU so far, those of the database included."""
        return cpu_of(self.process_id) + cpu_of_all(self.database)


@dataclass(frozen=True)
class _Subject:
    """A running registry that is filled.

    Attributes:
        folder: its data.
    """

    server: _Server
    target: Target
    folder: Path


@dataclass(frozen=True)
class _Sample:
    """One run: the seconds of a request, and the server's seconds of CPU for it."""

    seconds: float
    cpu: float


_Results = dict[str, dict[str, list[_Sample]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = _options(arguments)
    works = [work for work in WORKS if not options.only or any(part in work.key for part in options.only)]
    os.chdir(_HERE.parent.parent)
    exit_on_signals()
    about = machine.facts()
    with tempfile.TemporaryDirectory(prefix="tagferry-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        room_for(folder, _ROOM // options.scale)
        subjects = {registry: _started(stack, registry, folder, options.scale) for registry in _registries()}
        results = {work.key: _measure(work, subjects, options.runs) for work in works}
        peaks = {registry: peak_rss_of(subject.server.process_id) for registry, subject in subjects.items()}
    report = f"{machine.sentence(about)}\n\n{_table(results)}\n{_peaks(peaks)}"
    print(report)
    out = options.out or (_HERE.parent if _is_full(options) else _HERE.parent.parent / "build" / "bench")
    out.mkdir(parents=True, exist_ok=True)
    (out / "requests.md").write_text(f"# Requests to the embedded registry\n\n{report}")
    figures = {key: {of: [vars(one) for one in samples] for of, samples in by.items()} for key, by in results.items()}
    (out / "requests.json").write_text(json.dumps({**figures, "peak_rss": peaks, "machine": about}, indent=2) + "\n")
    return 0


def _started(stack: ExitStack, registry: str, folder: Path, scale: int) -> _Subject:
    place, files = folder / registry.replace(" ", "-"), folder / "files"
    files.mkdir(exist_ok=True)
    server = stack.enter_context(_registries()[registry](place))
    return _Subject(server, filled(server.address, server.login, files, scale=scale), place)


def _measure(work: Work, subjects: dict[str, _Subject], runs: int) -> dict[str, list[_Sample]]:
    samples: dict[str, list[_Sample]] = {name: [] for name in subjects}
    names = list(subjects)
    for run in range(runs):
        # What only the first one pays, such as memory that the host of a virtual machine gives back, is paid by each.
        first = run % len(names)
        for name in names[first:] + names[:first]:
            subject = subjects[name]
            used = subject.server.cpu()
            seconds = work.run(subject.target)
            samples[name].append(_Sample(seconds, (subject.server.cpu() - used) / work.requests))
            remove_uploads(subject.target, subject.folder)
            # Unwritten data of this run must not slow down the next one.
            os.sync()
        line = ", ".join(f"{name} {_shown(one[-1].seconds)}" for name, one in samples.items())
        print(f"{work.key}: {line}", file=sys.stderr)
    return samples


@contextmanager
def _on_sqlite(folder: Path) -> Iterator[_Server]:
    with served(folder) as server:
        yield _Server(server.address, server.process_id, server.login)


@contextmanager
def _on_postgresql(folder: Path) -> Iterator[_Server]:
    with (
        postgres_server(durable=True) as postgres,
        served(folder, database_url=postgres.url(postgres.new_database())) as server,
    ):
        yield _Server(server.address, server.process_id, server.login, postgres.process_id)


def _distribution(program: Callable[[], str]) -> Callable[[Path], AbstractContextManager[_Server]]:
    @contextmanager
    def started(folder: Path) -> Iterator[_Server]:
        with docker_registry(folder, program=program()) as registry:
            yield _Server(registry.address, registry.process_id)

    return started


@cache
def _registries() -> dict[str, Callable[[Path], AbstractContextManager[_Server]]]:
    """Return what starts each registry; PostgreSQL is left out if it is not installed."""
    ours = {_SQLITE: _on_sqlite}
    if is_installed():
        ours[_POSTGRESQL] = _on_postgresql
    else:
        print("PostgreSQL is not installed: it is left out", file=sys.stderr)
    return ours | {
        "docker-registry 2.8": _distribution(lambda: PROGRAM),
        "distribution 3": _distribution(lambda: built(DISTRIBUTION)),
    }


def _table(results: _Results) -> str:
    """Return the medians, each registry's time and CPU for a request, and how often tagferry is faster."""
    ours = [name for name in (_SQLITE, _POSTGRESQL) if name in _registries()]
    heads = [f"{name} is faster by" for name in ours]
    rows = [f"| request | registry | time | CPU | {' | '.join(heads)} |", "|---|---|--:|--:|" + "--:|" * len(heads)]
    for key, samples in results.items():
        seconds = {name: median(one.seconds for one in samples[name]) for name in samples}
        for name in samples:
            ratios = ["" if name in ours else times(seconds[name] / seconds[mine]) for mine in ours]
            says = f"**{key}**" if name == _SQLITE else ""
            cpu = _shown(median(one.cpu for one in samples[name]))
            rows.append(f"| {says} | {name} | {_shown(seconds[name])} | {cpu} | {' | '.join(ratios)} |")
    return "\n".join(rows) + "\n"


def _peaks(peaks: dict[str, int]) -> str:
    shown = ", ".join(f"{name} {size / MIB:.0f} MiB" for name, size in peaks.items())
    return f"Peak memory of the servers: {shown}. PostgreSQL's processes are included in the CPU, not in the memory.\n"


def _shown(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs" if seconds < 0.01 else f"{seconds:.3f} s"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.requests", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5, help="runs of each work (5)")
    parser.add_argument("--only", action="append", metavar="PART", help="works with this in their names; repeatable")
    parser.add_argument("--scale", type=int, default=1, help="divides the sizes of the large blobs")
    parser.add_argument(
        "--out", type=Path, help="folder for requests.*; by default bench, or build/bench unless all works run in full"
    )
    return parser.parse_args(arguments)


def _is_full(options: argparse.Namespace) -> bool:
    return not options.only and options.scale == 1


if __name__ == "__main__":
    sys.exit(main())
