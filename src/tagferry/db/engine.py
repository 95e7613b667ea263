"""The database: SQLite by default, or PostgreSQL by URL, with the same code for both."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Executable, Row, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, InvalidRequestError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker, create_async_engine

from tagferry.db import postgres, sqlite
from tagferry.db.faults import OLDEST_POSTGRES, error_line, fault_of, too_old
from tagferry.db.generation import Generation, PostgresGeneration, SqliteGeneration
from tagferry.db.schema import is_newest_schema, require_tables, upgrade_schema
from tagferry.db.sqlite_files import SqliteFiles
from tagferry.db.url import URL_RULE, parse_url
from tagferry.db.write_gate import WriteGate
from tagferry.errors import DatabaseUnavailable, Invalid, Unavailable
from tagferry.events import SparseEvents
from tagferry.metrics import DATABASE_SECONDS

Result = TypeVar("Result")

_MIGRATING = 0x7A68
"""The advisory lock for migrations."""
_CONNECTIONS = 15
"""Connections to the database, at most."""
_KEPT_CONNECTIONS = 5
"""Connections to PostgreSQL that stay open while they are not used. Each takes up a process of that server."""
_REVISION = text("SELECT version_num FROM alembic_version")

_log = SparseEvents(__name__)


async def _shield(work: Coroutine[Any, Any, Result]) -> Result:
    """Complete work before the caller's cancellation takes effect, however often the caller is cancelled."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            # Another cancellation is expressed by the same error.
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        raise


class _ShieldedSession(AsyncSession):
    """A session whose statements complete even if their caller is cancelled.

    SQLite's driver runs statements in a thread that cannot be cancelled, so a lock that it takes after the cancellation
    would never be released.
    """

    async def execute(self, *arguments: Any, **options: Any) -> Any:
        return await _shield(super().execute(*arguments, **options))

    async def scalar(self, *arguments: Any, **options: Any) -> Any:
        return await _shield(super().scalar(*arguments, **options))

    async def scalars(self, *arguments: Any, **options: Any) -> Any:
        return await _shield(super().scalars(*arguments, **options))

    async def get(self, *arguments: Any, **options: Any) -> Any:
        return await _shield(super().get(*arguments, **options))

    async def get_one(self, *arguments: Any, **options: Any) -> Any:
        return await _shield(super().get_one(*arguments, **options))

    async def merge(self, *arguments: Any, **options: Any) -> Any:
        return await _shield(super().merge(*arguments, **options))

    async def delete(self, *arguments: Any) -> None:
        await _shield(super().delete(*arguments))

    async def run_sync(self, *arguments: Any, **options: Any) -> Any:
        return await _shield(super().run_sync(*arguments, **options))

    async def flush(self, *arguments: Any) -> None:
        await _shield(super().flush(*arguments))

    async def commit(self) -> None:
        await _shield(super().commit())

    async def rollback(self) -> None:
        await _shield(super().rollback())

    async def close(self) -> None:
        await _shield(super().close())


class Database:
    """Sessions of the installation's database."""

    def __init__(self, url: str) -> None:
        try:
            self._url = parse_url(url)
            if self._is_sqlite and self._url.database in (None, "", ":memory:"):
                raise Invalid("database_url", "must name a file, so that accepted jobs survive a restart")
            arguments: dict[str, Any] = {}
            if self._is_sqlite:
                self._files = SqliteFiles(self._url.database or "")
                arguments["files"] = self._files
            elif self._url.get_driver_name() == "psycopg":
                arguments = postgres.connect_arguments(self._url)
            # Prefer the connection that was used last, so that the others stay idle.
            # Opening an SQLite file takes many times as long as a query. An open one takes a thread and 2 MB, and
            # occupies no server.
            kept = _CONNECTIONS if self._is_sqlite else _KEPT_CONNECTIONS
            self._engine = create_async_engine(
                sqlite.engine_url(self._url),
                pool_use_lifo=True,
                pool_size=kept,
                max_overflow=_CONNECTIONS - kept,
                connect_args=arguments,
            )
        except ImportError:
            rule = 'needs the driver of PostgreSQL; install it with: pip install "tagferry[postgres]"'
            raise Invalid("database_url", rule) from None
        except (ArgumentError, InvalidRequestError, ValueError):
            raise Invalid("database_url", URL_RULE) from None
        self._write_gate: AbstractAsyncContextManager[None] = nullcontext()
        if self._is_sqlite:
            self._write_gate = WriteGate()
            sqlite.prepare(self._engine.sync_engine)
            self._reads = self._engine.execution_options(**{sqlite.BEGIN: ""})
            self._writes = self._engine.execution_options(**{sqlite.BEGIN: "BEGIN IMMEDIATE"})
        else:
            postgres.prepare(self._engine.sync_engine)
            self._reads = self._engine.execution_options(isolation_level="AUTOCOMMIT")
            self._writes = self._engine
        self._generation = self._open_generation()
        self._damage: DatabaseUnavailable | None = None
        self._migrated_to: str | None = None
        event.listen(self._engine.sync_engine, "handle_error", self._on_error)
        kind = _ShieldedSession if self._is_sqlite else AsyncSession
        self._reading = async_sessionmaker(self._reads, class_=kind, expire_on_commit=False)
        self._writing = async_sessionmaker(self._writes, class_=kind, expire_on_commit=False)

    @property
    def url(self) -> URL:
        """The URL of the database, which may contain a password."""
        return self._url

    @property
    def is_shared(self) -> bool:
        """True if several processes, also on several machines, can use the database."""
        return not self._is_sqlite

    @property
    def generation(self) -> Generation:
        """The generation of users, credentials and permissions."""
        return self._generation

    @property
    def _is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    async def migrate(self) -> None:
        """Upgrade the schema to the newest revision; other processes that start meanwhile wait.

        Raises:
            Unavailable: the database cannot be reached, or its revision is unknown to this version.
        """
        if self._is_sqlite and self._url.database:
            Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
        with _explained():
            if self._is_sqlite:
                await self._enable_wal()
            if not await self._is_newest():
                async with self._write_gate, self._writes.begin() as connection:
                    if self.is_shared:
                        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATING})
                    # With SQLite, this statement takes the lock. Another process may have upgraded it meanwhile.
                    if not await connection.run_sync(is_newest_schema):
                        await connection.run_sync(upgrade_schema)
            async with self._reads.connect() as connection:
                self._migrated_to = await connection.scalar(_REVISION)

    async def check(self, *, thoroughly: bool = False) -> bool:
        """Check that the database is complete and can be read and written, without changing anything.

        Args:
            thoroughly: read all of an SQLite file, which takes as long as that takes.

        Returns:
            Whether its schema is the newest; an older one is upgraded by `migrate`.

        Raises:
            Unavailable: the database cannot be reached or written, is damaged, or is unknown to this version.
        """
        with _explained():
            is_newest = await self._is_newest()
            async with self._engine.connect() as connection:
                if is_newest:
                    await connection.run_sync(require_tables)
                if self.is_shared:
                    await postgres.require_writable(connection)
                elif thoroughly:
                    await sqlite.require_sound(connection)
            if self._is_sqlite:
                # A transaction that begins by taking the lock for writing, which SQLite grants only if it can write.
                async with self._write_gate, self._writes.connect() as connection:
                    await connection.execute(text("SELECT 1"))
        return is_newest

    async def _is_newest(self) -> bool:
        async with self._engine.connect() as connection:
            if self.is_shared:
                await _require_version(connection)
            return await connection.run_sync(is_newest_schema)

    def _on_error(self, context: ExceptionContext) -> BaseException | None:
        """Translate a driver's error, and log it at most once a minute."""
        fault = fault_of(context.original_exception, self._url)
        if fault is None:
            return None
        if fault.is_damaged:
            self._damage = fault
        _log.warning(fault.message, reason=fault.detail)
        return fault

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """Open a session for reading, in which each statement sees the data at its execution.

        There is no transaction, which would cost two more round trips to the database.
        """
        if self._is_sqlite:
            async with self._reading() as session:
                yield session
        else:
            async with self._connected() as connection, self._reading(bind=connection) as session:
                yield session

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection to PostgreSQL for reading.

        Connecting completes even if the caller is cancelled: SQLAlchemy leaks a connection that is being set to
        autocommit at that moment.
        """
        connection = self._reads.connect()
        try:
            await _shield(connection.start())
            yield connection
        finally:
            if connection.sync_connection is not None:
                await _shield(connection.close())

    async def rows(self, statement: Executable, parameters: Mapping[str, Any]) -> Sequence[Row[*tuple[Any, ...]]]:
        """Return the rows of a statement that selects columns only; takes two thirds of the time of `read`."""
        work = self._rows(statement, parameters)
        return await (_shield(work) if self._is_sqlite else work)

    async def _rows(self, statement: Executable, parameters: Mapping[str, Any]) -> Sequence[Row[*tuple[Any, ...]]]:
        async with self._reads.connect() if self._is_sqlite else self._connected() as connection:
            return (await connection.execute(statement, parameters)).all()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """Open a session whose changes are committed together at the end.

        Within it, the task must not open another one: with SQLite, it would wait for itself.
        """
        async with self._write_gate, self._writing() as session:
            try:
                yield session
                await session.commit()
            except BaseException:
                await session.rollback()
                raise

    def _open_generation(self) -> Generation:
        if not self._is_sqlite:
            return PostgresGeneration(self._url)
        arguments, options = self._engine.dialect.create_connect_args(self._url)
        return SqliteGeneration(arguments, options, self._files)

    async def _enable_wal(self) -> None:
        """Enable SQLite's write-ahead log, so that readers and the writer do not block each other. The file keeps it.

        If others open the file at the same time, SQLite refuses immediately instead of waiting.
        """
        async with self._reads.connect() as connection:
            deadline = time.monotonic() + sqlite.BUSY_SECONDS
            while True:
                try:
                    await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                except DatabaseUnavailable as error:
                    if "locked" not in error.detail or time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(sqlite.BUSY_SECONDS / 100)
                else:
                    return

    def time_statements(self) -> None:
        """Measure the time of all statements from now on, for the metrics."""
        event.listen(self._engine.sync_engine, "before_cursor_execute", _note_start)
        event.listen(self._engine.sync_engine, "after_cursor_execute", _count_time)

    @property
    def connections(self) -> tuple[int, int]:
        """The number of the pool's connections in use, and of idle ones; can be read in any thread."""
        pool: Any = self._engine.sync_engine.pool
        return pool.checkedout(), pool.checkedin()

    async def ping(self) -> None:
        """Check the database; raises DatabaseUnavailable if it does not respond or was found damaged."""
        if self._damage is not None:
            raise self._damage
        async with self.read() as session:
            await session.execute(text("SELECT 1"))

    async def is_schema_current(self) -> bool:
        """Return whether the schema is still the one that this process has migrated to, and log it if it is not."""
        if self._migrated_to is None:
            return True
        async with self.read() as session:
            revision = await session.scalar(_REVISION)
        if revision != self._migrated_to:
            _log.warning("another version changed the schema", revision=revision, expected=self._migrated_to)
        return bool(revision == self._migrated_to)

    async def close(self) -> None:
        """Close all connections."""
        await self._generation.close()
        await self._engine.dispose()


@contextmanager
def _explained() -> Iterator[None]:
    """Raise errors with the details that only operators may see."""
    try:
        yield
    except DatabaseUnavailable as error:
        raise Unavailable(error.detail) from None
    except SQLAlchemyError as error:
        raise Unavailable(f"the database cannot be used: {error_line(getattr(error, 'orig', None) or error)}") from None


def _note_start(_connection: Any, _cursor: Any, _statement: Any, _parameters: Any, context: Any, _many: bool) -> None:
    if context is not None:
        context.tagferry_began = time.perf_counter()


def _count_time(_connection: Any, _cursor: Any, _statement: Any, _parameters: Any, context: Any, _many: bool) -> None:
    if context is not None:
        DATABASE_SECONDS.observe(time.perf_counter() - context.tagferry_began)


async def _require_version(connection: AsyncConnection) -> None:
    version = int(await connection.scalar(text("SHOW server_version_num")) or 0)
    if version < OLDEST_POSTGRES:
        raise too_old(version)
