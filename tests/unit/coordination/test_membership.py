"""Who counts as a worker, and how it is noticed that one is gone."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tagferry.coordination.membership import GRACE_SECONDS, LEASE_SECONDS, LocalMembership, PostgresMembership
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
async def one(shared: Database, clock: Clock) -> AsyncIterator[PostgresMembership]:
    membership = PostgresMembership(shared, clock=clock)
    yield membership
    await membership.leave()


@pytest.fixture
async def other(shared: Database, clock: Clock) -> AsyncIterator[PostgresMembership]:
    membership = PostgresMembership(shared, clock=clock)
    yield membership
    await membership.leave()


def cut_off(postgres: PostgresServer, name: str) -> None:
    """End every session that holds locks of workers, as a broken network or an administrator does."""
    postgres.run("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'", database=name)


async def test_a_worker_that_is_there_is_not_absent(one: PostgresMembership, other: PostgresMembership, clock: Clock):
    first, second = await one.join(), await other.join()
    assert first != second
    for _ in range(2):
        assert await other.lost_workers() == []
        clock.now += GRACE_SECONDS

    assert await one.holds_lease()


async def test_a_worker_that_left_is_absent_once_it_must_have_noticed_itself(
    one: PostgresMembership, other: PostgresMembership, clock: Clock
):
    gone = await one.join()
    await one.leave()

    assert await other.lost_workers() == []
    clock.now += GRACE_SECONDS - 0.1
    assert await other.lost_workers() == []
    clock.now += 0.2
    assert await other.lost_workers() == [gone]


async def test_a_worker_whose_connection_ended_stops_before_it_is_absent_for_others(
    one: PostgresMembership,
    other: PostgresMembership,
    clock: Clock,
    postgres: PostgresServer,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("tagferry.coordination.membership.RENEW_SECONDS", 0.02)
    gone = await one.join()
    lost = one.lost
    cut_off(postgres, name)

    async with asyncio.timeout(5):
        await lost.wait()
    assert not await one.holds_lease()
    assert await other.lost_workers() == []
    clock.now += GRACE_SECONDS
    assert await other.lost_workers() == [gone]

    again = await one.join()
    assert again != gone
    assert await one.holds_lease()
    assert not one.lost.is_set()


async def test_a_worker_that_is_cut_off_knows_it_before_the_driver_does(
    postgres: PostgresServer, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.coordination.membership.RENEW_SECONDS", 0.05)
    monkeypatch.setattr("tagferry.coordination.membership.LEASE_SECONDS", 0.5)
    async with breaking_proxy(f"http://127.0.0.1:{postgres.port}") as proxy:
        port = urlsplit(proxy.url).port
        database = Database(postgres.url(name, port=port))
        membership = PostgresMembership(database)
        await membership.join()
        proxy.is_open.clear()

        # The driver waits for ten seconds after it was told to stop; until then others would have taken over.
        async with asyncio.timeout(4):
            await membership.lost.wait()
        assert not await membership.try_lock("blob")
        assert not await membership.holds_lease()

        await membership.leave()
        await database.close()


async def test_a_worker_that_stood_still_asks_before_it_goes_on(
    one: PostgresMembership, clock: Clock, postgres: PostgresServer, name: str, monkeypatch: pytest.MonkeyPatch
):
    # However busy the machine is, the worker must not have asked by itself before it is asked here.
    monkeypatch.setattr("tagferry.coordination.membership.RENEW_SECONDS", 5.0)
    await one.join()
    clock.now += LEASE_SECONDS + 1
    assert await one.holds_lease()

    cut_off(postgres, name)
    assert await one.holds_lease(), "within a few seconds of its last answer nobody takes it for gone"
    clock.now += LEASE_SECONDS + 1
    assert not await one.holds_lease()
    assert one.lost.is_set()


async def test_a_lock_is_had_by_one_worker_and_goes_with_it(one: PostgresMembership, other: PostgresMembership):
    await one.join()
    await other.join()
    assert await one.try_lock("blob")
    assert not await other.try_lock("blob")
    assert await other.try_lock("another")

    await one.unlock("blob")
    assert await other.try_lock("blob")
    await other.leave()
    await eventually(partial(one.try_lock, "blob"), seconds=5)


async def test_one_worker_leads_and_another_one_once_it_is_gone(one: PostgresMembership, other: PostgresMembership):
    assert not await one.is_leader(), "who is no worker does not lead"
    await one.join()
    await other.join()

    assert [await one.is_leader(), await one.is_leader(), await other.is_leader()] == [True, True, False]
    await one.leave()
    assert not await one.is_leader()
    await eventually(other.is_leader, seconds=5)
    await one.join()
    assert not await one.is_leader()


async def test_a_worker_without_its_database_has_no_locks(one: PostgresMembership, postgres: PostgresServer, name: str):
    await one.join()
    cut_off(postgres, name)

    assert not await one.try_lock("blob")
    await one.unlock("blob")


async def test_a_database_that_cannot_be_reached_is_unavailable():
    nowhere = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")

    with pytest.raises(Unavailable, match="the database cannot be used by this worker"):
        await PostgresMembership(nowhere).join()
    await nowhere.close()


async def test_a_second_process_on_one_file_is_refused_until_the_first_has_left(tmp_path: Path):
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'tagferry.db'}")
    await database.migrate()
    first, second = LocalMembership(database), LocalMembership(database)
    await first.join()

    with pytest.raises(Unavailable, match=r"another tagferry works on .*tagferry\.db already; several need PostgreSQL"):
        await second.join()
    assert await first.lost_workers() == []
    await first.leave()
    await second.join()
    await second.leave()
    await database.close()


async def test_a_process_on_one_file_finds_those_before_it_that_were_killed(tmp_path: Path):
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'tagferry.db'}")
    await database.migrate()
    former, present = LocalMembership(database), LocalMembership(database)
    killed = await former.join()
    former._let_go()

    await present.join()

    assert await present.lost_workers() == [killed]
    await present.leave()
    await database.close()
