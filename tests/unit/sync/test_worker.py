"""A worker that may have lost its lease stops its jobs."""

import asyncio
from typing import Any

import pytest

from tagferry.coordination.backend import coordination_of
from tagferry.coordination.membership import Membership
from tagferry.db.engine import Database
from tagferry.names import RepositoryName, Tag
from tests.support.deployment import eventually
from tests.support.images import image, push
from tests.unit.sync.conftest import World

V1 = Tag("v1")


class LosableMembership:
    """A membership that can be lost and joined again."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self.lost = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._membership, name)

    async def join(self) -> int:
        self.lost = asyncio.Event()
        return await self._membership.join()


async def test_a_lost_worker_stops_its_copies_even_while_it_waits_for_the_database(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    memberships: list[LosableMembership] = []

    def losable(database: Database) -> LosableMembership:
        memberships.append(LosableMembership(coordination_of(database)))
        return memberships[-1]

    monkeypatch.setattr("tests.unit.sync.conftest.coordination_of", losable)
    service = await world.start_process()
    assert world.process is not None
    await push(world.source, RepositoryName("team/app"), image(), V1)
    world.source.reading.clear()
    await service.start(world.request(V1))
    await world.source.being_read.wait()

    claiming, answer = asyncio.Event(), asyncio.Event()

    async def claim(worker_id: int, slots: int, room: Any) -> list[Any]:
        claiming.set()
        try:
            await answer.wait()
        finally:
            # Like a database driver that cancels its statement at an unreachable server.
            await answer.wait()
        return []

    async def nothing_is_read() -> bool:
        return world.source.open_reads == 0

    async def has_succeeded() -> bool:
        return await world.statuses() == [("v1", "success")]

    with monkeypatch.context() as silence:
        silence.setattr(world.process.queue, "claim", claim)
        async with asyncio.timeout(60):
            await claiming.wait()
        memberships[0].lost.set()
        await eventually(nothing_is_read)
        assert not answer.is_set()
    answer.set()
    world.source.reading.set()

    await eventually(has_succeeded)
    (job,) = await world.recorded()
    assert job.attempts == 2


async def test_a_worker_claims_jobs_again_after_a_claim_was_cancelled_from_within(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    service = await world.start_process()
    assert world.process is not None
    claims, claim = 0, world.process.queue.claim

    async def cancelled_once(*arguments: Any) -> list[Any]:
        nonlocal claims
        claims += 1
        if claims == 1:
            raise asyncio.CancelledError
        return list(await claim(*arguments))

    async def has_claimed_again() -> bool:
        return claims > 1

    monkeypatch.setattr(world.process.queue, "claim", cancelled_once)
    await push(world.source, RepositoryName("team/app"), image(), V1)

    # The end of its job wakes the worker.
    assert await service.wait(await service.start(world.request(V1)), seconds=60) == []
    await eventually(has_claimed_again)
