"""`python -m bench.cost --against OTHER/bin/python`: compare the cost of requests with the tagferry of that Python.

Both servers run at once and get requests in turn, so that other load on the machine affects both alike. CPU is the time
that the kernel attributes to the process with its threads. The figures are medians; a ratio above 1 means that this one
costs more.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.client import RegistryClient
from bench.content import KIB, MIB, many_tags, one_image
from bench.cost.regions import two_regions
from bench.cost.table import Sample, Table
from bench.cost.works import MANAGEMENT, REGIONS, REGISTRY, SYNCED, TAGS, Asked, Management, Registry, Work
from bench.measure import cpu_of, run
from bench.registries import docker_registry
from bench.served import ORGANIZATION, Tagferry, served
from tests.support.processes import exit_on_signals

_ELSEWHERE = Path(__file__).parents[2] / "build" / "bench"
_COMMAND = "from tagferry.cli import main; main()"
_COMMANDS = ("tagferry --version", "tagferry --help")
_PARSED = ("parse an image of 10 layers", "parse an index of 8 images")
_LARGE = "copy 1 GiB"
_MANY = f"copy {TAGS} tags"
_SAME = f"copy {TAGS} tags in place"
_COPIES = (_SAME, _MANY, _LARGE)
_START = "serve until ready"


def _keys(works: Sequence[Work[Any]]) -> list[str]:
    return [work.key for work in works]


_KEYS = (*_COMMANDS, *_PARSED, _START, *_keys(REGISTRY), *_keys(MANAGEMENT), *_keys(REGIONS), *_COPIES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.cost", description=__doc__)
    parser.add_argument("--against", required=True, type=Path, help="a Python that has the other tagferry installed")
    parser.add_argument("--pairs", type=int, default=9, help="samples of each (9)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="PART", help="works with this in their names; may be repeated"
    )
    parser.add_argument("--out", type=Path, default=_ELSEWHERE, help="folder for cost.* (build/bench)")
    options = parser.parse_args(arguments)
    if unknown := [part for part in options.only if not any(part in key for key in _KEYS)]:
        parser.error(f"no work has {unknown[0]!r} in its name; there are: {'; '.join(_KEYS)}")
    other = str(options.against.absolute())
    exit_on_signals()
    os.chdir(Path(__file__).parents[2])
    table = Table(options.pairs, options.only)
    with tempfile.TemporaryDirectory(prefix="tagferry-cost-") as name:
        folder = Path(name)
        _programs(table, folder, other)
        _embedded(table, folder, other)
        _between_regions(table, folder, other)
        _between_registries(table, folder, other)
    table.save(options.out, "cost", options.against)
    return 0


def _programs(table: Table, folder: Path, other: str) -> None:
    for key in _COMMANDS:

        def once(python: str, option: str = key.split()[1]) -> list[Sample]:
            measured = [run([python, "-c", _COMMAND, option], log=folder / "log", timeout=60) for _ in range(3)]
            return [(sum(one.cpu for one in measured) / 3, sum(one.wall for one in measured) / 3)]

        _pair(table, [key], once, other)
    _pair(table, _PARSED, _parsed, other)

    def start(python: str) -> list[Sample]:
        begun = time.perf_counter()
        with served(folder / "start", python=python) as server:
            return [(cpu_of(server.process_id), time.perf_counter() - begun)]

    _pair(table, [_START], start, other)


def _embedded(table: Table, folder: Path, other: str) -> None:
    if table.wants(*_keys(REGISTRY)):
        with served(folder / "before", python=other) as before, served(folder / "after") as after:
            _requests(table, REGISTRY, Registry, before, after)


def _between_regions(table: Table, folder: Path, other: str) -> None:
    if table.wants(*_keys(REGIONS)):
        with two_regions(folder / "before", other) as before, two_regions(folder / "after", sys.executable) as after:
            _requests(table, REGIONS, Management, before, after)


def _between_registries(table: Table, folder: Path, other: str) -> None:
    if not table.wants(*_keys(MANAGEMENT), *_COPIES):
        return
    with docker_registry(folder / "source") as source, docker_registry(folder / "target") as target:

        def copied(python: str, goal: str, repository: str, tags: list[str]) -> list[Sample]:
            command = [python, "-m", "bench.cost.copy_tags", source.address, goal, repository, *tags]
            measured = run(command, log=folder / "log", timeout=300)
            return [(measured.cpu, measured.wall)]

        def anew(python: str, repository: str, tags: list[str]) -> list[Sample]:
            with docker_registry(folder / "empty") as empty:
                return copied(python, empty.address, repository, tags)

        if table.wants(*_keys(MANAGEMENT), _SAME, _MANY):
            with RegistryClient(source.address) as client:
                many = many_tags(client, f"{ORGANIZATION}/{SYNCED}", tags=TAGS, layer_size=2 * KIB)
            _managed(table, folder, other, (source.address, target.address))
            # The first copy, which is not measured, copies everything.
            _pair(table, [_SAME], lambda python: copied(python, target.address, many.repository, many.tags), other)
            _pair(table, [_MANY], lambda python: anew(python, many.repository, many.tags), other)
        if table.wants(_LARGE):
            with RegistryClient(source.address) as client:
                large = one_image(client, f"{ORGANIZATION}/large", layers=1, layer_size=1024 * MIB)
            _pair(table, [_LARGE], lambda python: anew(python, large.repository, large.tags), other)


def _managed(table: Table, folder: Path, other: str, registries: Sequence[str]) -> None:
    if table.wants(*_keys(MANAGEMENT)):
        with (
            served(folder / "before", registries, python=other) as before,
            served(folder / "after", registries) as after,
        ):
            _requests(table, MANAGEMENT, Management, before, after)


def _pair(table: Table, keys: Sequence[str], once: Callable[[str], list[Sample]], other: str) -> None:
    table.measure(keys, lambda: once(other), lambda: once(sys.executable))


def _requests(
    table: Table, works: Sequence[Work[Asked]], filled: Callable[[Tagferry], Asked], before: Tagferry, after: Tagferry
) -> None:
    old, new = filled(before), filled(after)
    for work in works:
        first = partial(_sample, work, old, before.process_id)
        table.measure([work.key], first, partial(_sample, work, new, after.process_id))


def _sample(work: Work[Asked], asked: Asked, process_id: int) -> list[Sample]:
    used, begun = cpu_of(process_id), time.perf_counter()
    for _ in range(work.times):
        work.once(asked)
    return [((cpu_of(process_id) - used) / work.times, (time.perf_counter() - begun) / work.times)]


def _parsed(python: str) -> list[Sample]:
    command = [python, "-m", "bench.cost.parsing"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [(seconds, seconds) for seconds in map(float, answer.stdout.split())]


if __name__ == "__main__":
    sys.exit(main())
