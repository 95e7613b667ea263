"""The generation: a random number in the database that every change of users, credentials and permissions replaces.

Triggers of the database replace it, in the transaction of the change, be it by this process, another one, a
command, or an operator by hand. While it is the same, so are the results of all queries that read only the tables of
`COVERED`. It is random, so that a restored database or a promoted standby does not repeat a number for other content.

It is read together with the version of the triggers, so that none is missed that is dropped or disabled meanwhile.
"""

import asyncio
import secrets
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Update, update

from tagferry.concurrency import LatestResult
from tagferry.db.postgres import PostgresError, connect
from tagferry.db.sqlite_files import SqliteFiles
from tagferry.db.tables import GenerationRow
from tagferry.events import SparseEvents

if TYPE_CHECKING:
    from psycopg import AsyncConnection

COVERED: Mapping[str, frozenset[str]] = {
    "access_keys": frozenset({"last_used_at"}),
    "domains": frozenset(),
    "organization_permissions": frozenset(),
    "organizations": frozenset(),
    "repositories": frozenset(),
    "repository_permissions": frozenset(),
    "repository_shares": frozenset(),
    "sync_rules": frozenset(),
    "tokens": frozenset(),
    "triggers": frozenset(),
    "users": frozenset(),
}
"""The tables whose changes replace the generation, each with the columns whose changes do not.

New rows of `tokens` do not replace it either, unless they take the place of others: some clients get a token for each
of their requests.
"""

Reading = tuple[object, ...]
"""The version of the triggers, the number, and on PostgreSQL the transaction that wrote it: together the generation."""

# Each is one statement, so that both belong to the same state of the database.
_CURRENT = {
    "sqlite": "SELECT (SELECT schema_version FROM pragma_schema_version), value FROM generation WHERE id = 1",
    "postgresql": (
        "SELECT (SELECT string_agg(CAST(xmin AS text), ' ') FROM pg_trigger WHERE tgfoid = "
        "(SELECT to_regproc('change_generation'))), value, CAST(xmin AS text) FROM generation WHERE id = 1"
    ),
}
_TRIGGERS = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": (
        "SELECT tgname FROM pg_trigger WHERE tgenabled = 'A' AND tgrelid IN "
        "(SELECT oid FROM pg_class WHERE relnamespace = CAST(current_schema() AS regnamespace))"
    ),
}
_LOCK_TIMEOUT = "SET lock_timeout = '100ms'"
"""On PostgreSQL: requests do not wait while, for example, a table is restored or rewritten."""
_PIN_SECONDS = 0.1
"""Time after which a task reads the generation again, for example after it has waited to verify a password."""
_RETRY_SECONDS = 1.0
"""Time after a failed connection in which no further one is tried."""

_log = SparseEvents(__name__)


class _Pin:
    """The generation that one task reads once, while this context is entered."""

    __slots__ = ("read_at", "source", "task", "token", "value")

    def __init__(self, source: "Generation") -> None:
        self.source = source
        self.task = asyncio.current_task()
        self.read_at: float | None = None
        self.value: Reading | None = None

    def __enter__(self) -> None:
        self.token = _pin.set(self)

    def __exit__(self, *_: object) -> None:
        _pin.reset(self.token)


_pin: ContextVar[_Pin | None] = ContextVar("generation", default=None)


class _Triggers:
    """True if the triggers of the version seen last are complete.

    Args:
        expected: the names of all triggers.
    """

    def __init__(self, expected: Sequence[str]) -> None:
        self._expected = expected
        # Of no database: PostgreSQL's is null without any trigger.
        self.version: object = object()
        self.are_complete = False

    def check(self, version: object, found: Iterable[Sequence[object]]) -> None:
        """Note rows with the names of all triggers of a version.

        Triggers are missing, for example, after the tables were copied to another database by hand.
        """
        names = {name for (name,) in found}
        missing = [name for name in self._expected if name not in names]
        if missing:
            _log.warning(
                "the database lacks triggers, so nothing is remembered between requests; restore a complete backup",
                triggers=len(missing),
                first=missing[0],
            )
        self.version, self.are_complete = version, not missing


class Generation(ABC):
    """Reads the generation."""

    async def current(self) -> Reading | None:
        """Return the generation, at least as new as this call; None if it cannot be relied on now."""
        pin = _pin.get()
        # Tasks inherit the context of the one that creates them, but may run for much longer.
        if pin is None or pin.source is not self or pin.task is not asyncio.current_task():
            return await self._read()
        now = time.monotonic()
        if pin.read_at is None or now - pin.read_at > _PIN_SECONDS:
            pin.value, pin.read_at = await self._read(), now
        return pin.value

    def pinned(self) -> AbstractContextManager[None]:
        """Read the generation once for all calls of `current` by this task in the context, if they follow at once."""
        return _Pin(self)

    @abstractmethod
    async def close(self) -> None:
        """Close the connection."""

    @abstractmethod
    async def _read(self) -> Reading | None: ...


class SqliteGeneration(Generation):
    """Reads it in the event loop, on a connection of its own, which takes microseconds.

    A reader of SQLite's write-ahead log waits neither for writers nor for checkpoints, except for the few instructions
    in which one publishes a commit. Whatever would have to wait for a lock fails at once, and the generation is
    unknown.

    Args:
        arguments: of `sqlite3.connect`.
        options: the same, by name.
        files: the files of the database. The generation is unknown if they are no longer the same.
    """

    def __init__(self, arguments: Sequence[Any], options: Mapping[str, Any], files: SqliteFiles) -> None:
        self._files = files
        self._arguments = arguments
        self._options = {**options, "timeout": 0.0, "isolation_level": None, "check_same_thread": False}
        self._connection: sqlite3.Connection | None = None
        self._opening = asyncio.Lock()
        self._retry_at = 0.0
        self._triggers = _Triggers(
            [f"generation_{table}_{change}" for table in COVERED for change in ("insert", "update", "delete")]
        )

    async def _read(self) -> Reading | None:
        connection = self._connection or await self._connected()
        if connection is None:
            return None
        try:
            self._files.check()
            rows: list[Reading] = connection.execute(_CURRENT["sqlite"]).fetchall()
            if rows and rows[0][0] != self._triggers.version:
                self._triggers.check(rows[0][0], connection.execute(_TRIGGERS["sqlite"]).fetchall())
            return rows[0] if rows and self._triggers.are_complete else None
        except sqlite3.Error as error:
            _log.warning("could not read the generation", reason=str(error))
            return None

    async def close(self) -> None:
        """Implement `Generation.close`."""
        async with self._opening:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    async def _connected(self) -> sqlite3.Connection | None:
        async with self._opening:
            if self._connection is None and time.monotonic() >= self._retry_at:
                try:
                    self._connection = await asyncio.to_thread(self._open)
                except sqlite3.Error as error:
                    _log.warning("could not read the generation", reason=str(error))
                    self._retry_at = time.monotonic() + _RETRY_SECONDS
            return self._connection

    def _open(self) -> sqlite3.Connection:
        self._files.check()
        connection: sqlite3.Connection = sqlite3.connect(*self._arguments, **self._options)
        try:
            connection.execute("PRAGMA query_only=ON")
            # Here rather than in the event loop: the first statement reads the schema.
            connection.execute(_CURRENT["sqlite"]).fetchall()
        except BaseException:
            connection.close()
            raise
        return connection


class PostgresGeneration(Generation):
    """Reads it on a connection of its own, with one query for all callers that wait at its start."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._connection: AsyncConnection | None = None
        self._latest = LatestResult(self._query)
        self._retry_at = 0.0
        self._triggers = _Triggers([f"generation_{table}{suffix}" for table in COVERED for suffix in ("", "_truncate")])

    async def _read(self) -> Reading | None:
        return await self._latest.result()

    async def close(self) -> None:
        """Implement `Generation.close`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(PostgresError):
                await connection.close()

    async def _query(self) -> Reading | None:
        try:
            connection = self._connection or await self._connected()
            if connection is None:
                return None
            row = await (await connection.execute(_CURRENT["postgresql"], prepare=True)).fetchone()
            if row is not None and row[0] != self._triggers.version:
                found = await connection.execute(_TRIGGERS["postgresql"])
                self._triggers.check(row[0], await found.fetchall())
        except (PostgresError, OSError) as error:
            _log.warning("could not read the generation", reason=str(error))
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            await self.close()
            return None
        return row if self._triggers.are_complete else None

    async def _connected(self) -> "AsyncConnection | None":
        if time.monotonic() < self._retry_at:
            return None
        self._connection = connection = await connect(self._url)
        await connection.execute(_LOCK_TIMEOUT)
        return connection


def replaced() -> Update:
    """Return the statement that replaces the generation, for a change that no trigger notices."""
    return update(GenerationRow).values(value=secrets.randbits(53))
