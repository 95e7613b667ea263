"""The database: SQLite by default, PostgreSQL by URL, one code for both."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Executable, Row, event, inspect, make_url, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, InvalidRequestError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker, create_async_engine

from tagferry import __version__
from tagferry.db import postgres, sqlite
from tagferry.db.faults import OLDEST_POSTGRES, fault_of, foreign_tables, too_old
from tagferry.db.tables import Base
from tagferry.errors import DatabaseUnavailable, Invalid, Unavailable
from tagferry.events import SparseEvents

Result = TypeVar("Result")

_URL_RULE = "must be a SQLAlchemy URL, as sqlite+aiosqlite:///FILE or postgresql+psycopg://…"
_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATING = 0x7A68
"""The lock under which the schema is brought up to date."""


_log = SparseEvents(__name__)


async def _shield(work: Coroutine[Any, Any, Result]) -> Result:
    """Let work end before its caller's cancellation is heard."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


class _ShieldedSession(AsyncSession):
    """A session whose statements come to their end even if their caller is cancelled.

    SQLite's driver works in a thread that knows nothing of a cancellation, so that a lock which was being taken then
    would be held, and never be freed.
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

    async def flush(self, *arguments: Any) -> None:
        await _shield(super().flush(*arguments))

    async def commit(self) -> None:
        await _shield(super().commit())

    async def rollback(self) -> None:
        await _shield(super().rollback())

    async def close(self) -> None:
        await _shield(super().close())


class Database:
    """Sessions on the one database of this installation."""

    def __init__(self, url: str) -> None:
        try:
            self._url = make_url(url)
            if self._is_sqlite and self._url.database in (None, "", ":memory:"):
                raise Invalid("database_url", "must name a file, so that what was accepted outlives the process")
            arguments = postgres.connect_arguments(self._url) if self._url.get_driver_name() == "psycopg" else {}
            # The connection that was used last is used next, so that the others are let rest.
            self._engine = create_async_engine(self._url, pool_use_lifo=True, connect_args=arguments)
        except (ArgumentError, InvalidRequestError, ImportError) as error:
            raise Invalid("database_url", f"{_URL_RULE} ({error})") from None
        except ValueError:
            # SQLAlchemy's text would show what it takes for the port, and that can be a part of the password.
            raise Invalid("database_url", f"{_URL_RULE} (its port is not a number)") from None
        self._turns: AbstractAsyncContextManager[None] = nullcontext()
        if self._is_sqlite:
            # SQLite serves writers in no order, and gives one up that it has passed over for too long.
            self._turns = asyncio.Lock()
            sqlite.prepare(self._engine.sync_engine)
            self._reads = self._engine.execution_options(**{sqlite.BEGIN: ""})
            self._writes = self._engine.execution_options(**{sqlite.BEGIN: "BEGIN IMMEDIATE"})
        else:
            postgres.prepare(self._engine.sync_engine)
            self._reads = self._engine.execution_options(isolation_level="AUTOCOMMIT")
            self._writes = self._engine
        self._damage: DatabaseUnavailable | None = None
        event.listen(self._engine.sync_engine, "handle_error", self._on_error)
        kind = _ShieldedSession if self._is_sqlite else AsyncSession
        self._reading = async_sessionmaker(self._reads, class_=kind, expire_on_commit=False)
        self._writing = async_sessionmaker(self._writes, class_=kind, expire_on_commit=False)

    @property
    def url(self) -> URL:
        """Where the database is; it may hold a password."""
        return self._url

    @property
    def is_shared(self) -> bool:
        """Whether several processes may work on it, on several machines."""
        return not self._is_sqlite

    @property
    def _is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    async def migrate(self) -> None:
        """Bring the schema to the newest revision; one process does it, others that start meanwhile wait for it.

        Raises:
            Unavailable: the database cannot be reached, or is at a revision that only another version knows.
        """
        if self._is_sqlite and self._url.database:
            Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
        try:
            if self._is_sqlite:
                await self._enable_wal()
            async with self._engine.connect() as connection:
                if self.is_shared:
                    await _require_version(connection)
                is_newest = await connection.run_sync(_is_newest)
            if not is_newest:
                async with self._writes.begin() as connection:
                    if self.is_shared:
                        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATING})
                    await connection.run_sync(_upgrade)
        except DatabaseUnavailable as error:
            raise Unavailable(error.detail) from None
        except SQLAlchemyError as error:
            raise Unavailable(f"the database cannot be used: {error}") from None

    def _on_error(self, context: ExceptionContext) -> BaseException | None:
        """Say what is wrong with the database instead of what the driver says, once a minute in the log too."""
        fault = fault_of(context.original_exception, self._url)
        if fault is None:
            return None
        if fault.is_damaged:
            self._damage = fault
        _log.warning(fault.message, reason=fault.detail)
        return fault

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session for reading; each statement sees what is there when it runs.

        There is no transaction around them, which would cost two more turns to the database.
        """
        if self._is_sqlite:
            async with self._reading() as session:
                yield session
        else:
            async with self._connected() as connection, self._reading(bind=connection) as session:
                yield session

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        """A connection to PostgreSQL for reading.

        It is taken to the end even if the caller is cancelled: SQLAlchemy loses a connection that is being set to
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
        """What one statement selects, of columns only; it takes two thirds of what it takes with `read`."""
        work = self._rows(statement, parameters)
        return await (_shield(work) if self._is_sqlite else work)

    async def _rows(self, statement: Executable, parameters: Mapping[str, Any]) -> Sequence[Row[*tuple[Any, ...]]]:
        async with self._reads.connect() if self._is_sqlite else self._connected() as connection:
            return (await connection.execute(statement, parameters)).all()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A session whose changes are committed at the end, all or none."""
        async with self._turns, self._writing() as session:
            try:
                yield session
                await session.commit()
            except BaseException:
                await session.rollback()
                raise

    async def _enable_wal(self) -> None:
        """Have SQLite write ahead, so that readers and the writer do not wait for each other; the file remembers it.

        Where others open the file at the same time, SQLite refuses this at once instead of waiting for them.
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

    async def ping(self) -> None:
        """Ask the database something; raises DatabaseUnavailable where it does not answer, or was found damaged."""
        if self._damage is not None:
            raise self._damage
        async with self.read() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Give the connections back."""
        await self._engine.dispose()


async def _require_version(connection: AsyncConnection) -> None:
    version = int(await connection.scalar(text("SHOW server_version_num")) or 0)
    if version < OLDEST_POSTGRES:
        raise too_old(version)


def _is_newest(connection: Connection) -> bool:
    scripts = ScriptDirectory.from_config(_config())
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None:
        _require_no_others_tables(connection)
    if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
        raise Unavailable(
            f"the database is at revision {revision}, which tagferry {__version__} does not know; a newer version has "
            "worked with it, so use that one, or restore the backup from before"
        )
    return revision == scripts.get_current_head()


def _require_no_others_tables(connection: Connection) -> None:
    """Refuse another program's SQLite file, and a PostgreSQL schema whose tables have the names of ours."""
    tables = set(inspect(connection).get_table_names())
    if connection.dialect.name != "sqlite":
        tables &= set(Base.metadata.tables)
    if tables:
        raise foreign_tables(connection.engine.url, min(tables))


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config
