"""Each process records itself, and is listed until it ends."""

import asyncio
from datetime import timedelta
from typing import Any, NoReturn, cast

import pytest
from sqlalchemy import update

from tagferry import __version__
from tagferry.accounts.model import Caller
from tagferry.db.engine import Database
from tagferry.db.tables import ProcessRow
from tagferry.errors import DatabaseUnavailable, Denied
from tagferry.names import RegionId
from tagferry.sync.jobs.worker import Worker
from tagferry.workers import LOST_AFTER, ProcessList, ProcessRecord
from tests.support.deployment import eventually
from tests.support.metrics import sample

ADMIN = Caller("1", "admin", "2", "tagferry", is_admin=True)
CAROL = Caller("3", "carol", "2", "tagferry", is_admin=False)


class FakeWorker:
    """A worker with some slots in use."""

    def __init__(self, slots: int = 4, running: int = 2) -> None:
        self.slots = slots
        self.running = running


def record(database: Database, worker: FakeWorker, *, is_leader: bool = False) -> ProcessRecord:
    async def leads() -> bool:
        return is_leader

    return ProcessRecord(database, cast("Worker", worker), regions=[RegionId("north")], is_leader=leads)


async def shown(database: Database) -> list[dict[str, Any]]:
    fields = ("version", "slots", "running", "is_leader", "is_lost")
    return [{name: getattr(one, name) for name in fields} for one in await ProcessList(database).all(ADMIN)]


async def test_a_process_is_listed_with_its_slots_until_it_ends(database: Database):
    worker = FakeWorker()
    process = record(database, worker, is_leader=True)
    await process.update()
    worker.running = 3
    await process.update()

    assert await shown(database) == [
        {"version": __version__, "slots": 4, "running": 3, "is_leader": True, "is_lost": False}
    ]
    await process.remove()
    assert await shown(database) == []


async def test_a_process_that_was_killed_is_shown_as_lost(database: Database):
    await record(database, FakeWorker(), is_leader=True).update()
    (process,) = await ProcessList(database).all(ADMIN)
    async with database.write() as session:
        await session.execute(update(ProcessRow).values(seen_at=process.started_at - 2 * LOST_AFTER))

    (lost,) = await shown(database)

    assert (lost["is_lost"], lost["is_leader"]) == (True, False)


async def test_processes_that_were_lost_long_ago_are_forgotten(database: Database):
    old = record(database, FakeWorker())
    await old.update()
    (process,) = await ProcessList(database).all(ADMIN)
    async with database.write() as session:
        await session.execute(update(ProcessRow).values(seen_at=process.started_at - timedelta(days=2)))

    await record(database, FakeWorker(slots=7)).update()

    assert [one["slots"] for one in await shown(database)] == [7]


async def test_a_process_without_slots_is_no_leader(database: Database):
    await record(database, FakeWorker(slots=0, running=0), is_leader=True).update()

    assert [one["is_leader"] for one in await shown(database)] == [False]


async def test_a_lost_database_ends_neither_the_task_nor_the_shutdown(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    process = record(database, FakeWorker())
    write = database.write

    def lost() -> NoReturn:
        raise DatabaseUnavailable("the database does not answer")

    monkeypatch.setattr("tagferry.workers.SEEN_SECONDS", 0.01)
    monkeypatch.setattr(database, "write", lost)
    keeping = asyncio.create_task(process.keep())
    await process.remove()

    async def is_down() -> bool:
        return sample("tagferry_database_up") == 0

    await eventually(is_down)
    assert not keeping.done()
    monkeypatch.setattr(database, "write", write)

    async def is_listed() -> bool:
        return bool(await shown(database))

    await eventually(is_listed)

    async def is_up() -> bool:
        return sample("tagferry_database_up") == 1

    await eventually(is_up)
    keeping.cancel()
    await asyncio.wait([keeping])


async def test_only_administrators_list_processes(database: Database):
    with pytest.raises(Denied, match="not an administrator"):
        await ProcessList(database).all(CAROL)
