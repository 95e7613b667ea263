"""`python -m bench.durable`: measure the queue and its workers, and write a table and the figures."""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import machine
from bench.durable import cluster, first_byte, in_place, load, report
from bench.figures import Figures
from bench.measure import Failed
from bench.registries import PROGRAM
from tests.support.postgres import PostgresServer, is_installed, postgres_server
from tests.support.processes import exit_on_signals

_HERE = Path(__file__).parents[1]
_ELSEWHERE = _HERE.parent / "build" / "bench"

Measure = Callable[[Path, PostgresServer], Figures]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = _options(arguments)
    if shutil.which(PROGRAM) is None or not is_installed():
        print(f"the benchmark needs {PROGRAM} and PostgreSQL; on Debian: apt install {PROGRAM} postgresql")
        return 2
    works = _works(quick=options.quick, dbos=options.dbos_python)
    if unknown := set(options.only or ()) - set(works):
        print(f"there is no work called {', '.join(sorted(unknown))}")
        return 2
    # Child processes find this package in their working directory.
    os.chdir(_HERE.parent)
    exit_on_signals()
    try:
        with tempfile.TemporaryDirectory(prefix="tagferry-bench-") as folder, postgres_server(durable=True) as postgres:
            results = {
                key: measure(Path(folder), postgres)
                for key, measure in works.items()
                if not options.only or key in options.only
            }
            about = {"machine": machine.facts(), "postgresql": postgres.version(), "quick": options.quick}
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    table = report.markdown(results, about)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "durable.md").write_text(table)
    (options.out / "durable.json").write_text(json.dumps({**results, "about": about}, indent=2) + "\n")
    print(table)
    return 0


def _works(*, quick: bool, dbos: str | None) -> dict[str, Measure]:
    def first(folder: Path, postgres: PostgresServer) -> Figures:
        return first_byte.measure(folder, postgres, requests=5 if quick else 50)

    def same(folder: Path, postgres: PostgresServer) -> Figures:
        return in_place.measure(folder, postgres, tags=20 if quick else 100, runs=2 if quick else 9)

    def queue(folder: Path, postgres: PostgresServer) -> Figures:
        jobs, compared = (400, 200) if quick else (10_000, 2_000)
        return load.measure(folder, postgres, jobs=jobs, compared=compared, dbos=dbos)

    def more_workers(folder: Path, postgres: PostgresServer) -> Figures:
        tags, workers = (20, (1, 2)) if quick else (200, (1, 2, 4))
        return cluster.measure(folder, postgres, tags=tags, workers=workers)

    return {"FIRST": first, "SAME": same, "QUEUE": queue, "CLUSTER": more_workers}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.durable", description=__doc__)
    parser.add_argument("--only", type=lambda text: text.split(","), help="works to measure, as FIRST,QUEUE")
    parser.add_argument("--quick", action="store_true", help="small works, to see that everything runs")
    parser.add_argument("--dbos-python", metavar="PATH", help="a Python that has DBOS Transact, to measure it beside")
    parser.add_argument(
        "--out", type=Path, help="folder for durable.*; by default bench, or build/bench unless all works run in full"
    )
    options = parser.parse_args(arguments)
    options.out = (options.out or (_ELSEWHERE if options.only or options.quick else _HERE)).resolve()
    return options


if __name__ == "__main__":
    sys.exit(main())
