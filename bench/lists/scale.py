"""How the start, the memory and the lists of a server grow with its repositories and jobs, on both databases."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from bench import machine
from bench.cost.exchange import Signed
from bench.cost.table import shown
from bench.lists.content import Shelf, add_jobs
from bench.measure import MIB, cpu_of, cpu_of_all, middle, peak_rss_of
from bench.served import ORGANIZATION, SOURCE_REGION, Restarted, Tagferry, restarted, served
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
        heads = [f"{database}: {repositories:,} and {jobs:,}" for repositories, jobs in sizes]
        with ExitStack() as stack:
            contents = [
                stack.enter_context(_content(folder / f"{database}-{repositories}", database, repositories, jobs))
                for repositories, jobs in sizes
            ]
            figures |= dict(zip(heads, _columns(contents), strict=True))
        print(f"measured {database}", file=sys.stderr)
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


class _Content(NamedTuple):
    """The content of a server that has ended.

    Attributes:
        before: that server.
        data: its folder.
        url: its database; "" if that is a file in the folder.
        database_process: the process of its database; 0 if that is a file.
    """

    before: Tagferry
    data: Path
    url: str
    database_process: int


@contextmanager
def _content(folder: Path, database: str, repositories: int, jobs: int) -> Iterator[_Content]:
    data = folder.with_name(f"{folder.name}-data")
    with _database(database) as (url, database_process):
        with served(folder, database_url=url) as before:
            shelf = Shelf(folder / "data")
            for number in range(repositories):
                shelf.add(f"r{number:05}", 1)
            add_jobs(url or folder / "data" / "tagferry.db", "r00000", jobs)
            (folder / "data").rename(data)
        yield _Content(before, data, url, database_process)


class _Server:
    """A server that has been started with some content.

    Attributes:
        figures: what was measured: seconds of CPU, those of PostgreSQL included, and bytes of memory.
    """

    def __init__(self, started: Restarted, database_process: int) -> None:
        self._server = started.regions[SOURCE_REGION]
        self._database_process = database_process
        self.figures = {"start until ready": started.start_cpu}
        self.note_memory("after the start")

    def note_memory(self, when: str) -> None:
        """Measure the memory that it has used at most until now."""
        self.figures[f"{_MEMORY} {when}"] = float(peak_rss_of(self._server.process_id))

    def cpu_of_asking(self, asked: tuple[str, str]) -> float:
        """Make a request; return its seconds of CPU."""
        used = self._cpu()
        Signed(self._server).ask("GET", *asked)
        return self._cpu() - used

    def _cpu(self) -> float:
        return cpu_of(self._server.process_id) + cpu_of_all(self._database_process)


def _columns(contents: Sequence[_Content]) -> list[dict[str, float]]:
    """Return the figures of each content, medians of several starts."""
    starts = [_figures(contents) for _ in range(_STARTS)]
    return [{key: middle([one[key] for one in figures]) for key in figures[0]} for figures in zip(*starts, strict=True)]


def _figures(contents: Sequence[_Content]) -> list[dict[str, float]]:
    """Start a server with each content, and make the requests in turn: a machine's speed changes within minutes."""
    with ExitStack() as stack:
        servers = []
        for one in contents:
            started = stack.enter_context(restarted(one.before, one.data, database_url=one.url))
            servers.append(_Server(started, one.database_process))
        for key, asked in _LISTS.items():
            for server in servers:
                server.figures[f"{key}, first"] = server.cpu_of_asking(asked)
            samples = [[server.cpu_of_asking(asked) for server in servers] for _ in range(_SAMPLES)]
            for server, own in zip(servers, zip(*samples, strict=True), strict=True):
                server.figures[key] = middle(own)
        for server in servers:
            server.note_memory("at the peak")
        return [server.figures for server in servers]


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
