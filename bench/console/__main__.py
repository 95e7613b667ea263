"""`python -m bench.console`: measure every page of the console with a large installation, and many open consoles.

The content is written directly to the directory and the database of `tagferry serve`, which then runs with two regions
in one process. The server is started before each page, whose first request is its first one. Times are from a request
to the last byte of its answer, on one kept connection on loopback.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import machine
from bench.console import beside, report
from bench.console.installation import DATABASES, installation
from bench.console.pages import Page, pages
from bench.console.scale import Scale
from bench.console.visits import Visit, visit_all
from tests.support.postgres import is_installed
from tests.support.processes import exit_on_signals

_ELSEWHERE = Path(__file__).parents[2] / "build" / "bench"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    options = _parser().parse_args(arguments)
    exit_on_signals()
    os.chdir(Path(__file__).parents[2])
    scale, about = Scale().divided(options.fraction), machine.facts()
    visits: dict[str, dict[str, Visit]] = {}
    besides: dict[str, list[beside.Beside]] = {}
    exits: dict[str, float] = {}
    databases = options.database or ["sqlite", *(["postgresql"] if is_installed() else [])]
    with tempfile.TemporaryDirectory(prefix="tagferry-console-") as name:
        for database in databases:
            with installation(Path(name), database, scale) as installed:
                head = DATABASES[database]
                print(f"filled {head}", file=sys.stderr)
                chosen = _chosen(pages(installed.filled, scale), options.only)
                visits[head] = visit_all(installed, chosen, samples=options.samples, with_starts=not options.one_start)
                if options.consoles:
                    numbers = {"consoles": options.consoles, "requests": options.requests, "tags": options.copies}
                    besides[head] = beside.measure(installed, **numbers)
                    exits[head] = beside.seconds_to_exit(installed, options.consoles)
    text = _text(visits, besides, exits, options.consoles)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    says = f"{machine.sentence(about)} The machine was {options.state}. {scale.describe()}."
    (options.out / "console.md").write_text(f"# The console\n\n{says}\n\n{text}\n")
    document: dict[str, Any] = {
        "pages": {head: {page: asdict(one) for page, one in found.items()} for head, found in visits.items()},
        "consoles": {head: [asdict(one) for one in found] for head, found in besides.items()},
        "exit": exits,
        "scale": asdict(scale),
        "machine": {**about, "state": options.state},
    }
    (options.out / "console.json").write_text(json.dumps(document, indent=2) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.console", description=__doc__)
    parser.add_argument("--database", action="append", choices=list(DATABASES), help="only this one; may be repeated")
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="pages with this in their names")
    parser.add_argument("--samples", type=int, default=9, help="requests for each page after the first one (9)")
    parser.add_argument("--one-start", action="store_true", help="start the server once, not before each page")
    parser.add_argument("--consoles", type=int, default=200, help="open consoles; 0 for none (200)")
    parser.add_argument("--requests", type=int, default=200, help="of each kind, to the API beside them (200)")
    parser.add_argument("--copies", type=int, default=200, help="jobs of 1 MiB that copy meanwhile (200)")
    parser.add_argument("--fraction", type=int, default=1, help="divides the numbers of everything, for a quick run")
    parser.add_argument("--state", default="idle", help="what else the machine did, for the report (idle)")
    parser.add_argument("--out", type=Path, default=_ELSEWHERE, help="folder for console.* (build/bench)")
    return parser


def _chosen(all_pages: list[Page], only: Sequence[str]) -> list[Page]:
    return [page for page in all_pages if not only or any(part in page.name for part in only)]


def _text(
    visits: dict[str, dict[str, Visit]],
    besides: dict[str, list[beside.Beside]],
    exits: dict[str, float],
    consoles: int,
) -> str:
    parts = [report.pages_table(visits), report.slow_pages(visits), report.transfers_table(next(iter(visits.values())))]
    if besides:
        parts.append(report.consoles_table(besides))
        ended = "; ".join(f"{head} {seconds:.2f} s" for head, seconds in exits.items())
        parts.append(f"From SIGTERM to the end of the process with {consoles} open consoles: {ended}.")
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
