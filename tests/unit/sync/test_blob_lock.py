"""Of workers that race for the same blob, one uploads it and the others mount it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from tagferry.coordination.backend import coordination_of
from tagferry.coordination.locks import NamedLocks
from tagferry.coordination.membership import Membership
from tagferry.coordination.pubsub import LocalMessageBus, message_bus_of
from tagferry.copy.engine import CopyEngine
from tagferry.db.engine import Database
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.supervision import Supervisor
from tagferry.sync.jobs.blob_lock import CopiedBlob, SharedBlobLock
from tests.support.images import image, push
from tests.unit.copy.stores import APP, COPY, ScriptedStore, route
from tests.unit.web.front import until

HERE, THERE = RepositoryName("release/app"), RepositoryName("release/other")
DIGEST = Digest.of(b"layer")


@dataclass
class Locker:
    """The blob lock and the membership of a worker."""

    moves: SharedBlobLock
    membership: Membership


def waits(mover: Locker) -> bool:
    """True while it waits for the lock of a blob."""
    return bool(mover.moves._waiting)


@pytest.fixture
async def lockers(postgres, postgres_template: str) -> AsyncIterator[tuple[Locker, Locker]]:
    """Two workers on one database."""
    url = postgres.url(postgres.new_database(like=postgres_template))
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(2):
            database = Database(url)
            stack.push_async_callback(database.close)
            bus, membership = message_bus_of(database, Supervisor()), coordination_of(database)
            await bus.open()
            stack.push_async_callback(bus.close)
            await membership.join()
            stack.push_async_callback(membership.leave)
            made.append(Locker(SharedBlobLock(bus, membership), membership))
        yield made[0], made[1]


async def test_a_worker_waits_for_the_other_and_learns_where_the_blob_is(
    lockers: tuple[Locker, Locker], monkeypatch: pytest.MonkeyPatch
):
    # Whoever looks for the lock at the moment of the message gets the one and not the other.
    monkeypatch.setattr("tagferry.sync.jobs.blob_lock._LOOK_SECONDS", 600.0)
    first, second = lockers
    inside, may_leave = asyncio.Event(), asyncio.Event()

    async def bring() -> None:
        async with first.moves.acquire("target", HERE, DIGEST) as locked:
            inside.set()
            await may_leave.wait()
            locked.is_copied = True

    async def want() -> RepositoryName | None:
        async with second.moves.acquire("target", THERE, DIGEST) as locked:
            return locked.copied_to

    bringing = asyncio.create_task(bring())
    await inside.wait()
    wanting = asyncio.create_task(want())
    await until(lambda: waits(second))
    assert not wanting.done()
    may_leave.set()

    assert await asyncio.wait_for(wanting, 60) == HERE
    await bringing


async def test_a_worker_that_comes_later_does_not_wait(lockers: tuple[Locker, Locker]):
    for mover in lockers:
        async with mover.moves.acquire("target", HERE, DIGEST) as locked:
            assert locked.copied_to is None
            locked.is_copied = True


async def test_other_blobs_and_other_registries_are_locked_independently(lockers: tuple[Locker, Locker]):
    first, second = lockers
    async with asyncio.timeout(60), first.moves.acquire("target", HERE, DIGEST):
        async with second.moves.acquire("target", HERE, Digest.of(b"another")):
            pass
        async with second.moves.acquire("elsewhere", HERE, DIGEST):
            pass


async def test_one_worker_also_uploads_a_blob_to_one_repository_at_a_time(
    lockers: tuple[Locker, Locker], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.sync.jobs.blob_lock._LOOK_SECONDS", 600.0)
    first, _ = lockers

    async def want() -> RepositoryName | None:
        async with first.moves.acquire("target", THERE, DIGEST) as locked:
            return locked.copied_to

    async with first.moves.acquire("target", HERE, DIGEST) as locked:
        wanting = asyncio.create_task(want())
        await until(lambda: waits(first))
        assert not wanting.done()
        locked.is_copied = True
    assert await asyncio.wait_for(wanting, 60) == HERE


class EarlyNotice(NamedLocks):
    """Locks whose notice arrives before the answer to whoever has released one."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.notices: list[Callable[[], None]] = []
        self._lost = asyncio.Event()

    @property
    def lost(self) -> asyncio.Event:
        return self._lost

    async def try_lock(self, name: str) -> bool:
        if name in self.held:
            return False
        self.held.add(name)
        return True

    async def unlock(self, name: str, *, notify: str | None = None) -> None:
        self.held.discard(name)
        for notice in self.notices:
            notice()
        for _ in range(10):
            await asyncio.sleep(0)


async def test_a_notice_that_comes_before_the_lock_is_free_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.sync.jobs.blob_lock._LOOK_SECONDS", 600.0)
    locks = EarlyNotice()
    lock = SharedBlobLock(LocalMessageBus(), locks)
    locks.notices.append(lambda: lock._on_copied([CopiedBlob(f"target {DIGEST}", HERE)]))

    async def want() -> RepositoryName | None:
        async with lock.acquire("target", THERE, DIGEST) as locked:
            return locked.copied_to

    async with lock.acquire("target", HERE, DIGEST) as locked:
        wanting = asyncio.create_task(want())
        await until(lambda: bool(lock._waiting))
        locked.is_copied = True

    assert await asyncio.wait_for(wanting, 60) == HERE


@pytest.mark.parametrize("end", ["fails", "leaves", "is cancelled"])
async def test_the_next_worker_uploads_the_blob_if_the_first_one_did_not(lockers: tuple[Locker, Locker], end: str):
    first, second = lockers
    inside = asyncio.Event()

    async def fail() -> None:
        async with first.moves.acquire("target", HERE, DIGEST):
            inside.set()
            if end == "fails":
                raise OSError
            await asyncio.Event().wait()

    failing = asyncio.create_task(fail())
    await inside.wait()
    if end == "leaves":
        await first.membership.leave()
    if end == "is cancelled":
        failing.cancel()

    async with asyncio.timeout(60), second.moves.acquire("target", THERE, DIGEST) as locked:
        assert locked.copied_to is None
    failing.cancel()
    await asyncio.gather(failing, return_exceptions=True)


async def test_two_workers_upload_shared_layers_once(lockers: tuple[Locker, Locker]):
    source, target = ScriptedStore("source"), ScriptedStore("target")
    sample = image(seed="shared")
    for tag in ("v1", "v2"):
        await push(source, APP, sample, Tag(tag))
    engines = [CopyEngine(blob_lock=mover.moves) for mover in lockers]

    source.reading.clear()

    async with asyncio.TaskGroup() as group:
        for engine, tag in zip(engines, ("v1", "v2"), strict=True):
            group.create_task(engine.copy(route(source, target), Tag(tag), override=False))
        await source.being_read.wait()
        await until(lambda: any(map(waits, lockers)))
        source.reading.set()

    assert await target.tag(COPY, Tag("v1")) == await target.tag(COPY, Tag("v2")) == sample.digest
    assert source.counts["read_blob"] == len(sample.blobs)
