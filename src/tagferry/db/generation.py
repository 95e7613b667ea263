"""The generation: a random number in the database that is replaced with every change of what requests look up.

Triggers of the database replace it, in the transaction of the change, whoever makes it: this process, another one, a
command, or an operator by hand. While it is the same, so are the results of all queries that read only the tables of
`COVERED`. It is random, so that a restored database or a promoted standby does not repeat a number for other content.
"""

import asyncio
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL

from tagferry.concurrency import LatestResult
from tagferry.db.postgres import PostgresError, connect
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

New rows of `tokens` do not replace it either: some clients get a token for each of their requests.
"""

_CURRENT = "SELECT value FROM generation WHERE id = 1"
_TRIGGERS = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": (
        "SELECT tgname FROM pg_trigger WHERE tgenabled = 'A' AND tgrelid IN "
        "(SELECT oid FROM pg_class WHERE relnamespace = CAST(current_schema() AS regnamespace))"
    ),
}
_PIN_SECONDS = 0.1
"""Time after which a task reads the generation again, for example after it has waited to verify a password."""
_RETRY_SECONDS = 1.0
"""Time after a failed connection in which no further one is tried."""

_log = SparseEvents(__name__)


@dataclass(slots=True)
class _Pin:
    """The generation that one task reads once."""

    source: "Generation"
    task: asyncio.Task[Any] | None
    read_at: float | None = None
    value: int | None = None


_pin: ContextVar[_Pin | None] = ContextVar("generation", default=None)


class Generation(ABC):
    """Reads the generation."""

    async def current(self) -> int | None:
        """Return the generation, at least as new as this call; None if it cannot be relied on now."""
        pin = _pin.get()
        # Tasks inherit the context of the one that creates them, but may run for much longer.
        if pin is None or pin.source is not self or pin.task is not asyncio.current_task():
            return await self._read()
        now = time.monotonic()
        if pin.read_at is None or now - pin.read_at > _PIN_SECONDS:
            pin.value, pin.read_at = await self._read(), now
        return pin.value

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Read the generation once for all calls of `current` by this task in the context, if they follow at once."""
        token = _pin.set(_Pin(self, asyncio.current_task()))
        try:
            yield
        finally:
            _pin.reset(token)

    @abstractmethod
    async def close(self) -> None:
        """Close the connection."""

    @abstractmethod
    async def _read(self) -> int | None: ...


class SqliteGeneration(Generation):
    """Reads it in the event loop, on a connection of its own, which takes microseconds.

    A reader of SQLite's write-ahead log waits neither for writers nor for checkpoints. Whatever would have to wait
    fails at once, and the generation is unknown.

    Args:
        arguments: of `sqlite3.connect`.
        options: the same, by name.
    """

    def __init__(self, arguments: Sequence[Any], options: Mapping[str, Any]) -> None:
        self._arguments = arguments
        self._options = {**options, "timeout": 0.0, "isolation_level": None, "check_same_thread": False}
        self._connection: sqlite3.Connection | None = None
        self._opening = asyncio.Lock()
        self._retry_at = 0.0

    async def _read(self) -> int | None:
        connection = self._connection or await self._connected()
        if connection is None:
            return None
        try:
            return _only(connection.execute(_CURRENT).fetchall())
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
                if self._connection is None:
                    self._retry_at = time.monotonic() + _RETRY_SECONDS
            return self._connection

    def _open(self) -> sqlite3.Connection | None:
        connection: sqlite3.Connection = sqlite3.connect(*self._arguments, **self._options)
        try:
            connection.execute("PRAGMA query_only=ON")
            if _is_covered(
                {name for (name,) in connection.execute(_TRIGGERS["sqlite"])},
                [f"generation_{table}_{change}" for table in COVERED for change in _changes(table)],
            ):
                return connection
        except BaseException:
            connection.close()
            raise
        connection.close()
        return None


class PostgresGeneration(Generation):
    """Reads it on a connection of its own, with one query for all callers that wait at its start."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._connection: AsyncConnection | None = None
        self._latest = LatestResult(self._query)
        self._retry_at = 0.0

    async def _read(self) -> int | None:
        return await self._latest.result()

    async def close(self) -> None:
        """Implement `Generation.close`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(PostgresError):
                await connection.close()

    async def _query(self) -> int | None:
        try:
            connection = self._connection or await self._connected()
            if connection is None:
                return None
            cursor = await connection.execute(_CURRENT, prepare=True)
            return _only(await cursor.fetchall())
        except (PostgresError, OSError) as error:
            _log.warning("could not read the generation", reason=str(error))
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            await self.close()
            return None

    async def _connected(self) -> "AsyncConnection | None":
        if time.monotonic() < self._retry_at:
            return None
        self._connection = connection = await connect(self._url)
        cursor = await connection.execute(_TRIGGERS["postgresql"])
        expected = [f"generation_{table}{suffix}" for table in COVERED for suffix in ("", "_truncate")]
        if _is_covered({str(name) for (name,) in await cursor.fetchall()}, expected):
            return connection
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        await self.close()
        return None


def _changes(table: str) -> tuple[str, ...]:
    return ("update", "delete") if table == "tokens" else ("insert", "update", "delete")


def _only(rows: Sequence[Sequence[Any]]) -> int | None:
    return int(rows[0][0]) if rows else None


def _is_covered(found: set[str], expected: Sequence[str]) -> bool:
    """Return whether no trigger is missing, for example after the tables were copied to another database by hand."""
    missing = [name for name in expected if name not in found]
    if missing:
        _log.warning(
            "the database lacks triggers, so nothing is remembered between requests; restore a complete backup",
            triggers=len(missing),
            first=missing[0],
        )
    return not missing
