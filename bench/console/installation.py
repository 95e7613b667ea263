"""An installation with much of everything, which servers run with one after the other."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.console.content import Filled, fill_database, fill_registries
from bench.console.scale import Scale
from bench.rows import Rows
from bench.served import SOURCE_REGION, TARGET_REGION, Restarted, Tagferry, restarted, served
from tests.support.postgres import postgres_server

DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


@dataclass(frozen=True, slots=True)
class Installation:
    """Its data, database and content.

    Attributes:
        database_process: the process of PostgreSQL; 0 for SQLite.
    """

    first: Tagferry
    data: Path
    database_url: str
    database_process: int
    filled: Filled

    @property
    def rows(self) -> Rows:
        """Its database, for when no server runs."""
        return Rows(self.database_url or self.data / "tagferry.db")

    def serving(self, *, settings: Sequence[str] = (), region_settings: str = "") -> AbstractContextManager[Restarted]:
        """Run `tagferry serve` with both regions in one process; see `restarted`."""
        return restarted(
            self.first,
            self.data,
            regions=(SOURCE_REGION, TARGET_REGION),
            database_url=self.database_url,
            settings=settings,
            region_settings=region_settings,
        )


@contextmanager
def installation(folder: Path, database: str, scale: Scale) -> Iterator[Installation]:
    """Fill a new installation; it is removed in the end.

    Args:
        folder: for the data.
        database: a key of `DATABASES`.
        scale: how much of everything.
    """
    with _database(database) as (url, process):
        data = folder / f"{database}-data"
        with served(folder / database, database_url=url) as first:
            shutil.move(folder / database / "data", data)
        filled = fill_database(url or data / "tagferry.db", scale, fill_registries(data, scale))
        try:
            yield Installation(first, data, url, process, filled)
        finally:
            shutil.rmtree(data, ignore_errors=True)


@contextmanager
def _database(name: str) -> Iterator[tuple[str, int]]:
    if name == "sqlite":
        yield "", 0
        return
    with postgres_server(durable=True) as postgres:
        yield postgres.url(postgres.new_database()), postgres.process_id
