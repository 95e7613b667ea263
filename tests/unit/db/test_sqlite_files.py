"""The files of an SQLite database are replaced or deleted while it is open."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from tagferry.db.engine import Database
from tagferry.db.tables import DomainRow
from tagferry.errors import DatabaseUnavailable


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "tagferry.db"


@pytest.fixture
async def database(file: Path) -> AsyncIterator[Database]:
    creating = Database(f"sqlite:///{file}")
    await creating.migrate()
    await creating.close()
    opened = Database(f"sqlite:///{file}")
    await opened.migrate()
    await add(opened, "before")
    yield opened
    await opened.close()


async def add(database: Database, name: str) -> None:
    async with database.write() as session:
        session.add(DomainRow(id=name, name=name))


async def number(database: Database) -> int:
    (row,) = await database.rows(select(func.count()).select_from(DomainRow), {})
    return int(row[0])


def replace(file: Path) -> None:
    """Do as one who restores a backup beside the running server."""
    copy = file.with_name("backup.db")
    shutil.copy(file, copy)
    copy.rename(file)


def delete(file: Path) -> None:
    file.unlink()


def rename(file: Path) -> None:
    file.rename(file.with_name("old.db"))


def rename_folder(file: Path) -> None:
    file.parent.rename(file.parent.with_name("renamed"))


def delete_log(file: Path) -> None:
    file.with_name("tagferry.db-wal").unlink()


CHANGES = pytest.mark.parametrize("change", [replace, delete, rename, rename_folder, delete_log])


@CHANGES
async def test_nothing_is_read_or_written_after_a_file_was_replaced(
    database: Database, file: Path, change: Callable[[Path], None]
):
    change(file)

    for work in (number(database), add(database, "after"), database.ping()):
        with pytest.raises(DatabaseUnavailable, match="the file of the database was replaced") as refused:
            await work
        assert "stop tagferry" in refused.value.detail
        assert str(file) in refused.value.detail


@pytest.mark.parametrize("change", [replace, delete, rename, rename_folder])
async def test_nothing_is_remembered_after_the_file_was_replaced(
    database: Database, file: Path, change: Callable[[Path], None]
):
    assert await database.generation.current() is not None
    change(file)

    assert await database.generation.current() is None


@CHANGES
async def test_a_transaction_that_began_before_is_not_committed(
    database: Database, file: Path, change: Callable[[Path], None]
):
    async def write() -> None:
        async with database.write() as session:
            await session.execute(text("INSERT INTO domains (id, name) VALUES ('1', 'acme')"))
            change(file)

    with pytest.raises(DatabaseUnavailable, match="the file of the database was replaced"):
        await write()


async def test_no_other_file_is_created_or_opened_by_more_connections(database: Database, file: Path):
    delete(file)

    results = await asyncio.gather(*(number(database) for _ in range(5)), return_exceptions=True)

    assert all(isinstance(result, DatabaseUnavailable) for result in results)
    assert not any(entry.name == file.name for entry in os.scandir(file.parent))


async def test_a_database_that_is_put_back_is_used_again(database: Database, file: Path):
    rename(file)
    with pytest.raises(DatabaseUnavailable):
        await number(database)

    file.with_name("old.db").rename(file)
    assert await number(database) == 1
    await add(database, "after")


async def test_a_database_that_others_write_and_check_is_the_same(database: Database, file: Path):
    for name in ("1", "2"):
        with sqlite3.connect(file) as other:
            other.execute("INSERT INTO domains (id, name) VALUES (?, ?)", (name, name))
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        other.execute("VACUUM")
        other.close()
        await add(database, f"after {name}")

    assert await number(database) == 5
