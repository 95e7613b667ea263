"""A check of the database changes nothing, and finds what would fail later."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from tagferry.db.engine import Database
from tagferry.errors import Unavailable
from tests.support.disks import read_only
from tests.support.postgres import PostgresServer
from tests.support.schemas import REVISIONS, inspected, migrate_to, sqlite_in


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        await database.close()


async def test_a_sound_database_passes(database_url: str):
    async with opened(database_url) as database:
        assert await database.check()
        assert await database.check(thoroughly=True)


async def test_an_older_database_is_not_upgraded(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'tagferry.db'}"
    inspected(url, lambda connection: migrate_to(connection, REVISIONS[1]))

    async with opened(url) as database:
        assert not await database.check()

    revision = inspected(url, lambda connection: connection.scalar(text("SELECT version_num FROM alembic_version")))
    assert revision == REVISIONS[1]


async def test_an_empty_database_stays_empty(postgres: PostgresServer):
    url = postgres.url(postgres.new_database())

    async with opened(url) as database:
        assert not await database.check()

    assert inspected(url, lambda connection: inspect(connection).get_table_names()) == []


def lose_a_table(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DROP TABLE sync_rules")


def damage_the_last_page(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        for number in range(500):
            connection.execute("INSERT INTO domains (id, name) VALUES (?, ?)", [str(number), f"name {number}"])
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = connection.execute("PRAGMA page_size").fetchone()[0]
    content = bytearray(file.read_bytes())
    content[-page:] = b"\xff" * page
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("ruin", "sentence"),
    [(lose_a_table, "lacks the table sync_rules; stop"), (damage_the_last_page, "is damaged; stop tagferry and")],
)
async def test_a_damaged_file_is_refused(tmp_path: Path, ruin: Callable[[Path], None], sentence: str):
    url = sqlite_in(tmp_path)
    ruin(tmp_path / "tagferry.db")

    async with opened(url) as database:
        with pytest.raises(Unavailable, match=sentence):
            await database.check(thoroughly=True)


async def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path):
    url = sqlite_in(tmp_path / "data")

    with read_only(tmp_path / "data"):
        async with opened(url) as database:
            with pytest.raises(Unavailable, match=r"tagferry\.db\" cannot be (written|opened); give the user"):
                await database.check()


async def test_a_postgresql_that_accepts_no_writes_is_refused(postgres: PostgresServer, postgres_template: str):
    name = postgres.new_database(like=postgres_template)
    postgres.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on", database="postgres")

    async with opened(postgres.url(name)) as database:
        with pytest.raises(Unavailable, match="PostgreSQL accepts no writes"):
            await database.check()


async def test_a_user_of_postgresql_who_may_not_change_tables_is_refused(
    postgres: PostgresServer, postgres_template: str
):
    name = postgres.new_database(like=postgres_template)
    postgres.run("CREATE ROLE reader LOGIN", database="postgres")
    postgres.run("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", database=name)

    async with opened(postgres.url(name).replace("postgres@", "reader@")) as database:
        with pytest.raises(Unavailable, match="does not permit the user in database_url to read and change the table"):
            await database.check()


async def test_a_user_of_postgresql_who_may_not_use_sequences_is_refused(
    postgres: PostgresServer, postgres_template: str
):
    name = postgres.new_database(like=postgres_template)
    role = f"without_sequences_{name}"
    postgres.run(f"CREATE ROLE {role} LOGIN", database="postgres")
    postgres.run(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}", database=name)

    async with opened(postgres.url(name).replace("postgres@", f"{role}@")) as database:
        with pytest.raises(
            Unavailable, match="does not permit the user in database_url to take numbers from the sequence"
        ):
            await database.check()
        postgres.run(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}", database=name)
        assert await database.check()
