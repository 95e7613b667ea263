"""How the start, the memory and the lists of a server grow with its repositories and jobs, on both databases."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import machine
from bench.cost.exchange import Signed
from bench.cost.table import shown
from bench.lists.content import Shelf, add_jobs
from bench.measure import MIB, cpu_of, cpu_of_all, middle, peak_rss_of
from bench.served import ORGANIZATION, SOURCE_REGION, Restarted, restarted, served
from tests.support.postgres import is_installed, postgres_server

SIZES = ((1000, 100_000), (10_000, 1_000_000))
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
_SAMPLES = 5
"""Requests of each kind after the first one."""
_STARTS = 3
"""Starts of the server; the first request of each kind is measured after each of them."""
_MEMORY = "memory"
_FLOOR = 0.005
"""Seconds below which a growth is noise."""
_LINEAR = 1.1
"""The factor above linear growth that is tolerated, because CPU times differ from sample to sample."""


def measure(folder: Path, sizes: Sequence[tuple[int, int]], out: Path) -> None:
    """Print a table with columns for each database and size, and write it to `scale.*` in a folder."""
    about = machine.facts()
    databases = ["SQLite", *(["PostgreSQL"] if is_installed() else [])]
    figures: dict[str, dict[str, float]] = {}
    for database in databases:
        for repositories, jobs in sizes:
            head = f"{database}: {repositories:,} and {jobs:,}"
            figures[head] = _column(folder / f"{database}-{repositories}", database, repositories, jobs)
            print(f"measured {head}", file=sys.stderr)
    growth, linear = _growth(figures, sizes), sizes[-1][0] / sizes[0][0] * _LINEAR
    faster = "; ".join(f"{key} ({times:.1f} times)" for key, times in growth.items() if times > linear)
    says = f"Grows faster than linearly: {faster or 'nothing'}."
    report = f"{machine.sentence(about)}\n\n{_table(figures)}\n\n{says}\n"
    print(report)
    out.mkdir(parents=True, exist_ok=True)
    (out / "scale.md").write_text(f"# Lists of many repositories and jobs\n\n{report}")
    document = {**figures, "linear": linear / max(growth.values()), "machine": about}
    (out / "scale.json").write_text(json.dumps(document, indent=2) + "\n")


def _table(figures: Mapping[str, Mapping[str, float]]) -> str:
    rows = [f"| repositories and jobs | {' | '.join(figures)} |", "|---|" + "--:|" * len(figures)]
    rows += [
        f"| {key} | {' | '.join(_shown(key, column[key]) for column in figures.values())} |"
        for key in next(iter(figures.values()))
    ]
    return "\n".join(rows)


def _growth(figures: Mapping[str, Mapping[str, float]], sizes: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Return how often more each figure is at the last size than at the first."""
    columns = list(figures.items())
    firsts, lasts = columns[:: len(sizes)], columns[len(sizes) - 1 :: len(sizes)]
    return {
        f"{head}: {key}": after[key] / max(before[key], _FLOOR)
        for (_, before), (head, after) in zip(firsts, lasts, strict=True)
        for key in before
    }


def _column(folder: Path, database: str, repositories: int, jobs: int) -> dict[str, float]:
    """Return medians of several starts: seconds of CPU, those of PostgreSQL included, and bytes of memory."""
    data = folder.with_name(f"{folder.name}-data")
    with _database(database) as (url, database_process):
        with served(folder, database_url=url) as first:
            shelf = Shelf(folder / "data")
            for number in range(repositories):
                shelf.add(f"r{number:05}", 1)
            add_jobs(url or folder / "data" / "tagferry.db", "r00000", jobs)
            (folder / "data").rename(data)
        columns = []
        for _ in range(_STARTS):
            with restarted(first, data, database_url=url) as started:
                columns.append(_figures(started, database_process))
    return {key: middle([column[key] for column in columns]) for key in columns[0]}


def _figures(started: Restarted, database_process: int) -> dict[str, float]:
    server = started.regions[SOURCE_REGION]

    def cpu() -> float:
        return cpu_of(server.process_id) + cpu_of_all(database_process)

    def cpu_of_asking(asked: tuple[str, str]) -> float:
        used = cpu()
        Signed(server).ask("GET", *asked)
        return cpu() - used

    figures = {
        "start until ready": started.start_cpu,
        f"{_MEMORY} after the start": float(peak_rss_of(server.process_id)),
    }
    for key, asked in _LISTS.items():
        figures[f"{key}, first"] = cpu_of_asking(asked)
        figures[key] = middle([cpu_of_asking(asked) for _ in range(_SAMPLES)])
    figures[f"{_MEMORY} at the peak"] = float(peak_rss_of(server.process_id))
    return figures


@contextmanager
def _database(name: str) -> Iterator[tuple[str, int]]:
    """Yield the URL and the server's process of a new database; none of both is an SQLite file in the data."""
    if name == "SQLite":
        yield "", 0
        return
    with postgres_server(durable=True) as postgres:
        yield postgres.url(postgres.new_database()), postgres.process_id


def _shown(key: str, figure: float) -> str:
    return f"{figure / MIB:.0f} MiB" if key.startswith(_MEMORY) else shown(figure)
