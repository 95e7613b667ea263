"""QUEUE: many jobs that do nothing, with tagferry's queue and with a peer's, each in its own process."""

import json
import subprocess
import sys
from pathlib import Path

from bench.durable.gauge import Load
from bench.figures import Figures
from bench.measure import Failed
from tests.support.postgres import PostgresServer

_ORGANIZATIONS, _SLOTS = 20, 32
_LIMIT_SECONDS = 1200.0


def measure(folder: Path, postgres: PostgresServer, *, jobs: int, compared: int, dbos: str | None) -> Figures:
    """Run that many jobs with tagferry, and a smaller number with both, if `dbos` is a Python that can import it."""
    figures: Figures = {"jobs": jobs, "compared": compared, "organizations": _ORGANIZATIONS, "slots": _SLOTS}
    for kind in ("sqlite", "postgresql"):

        def url(name: str, *, driver: str, kind: str = kind) -> str:
            if kind == "sqlite":
                return f"sqlite:///{folder / f'{name}.db'}"
            return postgres.url(postgres.new_database()).replace("+psycopg", driver)

        server = postgres.process_id if kind == "postgresql" else 0
        figures[kind] = {
            "whole": _run(sys.executable, "queue_load", url("whole", driver="+psycopg"), jobs, server),
            "part": _run(sys.executable, "queue_load", url("part", driver="+psycopg"), compared, server),
        }
        if dbos is not None:
            peer = _run(dbos, "dbos_peer", url("peer", driver=""), compared, server)
            figures["dbos_version"] = peer.pop("version")
            figures[kind]["dbos"] = peer
            figures[kind]["ratios"] = {
                name: round(peer[name] / figures[kind]["part"][name], 1)
                for name in ("total_s", "cpu_s", "newcomer_ms", "start_ms", "idle_cpu")
                if figures[kind]["part"][name]
            }
    return figures


def _run(python: str, module: str, url: str, jobs: int, server: int) -> Figures:
    load = Load(jobs, _ORGANIZATIONS, _SLOTS, server)
    numbers = [str(number) for number in (load.jobs, load.organizations, load.slots, load.server)]
    try:
        done = subprocess.run(
            [python, "-m", f"bench.durable.{module}", url, *numbers],
            capture_output=True,
            text=True,
            timeout=_LIMIT_SECONDS,
            check=True,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{module} failed: {str(error.stderr)[-3000:]}") from None
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    figures["jobs_per_s"] = round(jobs / figures["total_s"], 1)
    kind = url.partition(":")[0].partition("+")[0]
    print(f"QUEUE     {module:12}{kind:12}{jobs:7} jobs {figures['total_s']:.1f} s", file=sys.stderr)
    return figures
