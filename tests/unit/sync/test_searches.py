"""A search for signatures that was not finished is made again when people ask again."""

import pytest

from tagferry.copy.engine import CopyEngine
from tagferry.errors import Refused, Unavailable
from tagferry.names import Tag
from tagferry.sync.jobs.model import JobStatus
from tests.support.images import artifact, index, push
from tests.unit.copy.stores import APP as SOURCE
from tests.unit.copy.stores import COPY
from tests.unit.sync.conftest import World

V1 = Tag("v1")
IMAGE = index()
SIGNED = artifact(subject=IMAGE.manifest)
SIGNED_PART = artifact(subject=IMAGE.children[0].manifest, payload=b"of a part")
FAULT = Unavailable("registry source answered 500")


@pytest.fixture
async def half_signed(world: World) -> World:
    """An image with signatures of itself and of a part, copied while those of the part could not be searched for."""
    await push(world.source, SOURCE, IMAGE, V1)
    for one in (SIGNED, SIGNED_PART):
        await push(world.source, SOURCE, one)
    part = IMAGE.children[0].digest
    world.source.referrer_failures[part] = FAULT
    world.source.hidden_referrers.add(part)
    await world.sync(V1)
    return world


async def signatures(world: World) -> set[str]:
    subjects = (IMAGE.digest, IMAGE.children[0].digest)
    return {one.digest for subject in subjects for one in await world.target.list_referrers(COPY, subject)}


@pytest.mark.parametrize("is_automatic", [False, True])
async def test_who_asks_again_after_an_unfinished_search_gets_what_it_missed_in_any_part(
    half_signed: World, is_automatic: bool
):
    world = half_signed
    assert await signatures(world) == {SIGNED.digest}

    await world.sync(V1, is_automatic=is_automatic)
    assert (await world.recorded())[-1].reason == (
        f"up to date; signatures and other referrers could not be searched for: {FAULT.message}"
    )

    world.source.referrer_failures.clear()
    world.source.hidden_referrers.clear()
    await world.sync(V1, is_automatic=is_automatic)
    assert (await world.recorded())[-1].reason == "copied and verified"
    assert await signatures(world) == {SIGNED.digest, SIGNED_PART.digest}

    recorded = len(await world.recorded())
    await world.sync(V1, is_automatic=is_automatic)
    assert len(await world.recorded()) == recorded + (not is_automatic)


async def test_who_requires_signatures_later_is_not_told_that_all_is_in_place(half_signed: World):
    assert half_signed.process is not None
    required = CopyEngine(referrers="required")
    service = half_signed.process.service
    half_signed.process.worker._runner._engine = service._engine = service._preflight._engine = required

    assert await half_signed.sync(V1) == [V1]


async def test_an_image_in_place_does_not_fail_because_it_cannot_be_searched_again(half_signed: World):
    half_signed.source.failures[IMAGE.children[0].digest] = Refused("registry source answered 403")

    assert await half_signed.sync(V1) == []

    job = (await half_signed.recorded())[-1]
    assert job.status is JobStatus.SUCCESS
    assert job.reason.endswith("could not be searched for: registry source answered 403")


async def test_a_tag_whose_search_was_finished_costs_no_more(world: World):
    await push(world.source, SOURCE, IMAGE, V1)
    await world.sync(V1)
    world.source.counts.clear()

    await world.sync(V1)

    assert world.source.counts == {"head_manifest": 1, "list_referrers": 1}
