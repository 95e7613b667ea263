"""Places of blobs that outlive the process that saw them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, func, select, text, update

from tagferry.cache import blob_locations as locations
from tagferry.cache.blob_locations import MAX_AGE, DatabaseBlobLocations
from tagferry.db.engine import Database
from tagferry.db.tables import BlobLocationRow
from tagferry.names import Digest, RepositoryName
from tests.support.deployment import eventually

TARGET, ELSEWHERE = "https://target.example", "https://elsewhere.example"
APP, SIBLING = RepositoryName("team/app"), RepositoryName("team/sibling")
FIRST, SECOND = Digest.of(b"first"), Digest.of(b"second")

Starting = Callable[..., DatabaseBlobLocations]


@pytest.fixture
async def start(database: Database) -> AsyncIterator[Starting]:
    """Makes what a process has of its own, and closes it in the end."""
    started: list[DatabaseBlobLocations] = []

    def start_one(address: str = TARGET, *, limit: int = 10_000, region: str = "south") -> DatabaseBlobLocations:
        started.append(DatabaseBlobLocations(database, {region: address}, limit=limit))
        return started[-1]

    yield start_one
    for one in started:
        await one.close()


async def rows(database: Database) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(BlobLocationRow)) or 0


async def test_what_was_seen_is_found_by_the_next_process_latest_sighting_first(start: Starting):
    before = start()
    before.add("south", APP, FIRST)
    await before.close()
    before.add("south", SIBLING, FIRST)
    before.add("south", APP, SECOND)
    await before.close()

    found = await start().find("south", [FIRST, SECOND, Digest.of(b"never seen")])

    assert found == {FIRST: [SIBLING, APP], SECOND: [APP]}


async def test_it_is_written_behind_without_being_closed(
    start: Starting, database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(locations, "_PAUSE_SECONDS", 0.01)
    start().add("south", APP, FIRST)

    assert await eventually(lambda: rows(database)) == 1


async def test_a_registry_is_known_by_its_address_and_not_by_its_region_s_name(start: Starting):
    before = start()
    before.add("south", APP, FIRST)
    await before.close()

    assert await start(ELSEWHERE).find("south", [FIRST]) == {}
    assert await start(TARGET, region="renamed").find("renamed", [FIRST]) == {FIRST: [APP]}


async def test_about_a_store_without_an_address_nothing_is_kept(start: Starting, database: Database):
    kept = start()
    kept.add("unknown", APP, FIRST)
    await kept.close()

    assert await rows(database) == 0
    assert await kept.find("unknown", [FIRST]) == {}


async def test_what_was_removed_is_gone_at_once_and_for_good(start: Starting):
    before = start()
    before.add("south", APP, FIRST)
    before.add("south", SIBLING, FIRST)
    await before.close()

    before.remove("south", APP, FIRST)
    assert await before.find("south", [FIRST]) == {FIRST: [SIBLING]}
    await before.close()

    assert await start().find("south", [FIRST]) == {FIRST: [SIBLING]}


async def test_a_new_sighting_renews_the_old_one(start: Starting, database: Database):
    for _ in range(2):
        kept = start()
        kept.add("south", APP, FIRST)
        await kept.close()
        await age(database, APP, MAX_AGE - timedelta(days=1))
    kept = start()
    kept.add("south", APP, FIRST)
    await kept.close()

    async with database.read() as session:
        (row,) = await session.scalars(select(BlobLocationRow))
    assert datetime.now(UTC) - row.seen_at < timedelta(minutes=1)


async def age(database: Database, repository: RepositoryName, by: timedelta) -> None:
    """Let every sighting in this repository be older than it is."""
    async with database.write() as session:
        await session.execute(
            update(BlobLocationRow)
            .where(BlobLocationRow.repository == repository)
            .values(seen_at=datetime.now(UTC) - by)
        )


async def test_the_oldest_of_what_is_too_much_is_pruned(start: Starting, database: Database):
    before = start()
    before.add("south", APP, FIRST)
    await before.close()
    await age(database, APP, timedelta(days=1))
    after = start(limit=20)
    for number in range(20):
        after.add("south", SIBLING, Digest.of(str(number).encode()))
    await after.close()

    assert await rows(database) == 20
    assert await after.find("south", [FIRST]) == {}


async def test_what_was_not_seen_for_too_long_is_pruned(start: Starting, database: Database):
    before = start()
    before.add("south", APP, FIRST)
    before.add("south", SIBLING, FIRST)
    await before.close()
    await age(database, APP, MAX_AGE + timedelta(days=1))

    after = start()
    after.add("south", SIBLING, SECOND)
    await after.close()

    assert await after.find("south", [FIRST]) == {FIRST: [SIBLING]}


async def test_a_round_of_pruning_deletes_a_bounded_number(
    start: Starting, database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(locations, "_PRUNED_AT_ONCE", 5)
    kept = start(limit=1)
    for number in range(30):
        kept.add("south", APP, Digest.of(str(number).encode()))

    await kept.close()

    assert await rows(database) == 25


async def test_a_plan_of_any_size_costs_one_query(start: Starting, database: Database):
    kept = start()
    digests = [Digest.of(str(number).encode()) for number in range(3000)]
    for digest in digests:
        kept.add("south", APP, digest)
    await kept.close()
    asked: list[str] = []
    event.listen(database._engine.sync_engine, "before_cursor_execute", lambda *call: asked.append(call[2]))

    found = await kept.find("south", digests)

    assert len(found) == len(digests)
    assert len([statement for statement in asked if statement.startswith("SELECT")]) == 1


async def test_two_processes_may_see_the_same(start: Starting, database: Database):
    both = start(), start()
    for kept in both:
        kept.add("south", APP, FIRST)

    await asyncio.gather(*(kept.close() for kept in both))

    assert await rows(database) == 1


async def test_a_database_that_does_not_answer_harms_nobody(tmp_path: Path):
    empty = Database(f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}")
    kept = DatabaseBlobLocations(empty, {"south": TARGET})
    kept.add("south", APP, FIRST)

    assert await kept.find("south", [FIRST]) == {}
    await kept.close()
    async with empty.read() as session:
        assert await session.scalar(text("SELECT count(*) FROM sqlite_master")) == 0
    await empty.close()
