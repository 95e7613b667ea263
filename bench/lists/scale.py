"""How the start, the memory and the lists of a server grow with its repositories and jobs."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.cost.exchange import Connection, Signed
from bench.cost.table import shown
from bench.lists.content import Shelf, add_jobs
from bench.measure import MIB, cpu_of, middle, peak_rss_of
from bench.registries import free_address
from bench.served import ORGANIZATION, SOURCE_REGION, Tagferry, served
from tests.support.processes import stop, tied

_SIZES = ((1000, 100_000), (10_000, 1_000_000))
"""Repositories, and jobs of one of them."""
_REPOSITORIES = f"/v2/manage/namespaces/{ORGANIZATION}/repos"
_LISTS = {
    "overview": ("/v2/manage/overview", ""),
    "100 repositories": ("/v2/manage/repos", "limit=100"),
    "10 repositories by update": ("/v2/manage/repos", "limit=10&order_column=updated_time&order_type=desc"),
    "10 repositories, v3": ("/v3/manage/repos", "limit=10"),
    "tags of a repository": (f"{_REPOSITORIES}/r00000/tags", ""),
    "100 jobs": (f"{_REPOSITORIES}/r00000/sync_job", ""),
    "100 failed jobs": (f"{_REPOSITORIES}/r00000/sync_job", "filter=status%3A%3Afailed"),
}
_START_SECONDS = 120.0
_SAMPLES = 5


def measure(folder: Path) -> None:
    """Print a table of CPU seconds, with a column for each size."""
    columns = [_column(folder / str(repositories), repositories, jobs) for repositories, jobs in _SIZES]
    heads = [f"{repositories:,} and {jobs:,}" for repositories, jobs in _SIZES]
    print(f"| repositories and jobs | {' | '.join(heads)} |")
    print("|---|" + "---|" * len(heads))
    for key in columns[0]:
        print(f"| {key} | {' | '.join(column[key] for column in columns)} |")


def _column(folder: Path, repositories: int, jobs: int) -> dict[str, str]:
    data = folder.with_name(f"{folder.name}-data")
    with served(folder) as first:
        shelf = Shelf(folder / "data")
        for number in range(repositories):
            shelf.add(f"r{number:05}", 1)
        add_jobs(folder / "data", "r00000", jobs)
        (folder / "data").rename(data)
    with _started(data, first) as (server, start):
        column = {"start until ready": shown(start), "memory after the start": _memory(server)}
        for key, asked in _LISTS.items():
            column[f"{key}, first"] = shown(_cpu_of(server, asked))
            column[key] = shown(middle([_cpu_of(server, asked) for _ in range(_SAMPLES)]))
        column["memory at the peak"] = _memory(server)
    return column


def _cpu_of(server: Tagferry, asked: tuple[str, str]) -> float:
    used = cpu_of(server.process_id)
    Signed(server).ask("GET", *asked)
    return cpu_of(server.process_id) - used


def _memory(server: Tagferry) -> str:
    return f"{peak_rss_of(server.process_id) / MIB:.0f} MiB"


@contextmanager
def _started(data: Path, before: Tagferry) -> Iterator[tuple[Tagferry, float]]:
    """Start `tagferry serve` with existing data; yields it with the CPU seconds until it was ready."""
    address = free_address()
    config = data.with_suffix(".toml")
    config.write_text(f'data_dir = "{data}"\n[regions.{SOURCE_REGION}]\nlisten = "{address}"\n')
    command = [sys.executable, "-c", "from tagferry.cli import main; main()", "serve", "--config", str(config)]
    with config.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(tied(command), stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not _is_ready(address):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"tagferry did not start: {Path(log.name).read_text()[-2000:]}")
                time.sleep(0.01)
            yield replace(before, address=address, process_id=process.pid), cpu_of(process.pid)
        finally:
            stop(process)


def _is_ready(address: str) -> bool:
    try:
        Connection(address).ask("GET", "/readyz", {}, expect=200)
    except (OSError, RuntimeError):
        return False
    return True
