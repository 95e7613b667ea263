"""`python -m bench`: measure tagferry and its peers, and write a table, a chart and the figures."""

import argparse
import compileall
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tagferry as tagferry_package
from bench import chart, embedded, figures, machine, report, speed
from bench.copying import Bench, room_for
from bench.measure import Failed
from bench.peers import TUNED, Peer, installed_peers, tagferry
from bench.registries import PROGRAM, docker_registry
from bench.works import Work, copying_works
from tests.support.processes import exit_on_signals

REG = "REG"
_HERE = Path(__file__).parent
_ELSEWHERE = _HERE.parent / "build" / "bench"
_IMAGES = _HERE.parent / "docs" / "images"
_ROOM = 8 * 1024**3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = _options(arguments)
    if missing := [program for program in (PROGRAM, "skopeo") if shutil.which(program) is None]:
        print(f"the benchmark needs {' and '.join(missing)}; on Debian: apt install {' '.join(missing)}")
        return 2
    works = copying_works(quick=options.quick)
    wanted = options.only or [*(work.key for work in works if work.by_default), REG]
    if unknown := set(wanted) - {REG, *(work.key for work in works)}:
        print(f"there is no work called {', '.join(sorted(unknown))}")
        return 2
    # Child processes find this package in their working directory.
    os.chdir(_HERE.parent)
    exit_on_signals()
    where = machine.facts()
    _compile()
    if shutil.which("go") is None:
        print("go is not on the PATH: the peers that are built are left out", file=sys.stderr)
    programs = [tagferry(), *installed_peers()]
    try:
        results = _measure([work for work in works if work.key in wanted], programs, options, reg=REG in wanted)
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    says = {work.key: work.says for work in works} | {REG: embedded.says(quick=options.quick)}
    about = {
        "machine": where,
        "programs": {program.name: program.version for program in programs},
        "quick": options.quick,
    }
    _write(options.out, results, says, about)
    return 0


def _compile() -> None:
    """Write bytecode, as pip does on installation: an editable install has none if PYTHONDONTWRITEBYTECODE is set."""
    for package in (*tagferry_package.__path__, str(_HERE)):
        compileall.compile_dir(package, quiet=1)


def _measure(
    works: Sequence[Work], programs: Sequence[Peer], options: argparse.Namespace, *, reg: bool
) -> dict[str, figures.Figures]:
    results: dict[str, figures.Figures] = {}
    with tempfile.TemporaryDirectory(prefix="tagferry-bench-") as name:
        folder = Path(name)
        room_for(folder, _ROOM)
        if works:
            with docker_registry(folder / "source") as source:
                bench = Bench(folder, source, programs, options.runs)
                for work in works:
                    results[work.key] = figures.of_copying(bench.measure(work))
        if reg:
            results[REG] = figures.of_embedded(embedded.measure(folder, runs=options.runs, quick=options.quick))
    return results


def _write(out: Path, results: dict[str, figures.Figures], says: dict[str, str], about: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    # First, so that nothing that was measured is lost.
    (out / "results.json").write_text(json.dumps({**results, "about": about}, indent=2) + "\n")
    table = report.markdown(results, says, about)
    (out / "results.md").write_text(table)
    peers = [name for name in about["programs"] if name != "tagferry" and not name.endswith(TUNED)]
    (out / "results.svg").write_text(chart.svg(results, peers))
    if speed.WORKS.keys() <= results.keys():
        # The README shows these of the run in full.
        images = _IMAGES if out == _HERE else out
        for scheme, colors in speed.COLORS.items():
            (images / f"speed-{scheme}.svg").write_text(speed.svg(results, peers, colors))
    print(table)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--runs", type=int, help="runs of each program (5; 1 with --quick); short works get three times as many"
    )
    parser.add_argument("--only", type=lambda text: text.split(","), help="works to measure, as BIG,MANY")
    parser.add_argument("--quick", action="store_true", help="small works, to see that everything runs")
    parser.add_argument(
        "--out", type=Path, help="folder for results.*; by default bench, or build/bench unless all works run in full"
    )
    options = parser.parse_args(arguments)
    options.runs = options.runs or (1 if options.quick else 5)
    options.out = (options.out or (_ELSEWHERE if options.only or options.quick else _HERE)).resolve()
    return options


if __name__ == "__main__":
    sys.exit(main())
