"""A search for signatures that was not finished is made again for rules by itself."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from tagferry.db.tables import SyncJobRow
from tagferry.errors import Unavailable
from tagferry.supervision import Supervisor
from tagferry.sync.jobs.model import JobStatus
from tagferry.sync.jobs.searches import LONGEST_PAUSE, SEARCH_LIMIT, SHORTEST_PAUSE
from tests.support.deployment import eventually
from tests.support.images import image, push
from tests.unit.automation.circle import APP, V1, A, B, C, Circle, source

OLD, NEW, OTHER = image(seed="old"), image(seed="new"), image(seed="other")
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
    monkeypatch.setattr("tagferry.sync.jobs.searches.SHORTEST_PAUSE", timedelta())
    unfinished.watch = unfinished.new_watch(clock=time.monotonic)
    unfinished.watch.start(Supervisor())

    async def are_made() -> bool:
        return len(unfinished.courier.requests) >= 5

    await eventually(are_made, seconds=100)


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
