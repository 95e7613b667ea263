"""The generation changes with everything that requests look up, by any process, on both databases."""

import asyncio
import math
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    DateTime,
    Integer,
    Table,
    create_engine,
    delete,
    insert,
    make_url,
    text,
    update,
)
from sqlalchemy.types import TypeDecorator

from tagferry.db.engine import Database
from tagferry.db.generation import COVERED, PostgresGeneration, Reading
from tagferry.db.tables import Base
from tests.support.schemas import sqlite_in

TABLES = [table for table in Base.metadata.sorted_tables if table.name in COVERED]
"""The covered tables, each after those that it refers to."""
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def by_hand(database_url: str) -> Iterator[Connection]:
    """A connection of another program, such as an operator's."""
    engine = create_engine(make_url(database_url).set(drivername=database_url.partition(":")[0].partition("+")[0]))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


async def current(database: Database) -> object:
    found = await database.generation.current()
    assert found is not None
    return found


def value_for(column: Column[Any], number: int) -> Any:
    """Return the value of a column in row `number`, such that rows refer to the rows of their number."""
    kind = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    if isinstance(kind, Boolean):
        return bool(number % 2)
    if isinstance(kind, Integer):
        return number
    if isinstance(kind, DateTime):
        return MOMENT.replace(day=number)
    return {"number": number} if isinstance(kind, JSON) else str(number)


def add_rows(connection: Connection, number: int) -> None:
    for table in TABLES:
        connection.execute(insert(table).values({column: value_for(column, number) for column in table.columns}))
    connection.commit()


def where(table: Table, number: int) -> Any:
    keys = list(table.primary_key.columns)
    return [column == value_for(column, number) for column in keys]


async def test_it_is_the_same_until_something_changes(database: Database):
    assert await current(database) == await current(database)


@pytest.mark.parametrize("table", TABLES, ids=str)
async def test_a_new_row_of_a_covered_table_changes_it(database: Database, by_hand: Connection, table: Table):
    seen = {}
    for each in TABLES:
        before = await current(database)
        by_hand.execute(insert(each).values({column: value_for(column, 1) for column in each.columns}))
        by_hand.commit()
        seen[each.name] = await current(database) != before

    # Only tokens that were found are remembered, so that a new one changes nothing that is.
    assert seen[table.name] == (table.name != "tokens")


@pytest.mark.parametrize("table", TABLES, ids=str)
async def test_a_change_of_any_column_that_requests_look_up_changes_it(
    database: Database, by_hand: Connection, table: Table
):
    add_rows(by_hand, 1)
    is_noticed = {}
    for column in table.columns:
        # Keys keep their value, which counts, too.
        number = 1 if column.primary_key or column.foreign_keys else 2
        before = await current(database)
        by_hand.execute(update(table).where(*where(table, 1)).values({column.name: value_for(column, number)}))
        by_hand.commit()
        is_noticed[column.name] = await current(database) != before

    assert {name for name, noticed in is_noticed.items() if not noticed} == COVERED[table.name]


@pytest.mark.parametrize("table", TABLES, ids=str)
async def test_a_deleted_row_of_a_covered_table_changes_it(database: Database, by_hand: Connection, table: Table):
    add_rows(by_hand, 1)
    for other in reversed(TABLES):
        if other is table:
            break
        by_hand.execute(delete(other))
    by_hand.commit()
    before = await current(database)

    by_hand.execute(delete(table).where(*where(table, 1)))
    by_hand.commit()

    assert await current(database) != before


async def test_rows_that_are_deleted_with_another_change_it(database: Database, by_hand: Connection):
    add_rows(by_hand, 1)
    before = await current(database)
    async with database.write() as session:
        await session.execute(text("DELETE FROM organizations"))

    assert await current(database) != before


async def test_a_statement_without_rows_a_rollback_and_other_tables_do_not_change_it(
    database: Database, by_hand: Connection
):
    add_rows(by_hand, 1)
    before = await current(database)
    by_hand.execute(text("UPDATE users SET name = 'x' WHERE id = 'unknown'"))
    by_hand.execute(text("DELETE FROM access_keys WHERE access_key = 'unknown'"))
    by_hand.execute(text("DELETE FROM workers"))
    by_hand.commit()
    by_hand.execute(text("DELETE FROM access_keys"))
    by_hand.rollback()

    assert await current(database) == before


async def test_a_change_is_seen_when_it_is_committed_and_not_before(database: Database, by_hand: Connection):
    before = await current(database)
    by_hand.execute(text("INSERT INTO domains (id, name) VALUES ('1', 'acme')"))
    assert await current(database) == before

    by_hand.commit()

    assert await current(database) != before


async def test_many_rows_of_one_transaction_change_it_once_and_fast(database: Database, by_hand: Connection):
    before = await current(database)
    by_hand.execute(insert(Base.metadata.tables["domains"]), [{"id": str(n), "name": str(n)} for n in range(5000)])
    by_hand.commit()

    assert await current(database) != before


async def test_an_ignored_conflict_does_not_keep_the_generation(database: Database, by_hand: Connection):
    by_hand.execute(text("INSERT INTO domains (id, name) VALUES ('1', 'acme')"))
    by_hand.commit()
    before = await current(database)

    by_hand.execute(text("INSERT INTO domains (id, name) VALUES ('1', 'acme'), ('2', 'b') ON CONFLICT DO NOTHING"))
    by_hand.commit()

    assert await current(database) != before


async def test_without_its_row_it_is_unknown(database: Database, by_hand: Connection):
    by_hand.execute(text("DELETE FROM generation"))
    by_hand.commit()

    assert await database.generation.current() is None


async def test_truncated_tables_change_it(postgres: Any, postgres_template: str):
    database = Database(postgres.url(postgres.new_database(like=postgres_template)))
    before = await current(database)
    async with database.write() as session:
        await session.execute(text("TRUNCATE repository_shares"))

    assert await current(database) != before
    await database.close()


async def test_what_would_have_to_wait_for_sqlite_is_unknown(tmp_path: Any):
    url = sqlite_in(tmp_path)
    database = Database(url)
    assert await database.generation.current() is not None
    await database.close()
    locking = sqlite3.connect(make_url(url).database or "", isolation_level=None)
    locking.execute("PRAGMA locking_mode=EXCLUSIVE")
    locking.execute("BEGIN EXCLUSIVE")

    assert await asyncio.wait_for(database.generation.current(), 5) is None

    locking.close()
    await database.close()


async def test_it_is_read_again_after_a_failure(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.db.generation._RETRY_SECONDS", 0.0)
    before = await current(database)
    await database.generation.close()

    assert await current(database) == before


async def test_a_lost_connection_makes_it_unknown_and_is_replaced(
    postgres: Any, postgres_template: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.db.generation._RETRY_SECONDS", 0.0)
    database = Database(postgres.url(postgres.new_database(like=postgres_template)))
    before = await current(database)
    async with database.read() as session:
        await session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> "
                "pg_backend_pid() AND datname = current_database()"
            )
        )

    assert await database.generation.current() is None
    assert await current(database) == before
    await database.close()


async def test_transactions_do_not_wait_for_each_other_before_they_commit(postgres: Any, postgres_template: str):
    url = postgres.url(postgres.new_database(like=postgres_template))
    first, second = Database(url), Database(url)
    async with first.write() as session:
        await session.execute(text("INSERT INTO domains (id, name) VALUES ('1', 'acme')"))
        async with second.write() as other:
            await asyncio.wait_for(other.execute(text("INSERT INTO domains (id, name) VALUES ('2', 'b')")), 60)
        before = await current(first)

    assert await current(first) != before
    await first.close()
    await second.close()


async def test_a_caller_that_comes_after_a_query_was_sent_gets_the_result_of_the_next(
    postgres: Any, monkeypatch: pytest.MonkeyPatch
):
    queries: list[asyncio.Future[Reading | None]] = []

    async def query(_generation: PostgresGeneration) -> Reading | None:
        queries.append(asyncio.get_running_loop().create_future())
        return await queries[-1]

    monkeypatch.setattr(PostgresGeneration, "_query", query)
    generation = PostgresGeneration(make_url("postgresql+psycopg://unused"))
    early = [asyncio.create_task(generation.current()) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(queries) == 1
    late = [asyncio.create_task(generation.current()) for _ in range(3)]
    await asyncio.sleep(0)

    queries[0].set_result((1,))
    assert await asyncio.gather(*early) == [(1,)] * 3
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    queries[1].set_result((2,))

    assert await asyncio.gather(*late) == [(2,)] * 3
    assert len(queries) == 2


async def test_a_pinned_task_reads_it_once_and_tasks_that_it_creates_read_it_themselves(
    database: Database, by_hand: Connection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.db.generation._PIN_SECONDS", math.inf)
    with database.generation.pinned():
        before = await current(database)
        by_hand.execute(text("INSERT INTO domains (id, name) VALUES ('1', 'acme')"))
        by_hand.commit()
        kept = await current(database)
        elsewhere = await asyncio.create_task(current(database))

    assert kept == before
    assert elsewhere == await current(database) != before


async def test_a_pinned_task_that_has_waited_reads_it_again(
    database: Database, by_hand: Connection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.db.generation._PIN_SECONDS", -1.0)
    with database.generation.pinned():
        before = await current(database)
        by_hand.execute(text("INSERT INTO domains (id, name) VALUES ('1', 'acme')"))
        by_hand.commit()

        assert await current(database) != before
