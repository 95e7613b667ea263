"""Jobs do not read again what was read while they were being recorded."""

import asyncio

from tagferry.copy.plan import Plan
from tagferry.errors import Unavailable
from tagferry.names import RepositoryName, Tag
from tagferry.sync.jobs.prefetch import prefetch_plans
from tests.support.images import image, push
from tests.unit.sync.conftest import World

APP = RepositoryName("team/app")
V1, V2 = Tag("v1"), Tag("v2")


async def test_the_manifest_of_a_tag_that_starts_immediately_is_read_once(world: World):
    await push(world.source, APP, image(), V1)
    assert await world.sync(V1) == []
    assert world.source.counts["get_manifest"] == 1


async def test_no_manifest_is_read_for_a_job_that_has_to_wait(world: World):
    service = await world.start_process(slots=0)
    await push(world.source, APP, image(), V1)
    await service.start(world.request(V1))
    assert await world.statuses() == [(V1, "waiting")]
    assert world.source.counts["get_manifest"] == 0


async def test_a_job_whose_slot_was_taken_reads_its_manifest_when_it_runs(world: World):
    service = await world.start_process(slots=1)
    for tag in (V1, V2):
        await push(world.source, APP, image(seed=tag), tag)
    world.source.reading.clear()
    first = await service.start(world.request(V1))
    await world.source.being_read.wait()
    second = await service.start(world.request(V2))
    assert world.source.counts["get_manifest"] == 1
    world.source.reading.set()
    assert await service.wait(first, seconds=60) == await service.wait(second, seconds=60) == []
    assert world.source.counts["get_manifest"] == 2


async def test_no_manifest_is_read_twice_though_its_regions_have_only_a_share_of_the_free_slots(world: World):
    service = await world.start_process(slots=8)
    tags = [Tag(f"v{number}") for number in range(6)]
    for tag in tags:
        await push(world.source, APP, image(seed=tag), tag)
    # Without an answer for each tag, its regions are not known to respond.
    world.target.failures[tags[0]] = Unavailable("the target is away")
    assert await world.sync(*tags, service=service) == [tags[0]]
    assert world.source.counts["get_manifest"] == len(tags)


async def test_a_manifest_that_cannot_be_prefetched_fails_its_job_with_the_reason(world: World):
    await push(world.source, APP, image(), V1)
    world.source.failures[V1] = Unavailable("the source is away")
    assert await world.sync(V1) == [V1]
    assert [job.reason for job in await world.recorded()] == ["the source is away"]


async def test_an_unused_plan_is_cancelled():
    async def plan_of(tag: Tag) -> Plan:
        await asyncio.Event().wait()
        raise AssertionError

    async with prefetch_plans(plan_of, [V1, V2]) as plans:
        left = plans[V1]
        taken = plans.pop(V2)
    assert left.cancelled()
    assert not taken.done()
    taken.cancel()
