"""Rows for the database of an installation, written by SQL and many at once, past the server."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

import psycopg

_AT_ONCE = 50_000
_CACHE_KIB = 500_000


class Rows:
    """The database of an installation.

    Args:
        database: the URL of a database of PostgreSQL, or the file of SQLite.
    """

    def __init__(self, database: str | Path) -> None:
        self._database = database

    def insert(self, table: str, rows: Iterable[Mapping[str, object]]) -> None:
        """Insert rows, all with the same columns: `COPY` on PostgreSQL, transactions of many rows on SQLite."""
        remaining = iter(rows)
        first = next(remaining, None)
        if first is None:
            return
        columns = ", ".join(first)
        values = (tuple(row.values()) for row in chain([first], remaining))
        if isinstance(self._database, str):
            with self._postgres() as postgres:
                with postgres.cursor().copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                    for row in values:
                        copy.write_row(row)
                # As PostgreSQL does by itself after a while.
                postgres.execute(f"VACUUM ANALYZE {table}")
            return
        statement = f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(first))})"  # noqa: S608
        with closing(sqlite3.connect(self._database, timeout=60)) as sqlite:
            # The indexes of a large table do not fit into the usual cache.
            sqlite.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            while batch := list(islice(values, _AT_ONCE)):
                with sqlite:
                    sqlite.executemany(statement, batch)

    def execute(self, statement: str) -> None:
        """Run a statement."""
        if isinstance(self._database, str):
            with self._postgres() as postgres:
                postgres.execute(statement)
            return
        with closing(sqlite3.connect(self._database, timeout=60)) as sqlite, sqlite:
            sqlite.execute(statement)

    def select(self, statement: str) -> Sequence[Any]:
        """Return the selected rows."""
        if isinstance(self._database, str):
            with self._postgres() as postgres:
                return postgres.execute(statement).fetchall()
        with closing(sqlite3.connect(self._database, timeout=60)) as sqlite:
            return sqlite.execute(statement).fetchall()

    @contextmanager
    def _postgres(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(str(self._database).replace("+psycopg", ""), autocommit=True) as postgres:
            yield postgres


def stored(moment: datetime) -> str:
    """Return a time in UTC as the database stores it."""
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")
