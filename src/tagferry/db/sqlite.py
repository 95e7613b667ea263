"""SQLite as tagferry uses it: with one turn to the driver's thread for a statement, and write locks taken at the start.

The driver has a thread for each connection. To it a statement is four turns, to make a cursor, execute, fetch and
close, each of which waits for the event loop twice; they take several times as long as what SQLite does meanwhile.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import aiosqlite
from sqlalchemy import Connection, Engine, event

BEGIN = "tagferry_begin"
"""The execution option with the statement that begins a transaction; an empty one has there be none."""
BUSY_SECONDS = 10.0
"""How long a write waits for the one before it."""


def prepare(engine: Engine) -> None:
    """Have an engine's connections be as tagferry needs them."""

    @event.listens_for(engine, "do_connect")
    def _do_connect(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        parameters["async_creator_fn"] = _connection

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        # The driver's own BEGIN is too late to take the write lock, so transactions are begun below.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that reads first and writes later fails at once where another has written in between;
        # taking the lock at the start makes it wait instead.
        if begin := connection.get_execution_options().get(BEGIN, "BEGIN"):
            connection.exec_driver_sql(begin)


def _connection(database: str | Path, **options: Any) -> "_Connection":
    connection = _Connection(lambda: sqlite3.connect(database, **options), iter_chunk_size=64)
    # Nothing that is left open must keep the process from ending.
    connection._thread.daemon = True
    return connection


class _Connection(aiosqlite.Connection):
    """A connection whose statements each take one turn, and that is not asked to undo nothing."""

    def cursor(self) -> "_Cursor":  # type: ignore[override]
        return _Cursor(self)

    async def _connect(self) -> Self:
        try:
            await super()._connect()
        except sqlite3.Error:
            # It has told the event loop all that it has to; later, there may be no loop to tell.
            self._thread.join(BUSY_SECONDS)
            raise
        return self

    async def rollback(self) -> None:
        if self.in_transaction:
            await super().rollback()

    async def run_in_thread(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Have the driver's thread do all of this before anything else."""
        await self._execute(work, self._conn)  # type: ignore[no-untyped-call]


class _Cursor:
    """A statement and what came of it, all of which is fetched at once."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Self:
        await self._run(lambda cursor: cursor.execute(sql, parameters))
        return self

    async def executemany(self, sql: str, parameters: Iterable[Sequence[Any]]) -> Self:
        await self._run(lambda cursor: cursor.executemany(sql, parameters))
        return self

    async def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        """There is nothing left to close."""

    async def _run(self, work: Callable[[sqlite3.Cursor], Any]) -> None:
        def run(connection: sqlite3.Connection) -> None:
            cursor = connection.cursor()
            try:
                work(cursor)
                self.description, self.rowcount, self.lastrowid = cursor.description, cursor.rowcount, cursor.lastrowid
                self._rows = cursor.fetchall() if cursor.description else []
            finally:
                cursor.close()

        await self._connection.run_in_thread(run)
