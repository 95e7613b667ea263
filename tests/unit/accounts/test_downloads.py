"""Downloads are counted without waiting for the database, and add up over processes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.accounts.downloads import Downloads
from tagferry.db.engine import Database
from tagferry.names import Namespace, RegionId, Repository, RepositoryName
from tests.support.deployment import eventually

NORTH, SOUTH = RegionId("north"), RegionId("south")
TEAM, APP, BASE = Namespace("team"), RepositoryName("team/app"), RepositoryName("team/base")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database of each kind, since each adds up in its own way."""
    opened = Database(database_url)
    yield opened
    await opened.close()


async def test_what_was_counted_is_told_at_once_and_by_the_next_process_too(database: Database):
    downloads = Downloads(database)
    for _ in range(3):
        downloads.count(NORTH, APP)
    assert await downloads.of(NORTH, APP) == 3
    await downloads.close()
    assert await downloads.of(NORTH, APP) == await Downloads(database).of(NORTH, APP) == 3


async def test_processes_that_write_at_once_add_up(database: Database):
    processes = [Downloads(database) for _ in range(4)]
    for process in processes:
        for name in (BASE, APP):
            process.count(NORTH, name)
    await asyncio.gather(*(process.close() for process in processes))
    assert await Downloads(database).in_region(NORTH, None) == {APP: 4, BASE: 4}


async def test_regions_and_organizations_are_told_apart(database: Database):
    downloads = Downloads(database)
    elsewhere = RepositoryName("other/app")
    for region, name in ((NORTH, APP), (SOUTH, APP), (NORTH, elsewhere), (NORTH, APP)):
        downloads.count(region, name)
    for _ in ("in memory", "recorded"):
        assert await downloads.in_region(NORTH, [TEAM]) == {APP: 2}
        assert await downloads.in_region(NORTH, None) == {APP: 2, elsewhere: 1}
        assert await downloads.of(SOUTH, APP) == 1
        assert await downloads.of(SOUTH, BASE) == 0
        assert await downloads.of_some(NORTH, [elsewhere, APP, BASE]) == {APP: 2, elsewhere: 1}
        assert await downloads.of_some(NORTH, [BASE, elsewhere]) == {elsewhere: 1}
        await downloads.close()


async def test_the_count_of_one_repository_does_not_read_those_of_its_organization(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    downloads = Downloads(database)
    for number in range(20):
        downloads.count(NORTH, RepositoryName(f"team/app{number}"))
    await downloads.close()
    read: list[str] = []

    class CountedName(RepositoryName):
        def __new__(cls, value: str, *, field: str = "name") -> Self:
            read.append(value)
            return super().__new__(cls, value, field=field)

    monkeypatch.setattr("tagferry.accounts.downloads.RepositoryName", CountedName)

    assert await downloads.of(NORTH, RepositoryName("team/app7")) == 1
    assert read == ["team/app7"]


@pytest.mark.parametrize("is_on_record", [False, True])
async def test_what_is_deleted_begins_anew(database: Database, is_on_record: bool):
    downloads = Downloads(database)
    nested = RepositoryName("team/app/nested")
    for name in (APP, BASE, nested):
        downloads.count(NORTH, name)
    if is_on_record:
        await downloads.close()
    await downloads.forget(NORTH, TEAM, Repository("app"))
    assert await downloads.in_region(NORTH, None) == {BASE: 1, nested: 1}
    downloads.count(NORTH, APP)
    assert await downloads.of(NORTH, APP) == 1
    await downloads.forget(NORTH, TEAM)
    assert await downloads.in_region(NORTH, None) == {}
    await downloads.close()
    assert await Downloads(database).in_region(NORTH, None) == {}


async def test_what_the_database_did_not_take_is_put_on_record_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    def away() -> None:
        raise OperationalError("INSERT", {}, Exception("the database is away"))

    downloads = Downloads(database)
    downloads.count(NORTH, APP)
    with monkeypatch.context() as patched:
        patched.setattr(database, "write", away)
        await downloads.close()
    downloads.count(NORTH, APP)
    await downloads.close()
    assert await Downloads(database).of(NORTH, APP) == 2


async def test_it_is_put_on_record_without_being_closed(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.accounts.downloads._PAUSE_SECONDS", 0.01)
    downloads = Downloads(database)
    for expected in (1, 2):
        downloads.count(NORTH, APP)

        async def is_on_record(number: int = expected) -> bool:
            return await Downloads(database).of(NORTH, APP) == number

        await eventually(is_on_record)
    await downloads.close()


async def test_what_is_being_put_on_record_at_the_end_counts_once(database: Database, monkeypatch: pytest.MonkeyPatch):
    committed, answer, write = asyncio.Event(), asyncio.Event(), database.write

    @asynccontextmanager
    async def slow_to_answer() -> AsyncIterator[AsyncSession]:
        async with write() as session:
            yield session
        committed.set()
        await answer.wait()

    monkeypatch.setattr("tagferry.accounts.downloads._PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(database, "write", slow_to_answer)
    downloads = Downloads(database)
    downloads.count(NORTH, APP)
    await committed.wait()
    closing = asyncio.create_task(downloads.close())
    await asyncio.sleep(0.01)
    answer.set()
    await closing
    assert await Downloads(database).of(NORTH, APP) == 1
