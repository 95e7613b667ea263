"""`python -m bench.requests`: measure requests to tagferry's embedded registry and to other registries.

All registries run at once and get the same requests in turn, so that other load on the machine affects them alike. The
time is that of one request, on average over the connections; CPU is the server's. The figures are medians.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import machine
from bench.registries import docker_registry
from bench.requests.works import WORKS, Target, Work, filled
from bench.served import served
from tests.interop.programs import DISTRIBUTION, built
from tests.support.processes import exit_on_signals

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class _Server:
    """A running registry: its address, its process and its login, if it has one."""

    address: str
    process_id: int
    login: tuple[str, str] | None


@dataclass(frozen=True)
class _Sample:
    """One run: the seconds of a request, and the server's seconds of CPU for it."""

    seconds: float
    cpu: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = _options(arguments)
    works = [work for work in WORKS if not options.only or any(part in work.key for part in options.only)]
    os.chdir(_HERE.parent.parent)
    exit_on_signals()
    with tempfile.TemporaryDirectory(prefix="tagferry-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        targets: dict[str, tuple[Target, int]] = {}
        for registry, start in _REGISTRIES.items():
            server = stack.enter_context(start(folder / registry.replace(" ", "-")))
            files = folder / f"files-{len(targets)}"
            files.mkdir()
            target = filled(server.address, server.login, files, scale=options.scale)
            targets[registry] = target, server.process_id
        results = {work.key: _measure(work, targets, options.runs) for work in works}
    print(_table(results))
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "requests.md").write_text(_table(results))
        figures = {
            key: {of: [vars(one) for one in samples] for of, samples in by.items()} for key, by in results.items()
        }
        (options.out / "requests.json").write_text(json.dumps({**figures, "machine": machine.facts()}, indent=2) + "\n")
    return 0


def _measure(work: Work, targets: dict[str, tuple[Target, int]], runs: int) -> dict[str, list[_Sample]]:
    samples: dict[str, list[_Sample]] = {name: [] for name in targets}
    for _ in range(runs):
        for name, (target, process_id) in targets.items():
            used = _cpu(process_id)
            seconds = work.run(target)
            samples[name].append(_Sample(seconds, (_cpu(process_id) - used) / work.requests))
        line = ", ".join(f"{name} {_shown(one[-1].seconds)}" for name, one in samples.items())
        print(f"{work.key}: {line}", file=sys.stderr)
    return samples


@contextmanager
def _tagferry(folder: Path) -> Iterator[_Server]:
    with served(folder) as server:
        yield _Server(server.address, server.process_id, server.login)


def _distribution(program: Callable[[], str]) -> Callable[[Path], AbstractContextManager[_Server]]:
    @contextmanager
    def started(folder: Path) -> Iterator[_Server]:
        with docker_registry(folder, program=program()) as registry:
            yield _Server(registry.address, registry.process_id, None)

    return started


_REGISTRIES: dict[str, Callable[[Path], AbstractContextManager[_Server]]] = {
    "tagferry": _tagferry,
    "docker-registry 2.8": _distribution(lambda: "docker-registry"),
    "distribution 3": _distribution(lambda: built(DISTRIBUTION)),
}


def _table(results: dict[str, dict[str, list[_Sample]]]) -> str:
    """Return the medians, each registry's time and CPU for a request, and how often tagferry is faster."""
    names = list(_REGISTRIES)
    head = [f"{name}, time | CPU" for name in names] + [f"faster than {name}" for name in names[1:]]
    rows = ["| request | " + " | ".join(head) + " |", "|---|" + "--:|" * (2 * len(names) + len(names) - 1)]
    for key, samples in results.items():
        times = {name: median(one.seconds for one in samples[name]) for name in names}
        cpus = {name: median(one.cpu for one in samples[name]) for name in names}
        cells = [f"{_shown(times[name])} | {_shown(cpus[name])}" for name in names]
        cells += [f"{times[name] / times[names[0]]:.2f}\N{MULTIPLICATION SIGN}" for name in names[1:]]
        rows.append(f"| {key} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def _cpu(process_id: int) -> float:
    """Return the CPU seconds of a process by its CPU-time clock, which counts nanoseconds (Linux)."""
    return time.clock_gettime((~process_id << 3) | 2)


def _shown(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs" if seconds < 0.01 else f"{seconds:.3f} s"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.requests", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5, help="runs of each work (5)")
    parser.add_argument("--only", action="append", metavar="PART", help="works with this in their names; repeatable")
    parser.add_argument("--scale", type=int, default=1, help="divides the sizes of the large blobs")
    parser.add_argument("--out", type=Path, help="folder for requests.md and requests.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
