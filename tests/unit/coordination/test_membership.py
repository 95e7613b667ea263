"""Who counts as a worker, and how it is noticed that one is gone."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tagferry.coordination.membership import GRACE_SECONDS, SURE_SECONDS, SharedPresence, SolePresence
from tagferry.db.engine import Database
from tagferry.errors import Unavailable
from tests.support.breaking_proxy import breaking_proxy
from tests.support.clock import Clock
from tests.support.deployment import eventually
from tests.support.postgres import PostgresServer


@pytest.fixture
def name(postgres: PostgresServer, postgres_template: str) -> str:
    return postgres.new_database(like=postgres_template)


@pytest.fixture
async def shared(postgres: PostgresServer, name: str) -> AsyncIterator[Database]:
    database = Database(postgres.url(name))
    yield database
    await database.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def one(shared: Database, clock: Clock) -> AsyncIterator[SharedPresence]:
    presence = SharedPresence(shared, clock=clock)
    yield presence
    await presence.leave()


@pytest.fixture
async def other(shared: Database, clock: Clock) -> AsyncIterator[SharedPresence]:
    presence = SharedPresence(shared, clock=clock)
    yield presence
    await presence.leave()


def cut_off(postgres: PostgresServer, name: str) -> None:
    """End every session that holds locks of workers, as a broken network or an administrator does."""
    postgres.run("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'", database=name)


async def test_a_worker_that_is_there_is_not_absent(one: SharedPresence, other: SharedPresence, clock: Clock):
    first, second = await one.enter(), await other.enter()
    assert first != second
    for _ in range(2):
        assert await other.absent() == []
        clock.now += GRACE_SECONDS

    assert await one.is_certain()


async def test_a_worker_that_left_is_absent_once_it_must_have_noticed_itself(
    one: SharedPresence, other: SharedPresence, clock: Clock
):
    gone = await one.enter()
    await one.leave()

    assert await other.absent() == []
    clock.now += GRACE_SECONDS - 0.1
    assert await other.absent() == []
    clock.now += 0.2
    assert await other.absent() == [gone]


async def test_a_worker_whose_connection_ended_stops_before_it_is_absent_for_others(
    one: SharedPresence,
    other: SharedPresence,
    clock: Clock,
    postgres: PostgresServer,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("tagferry.coordination.membership.ASK_SECONDS", 0.02)
    gone = await one.enter()
    lost = one.lost
    cut_off(postgres, name)

    async with asyncio.timeout(5):
        await lost.wait()
    assert not await one.is_certain()
    assert await other.absent() == []
    clock.now += GRACE_SECONDS
    assert await other.absent() == [gone]

    again = await one.enter()
    assert again != gone
    assert await one.is_certain()
    assert not one.lost.is_set()


async def test_a_worker_that_is_cut_off_knows_it_before_the_driver_does(
    postgres: PostgresServer, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.coordination.membership.ASK_SECONDS", 0.05)
    monkeypatch.setattr("tagferry.coordination.membership.SURE_SECONDS", 0.5)
    async with breaking_proxy(f"http://127.0.0.1:{postgres.port}") as proxy:
        port = urlsplit(proxy.url).port
        database = Database(postgres.url(name, port=port))
        presence = SharedPresence(database)
        await presence.enter()
        proxy.is_open.clear()

        # The driver waits for ten seconds after it was told to stop; until then others would have taken over.
        async with asyncio.timeout(4):
            await presence.lost.wait()
        assert not await presence.try_lock("blob")
        assert not await presence.is_certain()

        await presence.leave()
        await database.close()


async def test_a_worker_that_stood_still_asks_before_it_goes_on(
    one: SharedPresence, clock: Clock, postgres: PostgresServer, name: str, monkeypatch: pytest.MonkeyPatch
):
    # However busy the machine is, the worker must not have asked by itself before it is asked here.
    monkeypatch.setattr("tagferry.coordination.membership.ASK_SECONDS", 5.0)
    await one.enter()
    clock.now += SURE_SECONDS + 1
    assert await one.is_certain()

    cut_off(postgres, name)
    assert await one.is_certain(), "within a few seconds of its last answer nobody takes it for gone"
    clock.now += SURE_SECONDS + 1
    assert not await one.is_certain()
    assert one.lost.is_set()


async def test_a_lock_is_had_by_one_worker_and_goes_with_it(one: SharedPresence, other: SharedPresence):
    await one.enter()
    await other.enter()
    assert await one.try_lock("blob")
    assert not await other.try_lock("blob")
    assert await other.try_lock("another")

    await one.unlock("blob")
    assert await other.try_lock("blob")
    await other.leave()
    await eventually(partial(one.try_lock, "blob"), seconds=5)


async def test_one_worker_leads_and_another_one_once_it_is_gone(one: SharedPresence, other: SharedPresence):
    assert not await one.leads(), "who is no worker does not lead"
    await one.enter()
    await other.enter()

    assert [await one.leads(), await one.leads(), await other.leads()] == [True, True, False]
    await one.leave()
    assert not await one.leads()
    await eventually(other.leads, seconds=5)
    await one.enter()
    assert not await one.leads()


async def test_a_worker_without_its_database_has_no_locks(one: SharedPresence, postgres: PostgresServer, name: str):
    await one.enter()
    cut_off(postgres, name)

    assert not await one.try_lock("blob")
    await one.unlock("blob")


async def test_a_database_that_cannot_be_reached_is_unavailable():
    nowhere = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")

    with pytest.raises(Unavailable, match="the database cannot be used by this worker"):
        await SharedPresence(nowhere).enter()
    await nowhere.close()


async def test_a_second_process_on_one_file_is_refused_until_the_first_has_left(tmp_path: Path):
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'tagferry.db'}")
    await database.migrate()
    first, second = SolePresence(database), SolePresence(database)
    await first.enter()

    with pytest.raises(Unavailable, match=r"another tagferry works on .*tagferry\.db already; several need PostgreSQL"):
        await second.enter()
    assert await first.absent() == []
    await first.leave()
    await second.enter()
    await second.leave()
    await database.close()


async def test_a_process_on_one_file_finds_those_before_it_that_were_killed(tmp_path: Path):
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'tagferry.db'}")
    await database.migrate()
    former, present = SolePresence(database), SolePresence(database)
    killed = await former.enter()
    former._let_go()

    await present.enter()

    assert await present.absent() == [killed]
    await present.leave()
    await database.close()
