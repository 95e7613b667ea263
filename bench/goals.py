"""`python -m bench.goals`: compare the results with the goals, in one table.

It measures nothing, and reads what the other benchmarks wrote to a folder. Each value is a ratio, and more is better
for tagferry: a goal is met if the value is at least as high. Equal figures differ from run to run, so a goal of 1.00
is also met within 3 %, and the table says "level" then.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import machine
from bench.lists.__main__ import FILTERED
from bench.measure import MIB
from bench.peers import TUNED
from bench.report import times

_HERE = Path(__file__).parent
_DR2, _DR3 = "docker-registry 2.8", "distribution 3"
_SQLITE, _POSTGRESQL = "tagferry", "tagferry on PostgreSQL"
_MOST_REQUESTS = 1130
_LEVEL = 0.97
"""From here on, a figure counts as equal to the one that it is compared with."""
Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Goal:
    """A ratio that is to be reached.

    Attributes:
        file: the results that have it, without their suffix.
        says: what is compared.
        least: the goal.
        value: returns the ratio; raises KeyError if it was not measured.
    """

    file: str
    says: str
    least: float
    value: Callable[[Figures], float]


def _request(
    work: str, peer: str, least: float, *, ours: str = _SQLITE, of: str = "seconds", says: str = "time"
) -> Goal:
    def value(figures: Figures) -> float:
        samples = figures[work]
        theirs, mine = (median(float(one[of]) for one in samples[name]) for name in (peer, ours))
        return theirs / mine

    database = "" if ours == _SQLITE else ", with PostgreSQL"
    return Goal("requests", f"{work}: {says}, {peer}{database}", least, value)


def _before(file: str, work: str, least: float) -> Goal:
    return Goal(file, f"{work}: time, the version before", least, lambda figures: 1 / figures[work]["wall"])


def _copy(work: str, peer: str, least: float, *, cpu: bool = False) -> Goal:
    def value(figures: Figures) -> float:
        one = figures[work]
        return float(one[f"{peer}_cpu_s"] / one["cpu_s"] if cpu else one[f"{peer}_s"] / one["tagferry_s"])

    return Goal("results", f"{work}: {'CPU' if cpu else 'time'}, {peer}", least, value)


def _copies() -> Iterator[Goal]:
    for crane in ("crane", f"crane{TUNED}"):
        yield _copy("SAME", crane, 1.0)
        yield _copy("MANY", crane, 1.3)
        yield _copy("WIDE", crane, 1.2)
        yield _copy("BIG", crane, 1.0)
        yield _copy("BIG", crane, 3.0, cpu=True)
        yield _copy("MANY-100ms", crane, 3.0)
        yield _copy("SAME-100ms", crane, 3.0)
    for skopeo in ("skopeo-modules", f"skopeo-modules{TUNED}"):
        yield _copy("MANY", skopeo, 2.4)
    says = f"MANY: requests, {_MOST_REQUESTS:,}"
    yield Goal("results", says, 1.0, lambda figures: _MOST_REQUESTS / float(figures["MANY"]["requests"]))
    says = "SAME: time, Python's start alone, with asyncio, ssl and uvloop"
    yield Goal("results", says, 0.0, lambda figures: float(figures["SAME"]["floor_s"] / figures["SAME"]["tagferry_s"]))


def _resent(figures: Figures) -> float:
    most = max(max(sizes) for column, sizes in figures["sent_again"].items() if column.startswith("embedded"))
    return float(figures["bound"] / max(most, MIB))


_GET = "manifest GET by tag, 16 connections"
_BLOB = "blob GET 10 KiB, 16 connections"
_TAGS = "tags/list of 100, 16 connections"
_PULL, _PUSH = "pull 512 MiB, cached", "push 1 GiB"
_GOALS = (
    _request(_GET, _DR2, 3.0),
    _request(_GET, _DR2, 2.5, ours=_POSTGRESQL),
    _request(_GET, _DR3, 1.0, of="cpu", says="CPU"),
    _request(_BLOB, _DR2, 4.0),
    _request(_BLOB, _DR3, 2.0),
    _request(_TAGS, _DR2, 2.5),
    _request(_PULL, _DR2, 1.2),
    _request(_PULL, _DR3, 1.2),
    _request(_PULL, _DR2, 1 / 0.6, of="cpu", says="CPU"),
    _request("blob push 10 KiB, 1 connection", _DR2, 1.5),
    _request("blob push 10 KiB, 8 connections", _DR2, 1.3),
    _request("manifest PUT, 1 connection", _DR2, 1.3),
    _request("manifest PUT, 8 connections", _DR2, 1.0),
    _request(_PUSH, _DR2, 1.5),
    _request(_PUSH, _DR3, 1.0),
    _before("cost", "sync of 100 tags, embedded regions", 3.0),
    _before("cost", "sync of 1 tag, embedded regions", 1.5),
    _before("lists", "tags of 100", 10.0),
    _before("lists", "10 of 10,000 tags", 25.0),
    _before("lists", "overview of 10,000 repositories", 5.0),
    _before("lists", "100 of 10,000 repositories", 20.0),
    Goal(
        "lists",
        "100 failed of 100,000 jobs: CPU, 100 of 100 jobs",
        1.0,
        lambda figures: 1 / figures[FILTERED]["cpu"],
    ),
    *_copies(),
    Goal("scale", "10,000 repositories, 1,000,000 jobs: growth, linear growth", 1.0, lambda figures: figures["linear"]),
    Goal("interrupted", "interrupted copies: bytes sent again, one chunk of each layer", 1.0, _resent),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and write it to `goals.md` in the same folder; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.goals", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=_HERE, help="folder with the results (bench)")
    folder = parser.parse_args(arguments).folder
    results = {file: _read(folder / f"{file}.json") for file in dict.fromkeys(goal.file for goal in _GOALS)}
    rows = ["| tagferry is better by, compared with | goal | measured | |", "|---|--:|--:|---|"]
    rows += [_row(goal, results[goal.file]) for goal in _GOALS]
    table = "\n".join([*rows, "", *_measured(results), ""])
    (folder / "goals.md").write_text(f"# Goals\n\n{table}")
    print(table)
    return 0


def _read(path: Path) -> Figures:
    figures: Figures = json.loads(path.read_text()) if path.is_file() else {}
    return figures


def _row(goal: Goal, figures: Figures) -> str:
    least = times(goal.least) if goal.least else ""
    try:
        value = goal.value(figures)
    except KeyError:
        return f"| {goal.says} | {least} | | not measured |"
    return f"| {goal.says} | {least} | {times(value)} | {_verdict(goal.least, value)} |"


def _verdict(least: float, value: float) -> str:
    if not least:
        return ""
    if value >= least:
        return "met"
    return "met (level)" if least == 1.0 and value >= _LEVEL else "**missed**"


def _measured(results: Mapping[str, Figures]) -> Iterator[str]:
    for file, figures in results.items():
        about = figures.get("machine") or figures.get("about", {}).get("machine")
        if about:
            small = ", a quick run of small works" if figures.get("about", {}).get("quick") else ""
            yield f"- {file}{small}: {machine.sentence(about)}"


if __name__ == "__main__":
    sys.exit(main())
