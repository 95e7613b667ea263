"""SQLite connections that run each statement in one call to the driver's thread, and take write locks at the start.

The driver has a thread for each connection. By default a statement takes four calls to it: create a cursor, execute,
fetch and close. Each waits for the event loop twice, which takes several times as long as SQLite itself.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import aiosqlite
from sqlalchemy import Connection, Engine, event

BEGIN = "tagferry_begin"
"""The execution option with the statement that begins a transaction; an empty one means no transaction."""
BUSY_SECONDS = 10.0
"""Seconds that a write waits for the one before it."""


def prepare(engine: Engine) -> None:
    """Configure the connections of an engine."""

    @event.listens_for(engine, "do_connect")
    def _do_connect(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        parameters["async_creator_fn"] = _connection

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        # The driver's own BEGIN comes too late to take the write lock, so transactions are begun below.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that reads first and writes later fails if another has written in between; taking the lock
        # at the start makes it wait instead.
        if begin := connection.get_execution_options().get(BEGIN, "BEGIN"):
            connection.exec_driver_sql(begin)


def _connection(database: str | Path, **options: Any) -> "_Connection":
    connection = _Connection(lambda: sqlite3.connect(database, **options), iter_chunk_size=64)
    # A connection that is left open must not keep the process from exiting.
    connection._thread.daemon = True
    return connection


class _Connection(aiosqlite.Connection):
    """A connection that runs each statement in one call to its thread, and skips rollbacks without a transaction."""

    def cursor(self) -> "_Cursor":  # type: ignore[override]
        return _Cursor(self)

    async def _connect(self) -> Self:
        try:
            await super()._connect()
        except sqlite3.Error:
            # The thread has already reported to the event loop; later the loop may be closed.
            self._thread.join(BUSY_SECONDS)
            raise
        return self

    async def rollback(self) -> None:
        if self.in_transaction:
            await super().rollback()

    async def run_in_thread(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Run work in the driver's thread, in one call."""
        await self._execute(work, self._conn)  # type: ignore[no-untyped-call]


class _Cursor:
    """A statement and its result, which is fetched completely."""

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
        """Do nothing: the cursor is already closed."""

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
