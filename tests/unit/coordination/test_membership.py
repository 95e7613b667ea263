"""Workers join, keep their lease, and are detected when they are lost."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text

from tagferry.coordination.postgres import GRACE_SECONDS, PostgresCoordination
from tagferry.coordination.single_process import SingleProcess
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
async def one(shared: Database, clock: Clock) -> AsyncIterator[PostgresCoordination]:
    membership = PostgresCoordination(shared, clock=clock)
    yield membership
    await membership.leave()


@pytest.fixture
async def other(shared: Database, clock: Clock) -> AsyncIterator[PostgresCoordination]:
    membership = PostgresCoordination(shared, clock=clock)
    yield membership
    await membership.leave()


def cut_off(postgres: PostgresServer, name: str) -> None:
    """End every session that holds locks of workers, as a broken network or an administrator does."""
    postgres.run("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'", database=name)


async def is_unlocked(database: Database) -> bool:
    """Return whether the sessions of all workers have ended, which the server does after they have disconnected."""
    async with database.read() as session:
        locks = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND database = "
        current = "(SELECT oid FROM pg_database WHERE datname = current_database())"
        return await session.scalar(text(locks + current)) is None


async def test_a_running_worker_is_not_lost(one: PostgresCoordination, other: PostgresCoordination, clock: Clock):
    first, second = await one.join(), await other.join()
    assert first != second
    for _ in range(2):
        assert await other.lost_workers() == []
        clock.now += GRACE_SECONDS

    assert await one.holds_lease()


async def test_a_worker_that_left_is_lost_once_its_lease_has_expired(
    one: PostgresCoordination, other: PostgresCoordination, clock: Clock, shared: Database
):
    left = await one.join()
    await one.leave()
    await eventually(partial(is_unlocked, shared))

    assert await other.lost_workers() == []
    clock.now += GRACE_SECONDS - 0.1
    assert await other.lost_workers() == []
    clock.now += 0.2
    assert await other.lost_workers() == [left]


async def test_a_worker_whose_connection_ended_stops_before_others_consider_it_lost(
    one: PostgresCoordination,
    other: PostgresCoordination,
    clock: Clock,
    postgres: PostgresServer,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    shared: Database,
):
    monkeypatch.setattr("tagferry.coordination.postgres.RENEW_SECONDS", 0.02)
    left = await one.join()
    lost = one.lost
    cut_off(postgres, name)

    async with asyncio.timeout(60):
        await lost.wait()
    assert not await one.holds_lease()
    await eventually(partial(is_unlocked, shared))
    assert await other.lost_workers() == []
    clock.now += GRACE_SECONDS
    assert await other.lost_workers() == [left]

    again = await one.join()
    assert again != left
    assert await one.holds_lease()
    assert not one.lost.is_set()


async def test_a_worker_that_is_cut_off_notices_before_the_driver_does(
    postgres: PostgresServer, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.coordination.postgres.RENEW_SECONDS", 0.05)
    monkeypatch.setattr("tagferry.coordination.postgres.LEASE_SECONDS", 0.5)
    async with breaking_proxy(f"http://127.0.0.1:{postgres.port}") as proxy:
        port = urlsplit(proxy.url).port
        database = Database(postgres.url(name, port=port))
        membership = PostgresCoordination(database)
        await membership.join()
        proxy.is_open.clear()

        # The driver takes ten seconds to cancel; by then others would have taken over.
        async with asyncio.timeout(8):
            await membership.lost.wait()
        assert not await membership.try_lock("blob")
        assert not await membership.holds_lease()

        await membership.leave()
        await database.close()


async def test_a_worker_that_was_suspended_checks_its_lease_before_it_continues(
    one: PostgresCoordination, clock: Clock, postgres: PostgresServer, name: str, monkeypatch: pytest.MonkeyPatch
):
    # However busy the machine is, the worker must not renew by itself before the test does, and gets its answers.
    lease = 660.0
    monkeypatch.setattr("tagferry.coordination.postgres.RENEW_SECONDS", 600.0)
    monkeypatch.setattr("tagferry.coordination.postgres.LEASE_SECONDS", lease)
    await one.join()
    clock.now += lease + 1
    assert await one.holds_lease()

    cut_off(postgres, name)
    assert await one.holds_lease(), "the lease lasts for a while after the last response"
    clock.now += lease + 1
    assert not await one.holds_lease()
    assert one.lost.is_set()


async def test_a_lock_is_held_by_one_worker_and_released_with_it(
    one: PostgresCoordination, other: PostgresCoordination
):
    await one.join()
    await other.join()
    assert await one.try_lock("blob")
    assert not await other.try_lock("blob")
    assert await other.try_lock("another")

    await one.unlock("blob")
    assert await other.try_lock("blob")
    await other.leave()
    await eventually(partial(one.try_lock, "blob"))


async def test_another_worker_becomes_the_leader_once_the_leader_has_left(
    one: PostgresCoordination, other: PostgresCoordination
):
    assert not await one.is_leader(), "a process that has not joined is not the leader"
    await one.join()
    await other.join()

    assert [await one.is_leader(), await one.is_leader(), await other.is_leader()] == [True, True, False]
    await one.leave()
    assert not await one.is_leader()
    await eventually(other.is_leader)
    await one.join()
    assert not await one.is_leader()


async def test_a_worker_without_its_database_gets_no_locks(
    one: PostgresCoordination, postgres: PostgresServer, name: str
):
    await one.join()
    cut_off(postgres, name)

    assert not await one.try_lock("blob")
    await one.unlock("blob")


async def test_a_database_that_cannot_be_reached_is_unavailable():
    nowhere = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")

    with pytest.raises(Unavailable, match="this worker cannot use the database"):
        await PostgresCoordination(nowhere).join()
    await nowhere.close()


async def test_a_second_process_on_one_file_is_refused_until_the_first_has_left(tmp_path: Path):
    database = Database(f"sqlite:///{tmp_path / 'tagferry.db'}")
    await database.migrate()
    first, second = SingleProcess(database), SingleProcess(database)
    await first.join()

    with pytest.raises(Unavailable, match=r"another tagferry process uses .*tagferry\.db; to run several"):
        await second.join()
    assert await first.lost_workers() == []
    await first.leave()
    await second.join()
    await second.leave()
    await database.close()


async def test_a_process_on_a_file_finds_the_killed_workers_before_it(tmp_path: Path):
    database = Database(f"sqlite:///{tmp_path / 'tagferry.db'}")
    await database.migrate()
    former, present = SingleProcess(database), SingleProcess(database)
    killed = await former.join()
    former._unlock_file()

    await present.join()

    assert await present.lost_workers() == [killed]
    await present.leave()
    await database.close()


async def test_a_worker_whose_lock_file_was_deleted_stops_before_another_one_works(tmp_path: Path):
    path = tmp_path / "tagferry.db"
    databases = [Database(f"sqlite:///{path}") for _ in range(2)]
    await databases[0].migrate()
    first, second = (SingleProcess(database) for database in databases)
    await first.join()
    assert await first.holds_lease()

    path.with_name("tagferry.db.lock").unlink()
    await second.join()

    assert not await first.holds_lease()
    assert first.lost.is_set()
    with pytest.raises(Unavailable, match="another tagferry process uses"):
        await first.join()
    assert await second.holds_lease()
    await second.leave()
    await first.join()
    assert await first.holds_lease()
    assert not first.lost.is_set()
    await first.leave()
    for database in databases:
        await database.close()


async def test_a_worker_whose_lock_file_was_deleted_locks_a_new_one(tmp_path: Path):
    database = Database(f"sqlite:///{tmp_path / 'tagferry.db'}")
    await database.migrate()
    worker = SingleProcess(database)
    await worker.join()
    (tmp_path / "tagferry.db.lock").unlink()
    assert not await worker.holds_lease()

    await worker.join()

    assert await worker.holds_lease()
    await worker.leave()
    await database.close()
