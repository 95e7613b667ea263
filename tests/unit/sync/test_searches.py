"""A search for signatures that was not finished is made again: for rules by itself, for people when they ask again."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from tagferry.copy.engine import CopyEngine
from tagferry.db.tables import SyncJobRow
from tagferry.errors import Refused, Unavailable
from tagferry.supervision import Supervisor
from tagferry.sync.jobs.model import JobStatus
from tagferry.sync.jobs.searches import LONGEST_PAUSE, SEARCH_LIMIT, SHORTEST_PAUSE
from tests.support.deployment import eventually
from tests.support.images import artifact, image, index, push
from tests.unit.copy.stores import APP as SOURCE
from tests.unit.copy.stores import COPY
from tests.unit.sync.circle import APP, V1, A, B, C, Circle, source
from tests.unit.sync.conftest import World

OLD, NEW, OTHER = image(seed="old"), image(seed="new"), image(seed="other")
IMAGE = index()
SIGNED = artifact(subject=IMAGE.manifest)
SIGNED_PART = artifact(subject=IMAGE.children[0].manifest, payload=b"of a part")
FAULT = Unavailable("registry source answered 500")


@pytest.fixture
async def unfinished(circle: Circle) -> Circle:
    """A rule from A to B, and a push to A whose signatures could not all be searched for."""
    await circle.push(A, OLD)
    await circle.rule(A, B)
    circle.courier.search_error = FAULT.message
    await circle.push(A, NEW)
    return circle


async def wait(circle: Circle, time: timedelta) -> None:
    """Let this time pass for what is recorded."""
    async with circle.database.write() as session:
        ended = await session.execute(select(SyncJobRow.id, SyncJobRow.ended_at))
        for job_id, at in ended:
            earlier = (at or datetime.now(UTC)) - time
            await session.execute(update(SyncJobRow).where(SyncJobRow.id == job_id).values(ended_at=earlier))


async def last_job(circle: Circle) -> int:
    async with circle.database.read() as session:
        return await session.scalar(select(func.max(SyncJobRow.id))) or 0


async def test_a_rule_has_a_tag_searched_again_after_a_pause_and_no_more_once_all_was_found(unfinished: Circle):
    await unfinished.see(A)
    assert unfinished.courier.ways() == ["a>b"]

    await wait(unfinished, SHORTEST_PAUSE)
    await unfinished.see(A)
    await unfinished.see(A)
    assert unfinished.courier.ways() == ["a>b"] * 2

    unfinished.courier.search_error = None
    await wait(unfinished, 2 * SHORTEST_PAUSE)
    await unfinished.see(A)
    await wait(unfinished, LONGEST_PAUSE)
    await unfinished.see(A)
    assert unfinished.courier.ways() == ["a>b"] * 3


async def test_a_scan_finds_what_has_to_be_searched_again_as_after_a_restart(unfinished: Circle):
    await wait(unfinished, SHORTEST_PAUSE)

    await unfinished.new_watch().scan(source(A))

    assert unfinished.courier.ways() == ["a>b"] * 2


async def test_searches_follow_each_other_though_nothing_tells_of_their_ends(
    unfinished: Circle, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.sync.jobs.searches.SHORTEST_PAUSE", timedelta(milliseconds=20))
    unfinished.watch = unfinished.new_watch(clock=time.monotonic)
    unfinished.watch.start(Supervisor())

    async def are_made() -> bool:
        return len(unfinished.courier.requests) >= 5

    # On a slow machine, open jobs make the pauses double.
    await eventually(are_made, seconds=110)


async def test_searches_of_a_rule_are_bounded(unfinished: Circle):
    for _ in range(3 * SEARCH_LIMIT):
        await wait(unfinished, LONGEST_PAUSE)
        await unfinished.see(A)
        await unfinished.watch.scan(source(A))

    assert unfinished.courier.ways() == ["a>b"] * (1 + SEARCH_LIMIT)


async def test_a_search_that_fails_is_not_made_again_at_once(unfinished: Circle):
    await wait(unfinished, SHORTEST_PAUSE)
    await unfinished.see(A)
    async with unfinished.database.write() as session:
        failed = {"status": JobStatus.FAILED.value, "search_error": None}
        await session.execute(update(SyncJobRow).where(SyncJobRow.id == await last_job(unfinished)).values(failed))

    await unfinished.see(A)
    assert unfinished.courier.ways() == ["a>b"] * 2
    await wait(unfinished, 2 * SHORTEST_PAUSE)
    await unfinished.see(A)
    assert unfinished.courier.ways() == ["a>b"] * 3


async def test_the_end_of_a_job_whose_search_was_unfinished_names_its_source_too(unfinished: Circle):
    watch = unfinished.watch

    found = await watch._sync_history.copied_by([await last_job(unfinished)])

    assert found == [(source(B), V1), (source(A), V1)]


async def test_what_was_not_sent_back_is_not_searched_for_on_the_way_back(circle: Circle):
    for region in (A, B):
        await circle.push(region, OLD)
    await circle.rule(A, B)
    await circle.rule(B, A)
    circle.courier.search_error = FAULT.message
    await circle.push(B, OTHER)
    await circle.push(A, NEW)
    circle.courier.search_error = None
    await wait(circle, LONGEST_PAUSE)

    for region in (A, B, C):
        await circle.see(region)

    assert circle.courier.ways() == ["b>a", "a>b", "a>b"]


async def test_a_tag_that_was_deleted_meanwhile_is_news_again(unfinished: Circle):
    await unfinished.stores[A].delete_manifest(APP, V1)
    await unfinished.watch.scan(source(A))
    unfinished.courier.search_error = None
    await push(unfinished.stores[A], APP, NEW, V1)

    await unfinished.see(A)

    assert unfinished.courier.ways() == ["a>b"] * 2


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
        "the identical image is already in place; signatures and other referrers could not be searched for: "
        f"{FAULT.message}"
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
    half_signed.process.worker._runner._engine = half_signed.process.service._engine = required

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
