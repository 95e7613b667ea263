"""The generation after triggers are lost, backups are restored, or rows are replaced by hand."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, make_url, select, text, update

from tagferry.db.engine import Database
from tagferry.db.tables import Base, GenerationRow
from tests.support.postgres import PostgresServer
from tests.support.schemas import sqlite_in

DEFINITIONS = {
    "sqlite": "SELECT sql FROM sqlite_master WHERE name = 'generation_users_update'",
    "postgresql": "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'generation_users'",
}
"""The queries for the statement that creates a trigger of `users`."""


async def current(database: Database) -> object:
    found = await database.generation.current()
    assert found is not None
    return found


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> str:
    """A database whose schema a test may change."""
    if kind == "sqlite":
        return sqlite_in(tmp_path)
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.url(server.new_database(like=request.getfixturevalue("postgres_template")))


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("DROP TRIGGER generation_users_delete", "sqlite"),
        ("DROP TRIGGER generation_users ON users", "postgresql"),
        ("ALTER TABLE tokens DISABLE TRIGGER generation_tokens", "postgresql"),
    ],
)
async def test_if_triggers_are_missing_it_is_unknown(url: str, statement: str, capsys: pytest.CaptureFixture[str]):
    database = Database(url)
    async with database.write() as session:
        await session.execute(text(statement))

    assert await database.generation.current() is None

    assert "the database lacks triggers, so nothing is remembered between requests" in capsys.readouterr().err
    await database.close()


@pytest.mark.parametrize(
    ("statement", "undo", "kind"),
    [
        ("DROP TRIGGER generation_users_update", None, "sqlite"),
        ("DROP TRIGGER generation_users ON users", None, "postgresql"),
        (
            "ALTER TABLE users DISABLE TRIGGER generation_users",
            "ALTER TABLE users ENABLE ALWAYS TRIGGER generation_users",
            "postgresql",
        ),
        (
            "ALTER TABLE users ENABLE TRIGGER generation_users",
            "ALTER TABLE users ENABLE ALWAYS TRIGGER generation_users",
            "postgresql",
        ),
    ],
)
async def test_triggers_that_are_lost_later_make_it_unknown_until_they_are_back(
    url: str, statement: str, undo: str | None, kind: str
):
    database = Database(url)
    before = await current(database)
    if undo is None:
        async with database.read() as session:
            undo = (await session.execute(text(DEFINITIONS[kind]))).scalar_one()
    async with database.write() as session:
        await session.execute(text(statement))

    assert [await database.generation.current() for _ in range(2)] == [None, None]

    async with database.write() as session:
        await session.execute(text("UPDATE users SET name = 'unnoticed'"))
    async with database.write() as session:
        await session.execute(text(undo))
        if kind == "postgresql":
            await session.execute(text("ALTER TABLE users ENABLE ALWAYS TRIGGER generation_users"))

    # What was remembered before may have changed while the trigger was missing.
    assert await current(database) != before
    await database.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_triggers_that_are_lost_for_a_moment_change_it(url: str, kind: str):
    database = Database(url)
    before = await current(database)
    async with database.read() as session:
        definition = (await session.execute(text(DEFINITIONS[kind]))).scalar_one()
    async with database.write() as session:
        on = " ON users" if kind == "postgresql" else "_update"
        await session.execute(text(f"DROP TRIGGER generation_users{on}"))
        await session.execute(text("UPDATE users SET name = 'unnoticed'"))
        await session.execute(text(definition))
        if kind == "postgresql":
            await session.execute(text("ALTER TABLE users ENABLE ALWAYS TRIGGER generation_users"))

    assert await current(database) != before
    await database.close()


async def test_a_locked_table_makes_it_unknown_instead_of_waiting(postgres: Any, postgres_template: str):
    database = Database(postgres.url(postgres.new_database(like=postgres_template)))
    await current(database)
    async with database.write() as session:
        await session.execute(text("LOCK TABLE generation"))

        assert await asyncio.wait_for(database.generation.current(), 30) is None

    await database.close()


async def test_a_number_of_a_transaction_that_came_with_a_dump_hides_no_change(postgres: Any, postgres_template: str):
    url = postgres.url(postgres.new_database(like=postgres_template))
    database, restore = Database(url), Database(url)
    numbers = set(GenerationRow.__table__.columns.keys()) - {"id", "value"}
    async with database.write() as session:
        transaction = (await session.execute(text("SELECT txid_current()"))).scalar_one()
        async with restore.write() as other:
            await other.execute(update(GenerationRow).values({"id": 1, **dict.fromkeys(numbers, transaction)}))
        before = await current(database)
        await session.execute(text("INSERT INTO domains (id, name) VALUES ('1', 'acme')"))

    assert await current(database) != before
    await database.close()
    await restore.close()


async def test_a_transaction_changes_it_once(postgres: Any, postgres_template: str):
    database = Database(postgres.url(postgres.new_database(like=postgres_template)))
    async with database.write() as session:
        values = []
        for number in range(3):
            await session.execute(insert(Base.metadata.tables["domains"]).values(id=str(number), name=str(number)))
            await session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
            values.append((await session.execute(select(GenerationRow.value))).scalar_one())

    assert len(set(values)) == 1
    await database.close()


async def test_a_row_that_was_restored_changes_it(postgres: Any, postgres_template: str):
    database = Database(postgres.url(postgres.new_database(like=postgres_template)))
    before = await current(database)
    async with database.write() as session:
        value = (await session.execute(select(GenerationRow.value))).scalar_one()
        await session.execute(text("TRUNCATE generation"))
        await session.execute(insert(GenerationRow).values(id=1, value=value))

    # The content may be an earlier one, for example without tokens that were found since then.
    assert await current(database) != before
    await database.close()


async def test_a_backup_that_is_restored_meanwhile_changes_it(tmp_path: Any):
    url = sqlite_in(tmp_path)
    database = Database(url)
    before = await current(database)
    with closing(sqlite3.connect(make_url(url).database or "")) as live, closing(sqlite3.connect(":memory:")) as backup:
        live.backup(backup)
        backup.backup(live)

    assert await current(database) != before
    await database.close()


@pytest.mark.parametrize(
    ("number", "token", "user"), [(7, "token", "other user"), (7, "other token", "user"), (8, "token", "other user")]
)
async def test_a_token_that_is_replaced_by_hand_changes_it(tmp_path: Any, number: int, token: str, user: str):
    url = sqlite_in(tmp_path)
    database = Database(url)
    columns = "(rowid, token_hash, user_id, method, is_scoped, issued_at, expires_at) VALUES (?, ?, ?, '', 1, '', '')"
    with closing(sqlite3.connect(make_url(url).database or "", isolation_level=None)) as by_hand:
        by_hand.execute("INSERT INTO tokens " + columns, (7, "token", "user"))
        before = await current(database)

        by_hand.execute("REPLACE INTO tokens " + columns, (number, token, user))

    assert await current(database) != before
    await database.close()
