"""Blob locations survive the process that saw the blobs."""

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
    """Opens the locations of a process, and closes them at the end."""
    started: list[DatabaseBlobLocations] = []

    def start_one(*, limit: int = 10_000) -> DatabaseBlobLocations:
        started.append(DatabaseBlobLocations(database, limit=limit))
        return started[-1]

    yield start_one
    for one in started:
        await one.close()


async def rows(database: Database) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(BlobLocationRow)) or 0


async def test_the_next_process_finds_locations_latest_first(start: Starting):
    before = start()
    before.add(TARGET, APP, FIRST)
    await before.close()
    before.add(TARGET, SIBLING, FIRST)
    before.add(TARGET, APP, SECOND)
    await before.close()

    found = await start().find(TARGET, [FIRST, SECOND, Digest.of(b"never seen")])

    assert found == {FIRST: [SIBLING, APP], SECOND: [APP]}


async def test_locations_are_written_without_closing(
    start: Starting, database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(locations, "_PAUSE_SECONDS", 0.01)
    start().add(TARGET, APP, FIRST)

    assert await eventually(lambda: rows(database)) == 1


async def test_locations_belong_to_the_registry_s_address(start: Starting):
    before = start()
    before.add(TARGET, APP, FIRST)
    await before.close()

    assert await start().find(ELSEWHERE, [FIRST]) == {}
    assert await start().find(TARGET, [FIRST]) == {FIRST: [APP]}


async def test_a_removed_location_disappears_immediately_and_stays_removed(start: Starting):
    before = start()
    before.add(TARGET, APP, FIRST)
    before.add(TARGET, SIBLING, FIRST)
    await before.close()

    before.remove(TARGET, APP, FIRST)
    assert await before.find(TARGET, [FIRST]) == {FIRST: [SIBLING]}
    await before.close()

    assert await start().find(TARGET, [FIRST]) == {FIRST: [SIBLING]}


async def test_a_location_that_is_seen_again_is_renewed(start: Starting, database: Database):
    for _ in range(2):
        kept = start()
        kept.add(TARGET, APP, FIRST)
        await kept.close()
        await age(database, APP, MAX_AGE - timedelta(days=1))
    kept = start()
    kept.add(TARGET, APP, FIRST)
    await kept.close()

    async with database.read() as session:
        (row,) = await session.scalars(select(BlobLocationRow))
    assert datetime.now(UTC) - row.seen_at < timedelta(minutes=1)


async def age(database: Database, repository: RepositoryName, by: timedelta) -> None:
    """Make every location in this repository older."""
    async with database.write() as session:
        await session.execute(
            update(BlobLocationRow)
            .where(BlobLocationRow.repository == repository)
            .values(seen_at=datetime.now(UTC) - by)
        )


async def test_the_oldest_locations_above_the_limit_are_pruned(start: Starting, database: Database):
    before = start()
    before.add(TARGET, APP, FIRST)
    await before.close()
    await age(database, APP, timedelta(days=1))
    after = start(limit=20)
    for number in range(20):
        after.add(TARGET, SIBLING, Digest.of(str(number).encode()))
    await after.close()

    assert await rows(database) == 20
    assert await after.find(TARGET, [FIRST]) == {}


async def test_locations_that_were_not_seen_for_too_long_are_pruned(start: Starting, database: Database):
    before = start()
    before.add(TARGET, APP, FIRST)
    before.add(TARGET, SIBLING, FIRST)
    await before.close()
    await age(database, APP, MAX_AGE + timedelta(days=1))

    after = start()
    after.add(TARGET, SIBLING, SECOND)
    await after.close()

    assert await after.find(TARGET, [FIRST]) == {FIRST: [SIBLING]}


async def test_a_round_of_pruning_deletes_a_bounded_number(
    start: Starting, database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(locations, "_PRUNED_PER_ROUND", 5)
    kept = start(limit=1)
    for number in range(30):
        kept.add(TARGET, APP, Digest.of(str(number).encode()))

    await kept.close()

    assert await rows(database) == 25


async def test_a_plan_of_any_size_takes_one_query(start: Starting, database: Database):
    kept = start()
    digests = [Digest.of(str(number).encode()) for number in range(3000)]
    for digest in digests:
        kept.add(TARGET, APP, digest)
    await kept.close()
    asked: list[str] = []
    event.listen(database._engine.sync_engine, "before_cursor_execute", lambda *call: asked.append(call[2]))

    found = await kept.find(TARGET, digests)

    assert len(found) == len(digests)
    assert len([statement for statement in asked if statement.startswith("SELECT")]) == 1


async def test_two_processes_can_see_the_same_blob(start: Starting, database: Database):
    both = start(), start()
    for kept in both:
        kept.add(TARGET, APP, FIRST)

    await asyncio.gather(*(kept.close() for kept in both))

    assert await rows(database) == 1


async def test_an_unavailable_database_raises_no_error(tmp_path: Path):
    empty = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    kept = DatabaseBlobLocations(empty)
    kept.add(TARGET, APP, FIRST)

    assert await kept.find(TARGET, [FIRST]) == {}
    await kept.close()
    async with empty.read() as session:
        assert await session.scalar(text("SELECT count(*) FROM sqlite_master")) == 0
    await empty.close()
