"""SQLite under SQLAlchemy's asyncio engine: each connection has a thread, and a statement is one call to it.

A call to the thread waits for the event loop twice, which takes several times as long as SQLite itself. Therefore a
statement is executed, fetched and closed in one call, and a transaction begins in the call of its first statement
(docs/decisions/0027).
"""

import asyncio
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Self, TypeVar

from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_connection
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import AsyncAdaptedQueuePool, Pool
from sqlalchemy.util import await_

from tagferry.db.faults import unsound
from tagferry.db.sqlite_files import Identity, SqliteFiles

BEGIN = "tagferry_begin"
"""The execution option with the statement that begins a transaction; an empty one means no transaction."""
BUSY_SECONDS = 10.0
"""Seconds that a write waits for one of another process."""

_DRIVER_NAMES = frozenset({"sqlite", "sqlite+aiosqlite"})
"""How URLs name SQLite. Earlier versions used aiosqlite, and existing configurations name it."""

THREAD_NAME = "sqlite"
"""The name of the threads of connections."""

Result = TypeVar("Result")
_Call = tuple["asyncio.Future[Any] | None", Callable[[], Any]]


def engine_url(url: URL) -> URL:
    """Return the URL that selects this dialect; other URLs are returned unchanged."""
    return url.set(drivername=f"sqlite+{Dialect.driver}") if url.drivername in _DRIVER_NAMES else url


def prepare(engine: Engine) -> None:
    """Configure the connections of an engine."""

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()
        connection.driver_connection.note_log()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that reads first and writes later fails if another has written in between; taking the lock
        # at the start makes it wait instead.
        driver_connection: Any = connection.connection.driver_connection
        driver_connection.begin_with(connection.get_execution_options().get(BEGIN, "BEGIN"))


async def require_sound(connection: AsyncConnection) -> None:
    """Check all pages and the order of indexes; raises DatabaseFault."""
    found = await connection.exec_driver_sql("PRAGMA quick_check(1)")
    if found.scalar() != "ok":
        raise unsound(connection.engine.url)


class Dialect(SQLiteDialect_pysqlite):
    """SQLAlchemy's dialect of the standard library's driver, with the connections of this module."""

    driver = "tagferry"
    is_async = True
    has_terminate = True
    supports_statement_cache = True

    @classmethod
    def get_pool_class(cls, url: URL) -> type[Pool]:
        return AsyncAdaptedQueuePool

    def connect(self, *arguments: Any, **options: Any) -> Any:
        # Without an isolation level, the driver begins no transactions of its own.
        options["isolation_level"] = None
        files: SqliteFiles = options.pop("files")
        opened: Any = await_(_Connection.open(lambda: sqlite3.connect(*arguments, **options), files))
        return AsyncAdapt_dbapi_connection(self.loaded_dbapi, opened)

    def on_connect(self) -> None:  # type: ignore[override]  # as documented: None if there is nothing to do
        """Define no SQL functions in Python, since none is used."""

    def get_driver_connection(self, connection: Any) -> Any:
        return connection.driver_connection

    def do_terminate(self, dbapi_connection: Any) -> None:
        dbapi_connection.driver_connection.stop()


registry.register(f"sqlite.{Dialect.driver}", __name__, Dialect.__name__)


class _Connection:
    """A connection, and the thread that runs its statements.

    SQLite ends a transaction by itself after some errors, such as a full disk. What follows would not belong to one, so
    it is refused until the transaction is rolled back.
    """

    def __init__(self, files: SqliteFiles) -> None:
        self._files = files
        self._log: Identity | None = None
        # Whether the caller relies on a transaction, and the error that has ended it nevertheless.
        self._has_begun = False
        self._ended_by: sqlite3.Error | None = None
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._begin = ""
        # True if the thread may still be working for a caller that was cancelled.
        self._is_abandoned = False
        self._is_closed = False
        self._sqlite: sqlite3.Connection
        # A connection that is left open must not keep the process from exiting.
        threading.Thread(target=_run_calls, args=(self._calls,), name=THREAD_NAME, daemon=True).start()
        # Neither must the thread of one that was never closed wait for calls that cannot come.
        weakref.finalize(self, self._calls.put, None)

    @classmethod
    async def open(cls, connect: Callable[[], sqlite3.Connection], files: SqliteFiles) -> Self:
        """Open a connection; raises sqlite3.Error, also if the file is not the one of earlier connections."""

        def connect_to_same() -> sqlite3.Connection:
            # Before, because SQLite would create a missing file.
            files.check()
            opened = connect()
            files.opened()
            return opened

        connection = cls(files)
        try:
            connection._sqlite = await connection.call(connect_to_same)
        except BaseException:
            connection._end_thread()
            raise
        return connection

    def note_log(self) -> None:
        """Remember the log of a connection that has executed its first statement, so that it is open."""
        self._log = self._files.log()

    def begin_with(self, statement: str) -> None:
        """Begin a transaction by this statement, just before the next one; an empty one begins none."""
        self._begin = statement

    def cursor(self) -> "_Cursor":
        return _Cursor(self)

    async def execute(self, work: Callable[[sqlite3.Cursor], Any], result: "_Cursor") -> None:
        """Execute a statement on a new cursor, and keep its complete result."""
        begin, self._begin = self._begin, ""

        def execute() -> None:
            self._check()
            cursor = self._sqlite.cursor()
            try:
                if begin:
                    cursor.execute(begin)
                work(cursor)
                result.keep(cursor)
            except sqlite3.Error as error:
                if self._has_begun and not self._sqlite.in_transaction:
                    self._ended_by = error
                raise
            finally:
                cursor.close()
                self._has_begun = self._has_begun or self._sqlite.in_transaction

        try:
            await self.call(execute)
        except sqlite3.Error:
            if not self._sqlite.in_transaction:
                # Without a transaction, the next statement would be committed at once.
                self._begin = begin
            raise

    def _check(self) -> None:
        """Raise an error if the files are no longer the same, or the transaction has ended by itself."""
        self._files.check(self._log)
        if self._has_begun and not self._sqlite.in_transaction:
            raise _again(self._ended_by)

    async def commit(self) -> None:
        def commit() -> None:
            self._check()
            self._sqlite.commit()
            self._has_begun = False

        await self._end(commit)

    async def rollback(self) -> None:
        def roll_back() -> None:
            self._has_begun, self._ended_by = False, None
            self._sqlite.rollback()

        await self._end(roll_back)

    async def _end(self, work: Callable[[], None]) -> None:
        """End the transaction, also one that an abandoned call is about to begin."""
        self._begin = ""
        if self._is_abandoned or self._has_begun or self._sqlite.in_transaction:
            self._is_abandoned = False
            await self.call(work)

    async def close(self) -> None:
        if not self._is_closed:
            try:
                await self.call(self._sqlite.close)
            finally:
                self._end_thread()

    def stop(self) -> None:
        """Close the connection without waiting, also where no event loop runs."""
        self._calls.put((None, self._sqlite.close))
        self._end_thread()

    def _end_thread(self) -> None:
        """End the thread after the calls before."""
        self._is_closed = True
        self._calls.put(None)

    async def call(self, work: Callable[[], Result]) -> Result:
        """Run work in the thread, after the calls before.

        Raises:
            sqlite3.ProgrammingError: the connection is closed.
        """
        if self._is_closed:
            raise sqlite3.ProgrammingError("Cannot operate on a closed database.")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._calls.put((future, work))
        try:
            return await future
        except asyncio.CancelledError:
            self._is_abandoned = True
            raise


class _Cursor:
    """A statement and its result, in the form that SQLAlchemy expects of an asyncio driver."""

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
        await self._connection.execute(lambda cursor: cursor.execute(sql, parameters), self)
        return self

    async def executemany(self, sql: str, parameters: Iterable[Sequence[Any]]) -> Self:
        await self._connection.execute(lambda cursor: cursor.executemany(sql, parameters), self)
        return self

    def keep(self, cursor: sqlite3.Cursor) -> None:
        """Take the result of a cursor that is about to be closed."""
        self.description, self.rowcount, self.lastrowid = cursor.description, cursor.rowcount, cursor.lastrowid
        self._rows = cursor.fetchall() if cursor.description else []

    async def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        """Do nothing: the cursor is already closed."""


def _again(cause: sqlite3.Error | None) -> sqlite3.Error:
    """Return the error for what follows an error that has ended the transaction."""
    if cause is None:
        return sqlite3.ProgrammingError("the transaction has ended")
    error = type(cause)(*cause.args)
    error.__dict__.update(cause.__dict__)
    return error


def _run_calls(calls: SimpleQueue[_Call | None]) -> None:
    """Run the calls of one connection until None. References are dropped at once, since the next call may be far."""
    while (call := calls.get()) is not None:
        future, work = call
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:
            error = raised
        if future is not None:
            # The loop is closed if the process is ending.
            with suppress(RuntimeError):
                future.get_loop().call_soon_threadsafe(_settle, future, result, error)
        del call, future, work, result, error


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
