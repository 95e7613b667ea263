"""The connections to SQLite: their threads, and how SQLAlchemy uses them."""

import asyncio
import gc
import inspect
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest
from sqlalchemy import bindparam, select, text
from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_connection, AsyncAdapt_dbapi_cursor
from sqlalchemy.exc import IntegrityError, ProgrammingError

from tagferry.db import sqlite
from tagferry.db.engine import Database
from tagferry.db.sqlite_files import SqliteFiles
from tagferry.db.tables import DomainRow
from tagferry.errors import DatabaseUnavailable


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'tagferry.db'}")
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture
def calls() -> list[object]:
    """Collects the calls to the threads of all connections."""
    return []


@pytest.fixture(autouse=True)
async def counted(database: Database, calls: list[object]) -> AsyncIterator[None]:
    async with database.read() as session:
        await session.execute(text("SELECT 1"))
    call = sqlite._Connection.call

    async def counting(self: sqlite._Connection, work: object) -> object:
        calls.append(work)
        return await call(self, work)  # type: ignore[arg-type]

    with patch.object(sqlite._Connection, "call", counting):
        yield


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == sqlite.THREAD_NAME]


def new(before: list[threading.Thread]) -> list[threading.Thread]:
    """Return the threads of connections that were opened since."""
    return [thread for thread in threads() if thread not in before]


async def ended(before: list[threading.Thread]) -> bool:
    """Return whether these have ended."""
    for thread in new(before):
        await asyncio.to_thread(thread.join, 30)
    return not new(before)


async def test_a_query_is_one_call_to_the_thread(database: Database, calls: list[object]):
    await database.rows(select(DomainRow.id).where(DomainRow.name == bindparam("name")), {"name": "acme"})
    assert len(calls) == 1
    async with database.read() as session:
        await session.scalars(select(DomainRow))
    assert len(calls) == 2


async def test_a_transaction_begins_with_its_first_statement(database: Database, calls: list[object]):
    async with database.write() as session:
        await session.scalar(select(DomainRow.id))
        assert len(calls) == 1
        session.add(DomainRow(id="1", name="acme"))
    assert len(calls) == 3


async def test_a_transaction_without_statements_is_no_call(database: Database, calls: list[object]):
    async with database.write():
        pass

    assert not calls


async def test_a_transaction_that_reads_first_excludes_other_writers(database: Database, tmp_path: Path):
    other = Database(f"sqlite:///{tmp_path / 'tagferry.db'}")
    async with other.read() as session:
        await session.execute(text("PRAGMA busy_timeout=0"))

    async with database.write() as session:
        await session.scalar(select(DomainRow.id))
        with pytest.raises(DatabaseUnavailable, match="the database cannot be used") as refused:
            async with other.write() as another:
                await another.scalar(select(DomainRow.id))
    await other.close()
    assert "locked" in refused.value.detail


async def test_a_failed_statement_leaves_its_transaction_open(database: Database):
    async with database.write() as session:
        await session.execute(text("INSERT INTO domains (id, name) VALUES ('1', 'acme')"))
        with pytest.raises(Exception, match="incomplete input"):
            await session.execute(text("INSERT INTO"))
        await session.execute(text("INSERT INTO domains (id, name) VALUES ('2', 'other')"))

    assert len(await database.rows(select(DomainRow.id), {})) == 2


FILL = text("INSERT INTO plain (content) VALUES (zeroblob(1000000))")
"""A statement without a journal of its own: if it finds the disk full, SQLite rolls the transaction back."""


async def fill_the_disk(database: Database) -> None:
    """Let writes of more than a few pages fail as on a full disk. All sessions of a test share one connection."""
    async with database.read() as session:
        await session.execute(text("CREATE TABLE plain (content)"))
        pages = await session.scalar(text("PRAGMA page_count"))
        await session.execute(text(f"PRAGMA max_page_count={pages + 5}"))


async def test_no_statement_runs_outside_of_a_transaction_that_sqlite_has_rolled_back(database: Database):
    await fill_the_disk(database)

    async def write() -> None:
        async with database.write() as session:
            await session.execute(text("INSERT INTO domains (id, name) VALUES ('1', 'acme')"))
            with pytest.raises(DatabaseUnavailable):
                await session.execute(FILL)
            await session.execute(text("INSERT INTO domains (id, name) VALUES ('2', 'other')"))

    with pytest.raises(DatabaseUnavailable) as refused:
        await write()
    assert "is full" in refused.value.detail
    assert not await database.rows(select(DomainRow.id), {})


async def test_a_transaction_that_sqlite_has_rolled_back_is_not_committed(database: Database):
    await fill_the_disk(database)

    async def write() -> None:
        async with database.write() as session:
            await session.execute(text("INSERT INTO domains (id, name) VALUES ('1', 'acme')"))
            with pytest.raises(DatabaseUnavailable):
                await session.execute(FILL)

    with pytest.raises(DatabaseUnavailable) as refused:
        await write()
    assert "is full" in refused.value.detail


async def test_a_transaction_that_a_trigger_has_rolled_back_is_not_continued(database: Database):
    async with database.write() as session:
        await session.execute(
            text("CREATE TRIGGER refuse BEFORE INSERT ON domains BEGIN SELECT RAISE(ROLLBACK, 'refused'); END")
        )

    async def write() -> None:
        async with database.write() as session:
            await session.execute(text("UPDATE generation SET value = 7"))
            with pytest.raises(IntegrityError, match="refused"):
                await session.execute(text("INSERT INTO domains (id, name) VALUES ('1', 'acme')"))
            await session.execute(text("UPDATE generation SET value = 8"))

    with pytest.raises(IntegrityError, match="refused"):
        await write()
    assert await database.rows(text("SELECT value FROM generation WHERE value IN (7, 8)"), {}) == []


async def test_a_transaction_that_a_statement_has_ended_is_not_continued(database: Database):
    async def write() -> None:
        async with database.write() as session:
            await session.execute(text("INSERT INTO domains (id, name) VALUES ('1', 'acme')"))
            await session.execute(text("ROLLBACK"))
            await session.execute(text("INSERT INTO domains (id, name) VALUES ('2', 'other')"))

    with pytest.raises(ProgrammingError, match="the transaction has ended"):
        await write()
    assert not await database.rows(select(DomainRow.id), {})


async def test_the_next_session_works_after_a_transaction_that_sqlite_has_rolled_back(database: Database):
    await fill_the_disk(database)

    async def write() -> None:
        async with database.write() as session:
            await session.execute(text("INSERT INTO domains (id, name) VALUES ('1', 'acme')"))
            await session.execute(FILL)

    with pytest.raises(DatabaseUnavailable):
        await write()

    async with database.write() as session:
        await session.execute(text("INSERT INTO domains (id, name) VALUES ('2', 'other')"))
    assert [row.id for row in await database.rows(select(DomainRow.id), {})] == ["2"]


async def test_a_first_statement_that_fails_on_a_full_disk_may_be_followed_by_another(database: Database):
    await fill_the_disk(database)

    async with database.write() as session:
        with pytest.raises(DatabaseUnavailable):
            await session.execute(FILL)
        await session.execute(text("INSERT INTO domains (id, name) VALUES ('2', 'other')"))
    assert [row.id for row in await database.rows(select(DomainRow.id), {})] == ["2"]


@pytest.fixture
async def connection(database: Database, tmp_path: Path) -> AsyncIterator[sqlite._Connection]:
    opened = await sqlite._Connection.open(
        lambda: sqlite3.connect(tmp_path / "tagferry.db", isolation_level=None, timeout=60, check_same_thread=False),
        SqliteFiles(str(tmp_path / "tagferry.db")),
    )
    yield opened
    opened.stop()


@pytest.fixture
def other(database: Database, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of another process."""
    with closing(sqlite3.connect(tmp_path / "tagferry.db", isolation_level=None)) as opened:
        yield opened


async def test_a_rollback_ends_the_transaction_that_an_abandoned_call_begins_later(
    connection: sqlite._Connection, other: sqlite3.Connection
):
    other.execute("BEGIN IMMEDIATE")
    connection.begin_with("BEGIN IMMEDIATE")
    asking = asyncio.create_task(connection.cursor().execute("SELECT 1"))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])

    rolling_back = asyncio.create_task(connection.rollback())
    await asyncio.sleep(0)
    other.execute("ROLLBACK")
    await rolling_back
    assert not await connection.call(lambda: connection._sqlite.in_transaction)


async def test_a_transaction_that_could_not_begin_begins_with_the_next_statement(
    connection: sqlite._Connection, other: sqlite3.Connection
):
    await connection.cursor().execute("PRAGMA busy_timeout=0")
    other.execute("BEGIN IMMEDIATE")
    connection.begin_with("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        await connection.cursor().execute("SELECT 1")
    other.execute("ROLLBACK")

    await connection.cursor().execute("INSERT INTO domains (id, name) VALUES ('1', 'acme')")
    await connection.rollback()
    assert not other.execute("SELECT id FROM domains").fetchall()


async def test_a_statement_that_failed_does_not_begin_its_transaction_twice(connection: sqlite._Connection):
    connection.begin_with("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="incomplete input"):
        await connection.cursor().execute("INSERT INTO")

    await connection.cursor().execute("SELECT 1")
    assert connection._sqlite.in_transaction
    await connection.rollback()


@pytest.mark.parametrize("is_stopped", [False, True])
async def test_a_closed_connection_refuses_calls(connection: sqlite._Connection, is_stopped: bool):
    if is_stopped:
        connection.stop()
    else:
        await connection.close()

    async with asyncio.timeout(20):
        with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
            await connection.cursor().execute("SELECT 1")
        await connection.close()


async def test_the_threads_end_with_the_database(tmp_path: Path):
    before = threads()
    database = Database(f"sqlite:///{tmp_path / 'tagferry.db'}")
    async with database.read() as first, database.read() as second:
        await first.execute(text("SELECT 1"))
        await second.execute(text("SELECT 1"))
        assert len(new(before)) == 2
    await database.close()

    assert await ended(before)


async def test_the_thread_ends_if_the_file_cannot_be_opened(tmp_path: Path):
    before = threads()
    database = Database(f"sqlite:///{tmp_path / 'none' / 'tagferry.db'}")

    with pytest.raises(DatabaseUnavailable):
        await database.ping()

    assert await ended(before)
    await database.close()


async def test_a_connection_that_is_forgotten_is_closed(tmp_path: Path):
    before = threads()
    database = Database(f"sqlite:///{tmp_path / 'tagferry.db'}")

    async def be_cancelled_at_once() -> None:
        async with database._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    for turns in range(12):
        asking = asyncio.create_task(be_cancelled_at_once())
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
    await database.close()

    assert await ended(before)


async def test_the_thread_of_a_connection_that_was_never_closed_ends_with_it(tmp_path: Path):
    before = threads()
    connection = await sqlite._Connection.open(
        lambda: sqlite3.connect(tmp_path / "tagferry.db", check_same_thread=False), SqliteFiles("")
    )
    # Python warns of a connection of the library that is not closed.
    await connection.call(connection._sqlite.close)
    assert len(new(before)) == 1

    del connection
    gc.collect()
    assert await ended(before)


def test_a_statement_may_outlast_the_event_loop(tmp_path: Path):
    before, proceed = threads(), threading.Event()

    async def begin() -> None:
        connection = await sqlite._Connection.open(lambda: sqlite3.connect(tmp_path / "tagferry.db"), SqliteFiles(""))
        task = asyncio.create_task(connection.call(lambda: proceed.wait(30)))
        await asyncio.sleep(0)
        connection.stop()
        task.cancel()

    asyncio.run(begin())
    proceed.set()
    for thread in new(before):
        thread.join(30)
        assert not thread.is_alive()


async def test_urls_of_earlier_versions_are_still_accepted(tmp_path: Path):
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'tagferry.db'}")
    await database.ping()
    await database.close()


def test_sqlalchemys_adapter_has_the_parts_that_the_driver_relies_on():
    """Fails where another version of SQLAlchemy expects something else of an asyncio driver."""
    assert list(inspect.signature(AsyncAdapt_dbapi_connection).parameters) == ["dbapi", "connection"]
    cursor = inspect.getsource(AsyncAdapt_dbapi_cursor)
    for use in ("_cursor.execute(operation", "_cursor.executemany(", "_cursor.fetchall()", "_cursor.close()"):
        assert use in cursor
    connection = inspect.getsource(AsyncAdapt_dbapi_connection)
    assert "await_(self._connection.commit())" in connection
    assert "await_(self._connection.rollback())" in connection
    assert "await_(self._connection.close())" in connection
