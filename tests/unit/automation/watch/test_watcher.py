"""Automatic synchronization at work: events, polls, a full round at the start, and an end at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
import structlog

from tagferry.automation.watch.scheduling import Recheck
from tagferry.errors import Unavailable
from tagferry.names import Digest, Reference, RepositoryName, RepositoryRef, Tag
from tagferry.oci.model import Descriptor
from tagferry.supervision import Supervisor
from tests.support.deployment import eventually
from tests.support.images import image
from tests.unit.automation.circle import APP, V1, A, B, C, Circle, source

OLD, NEW, OTHER = image(seed="old"), image(seed="new"), image(seed="other")


class Shift:
    """The leader state of this process, set by a test."""

    def __init__(self) -> None:
        self.is_leader = False
        self.asked = 0

    async def __call__(self) -> bool:
        self.asked += 1
        return self.is_leader


@pytest.fixture
def begin(circle: Circle) -> Callable[..., None]:
    """Restart automatic synchronization, with the real clock."""

    def begin(**options: Any) -> None:
        circle.watch = circle.new_watch(clock=time.monotonic, **options)
        circle.watch.start(Supervisor())

    return begin


@pytest.fixture
async def ruled(circle: Circle) -> Circle:
    """A rule from A to B, and a later push to A without a notification."""
    await circle.push(A, OLD)
    await circle.rule(A, B)
    await circle.push(A, NEW, seen=False)
    return circle


def arrived(circle: Circle, tag: Tag = V1) -> Callable[[], Awaitable[bool]]:
    async def has_arrived() -> bool:
        return await circle.stores[B].tag(APP, tag) == NEW.digest

    return has_arrived


async def test_what_was_pushed_while_nothing_ran_is_found_at_the_start(ruled: Circle, begin: Callable[..., None]):
    begin()
    await eventually(arrived(ruled))


async def test_a_notice_is_followed_at_once(ruled: Circle, begin: Callable[..., None]):
    begin(is_leader=Shift())
    ruled.watch.tag_changed(A, APP, V1)
    await eventually(arrived(ruled))
    assert ruled.courier.ways() == ["a>b"]


@pytest.mark.parametrize("exists", [True, False])
async def test_an_event_that_is_ahead_of_its_registry_is_not_lost(
    circle: Circle, begin: Callable[..., None], exists: bool
):
    await circle.push(A, OLD, V1 if exists else Tag("v0"))
    await circle.rule(A, B)
    begin(is_leader=Shift())
    asked = circle.stores[A].counts["head_manifest"]
    circle.watch.tag_changed(A, APP, V1, NEW.digest)

    async def has_been_asked() -> bool:
        return circle.stores[A].counts["head_manifest"] > asked

    await eventually(has_been_asked)
    await circle.push(A, NEW, seen=False)
    await eventually(arrived(circle))


async def test_a_digest_that_never_comes_is_looked_for_a_few_times(ruled: Circle):
    ruled.watch.tag_changed(A, APP, V1, OTHER.digest)
    queue, checked_at = ruled.watch._tags._partitions[A], []
    began = ruled.clock.now
    for _ in range(100):
        if work := queue.pop():
            checked_at.append(ruled.clock.now - began)
            await ruled.watch.check(*work)
        ruled.clock.now += 1
    assert checked_at == [0, 1, 2, 7, 37]
    assert not ruled.watch._announced
    assert ruled.courier.ways() == ["a>b"]


async def test_events_of_repositories_without_rules_are_forgotten(ruled: Circle, begin: Callable[..., None]):
    begin(is_leader=Shift())
    ruled.watch.tag_changed(C, APP, V1, OTHER.digest)

    async def has_ended() -> bool:
        return not ruled.watch._announced

    await eventually(has_ended)
    assert not ruled.stores[C].counts["head_manifest"]


async def test_a_check_that_fails_leaves_no_event_behind(ruled: Circle):
    ruled.stores[A].failures[V1] = Unavailable("the registry is down")
    ruled.watch.tag_changed(A, APP, V1, OTHER.digest)
    with pytest.raises(Unavailable):
        await ruled.watch.check(source(A), V1)
    assert not ruled.watch._announced


async def test_a_push_through_this_process_is_followed_at_once(ruled: Circle, begin: Callable[..., None]):
    begin(is_leader=Shift())
    await ruled.watch.pushed(A, APP, V1, NEW.digest, None)
    await eventually(arrived(ruled))


class Onlooker:
    """A follower that notes what it is asked, and follows nothing, or fails to look it up."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[str] = []
        self.has_checked = asyncio.Event()
        self._error = error

    async def sources(self) -> list[RepositoryRef]:
        return []

    async def handled(self, _source: RepositoryRef) -> list[Mapping[str, str]]:
        return []

    async def check(self, _source: RepositoryRef, tag: Tag) -> Recheck:
        self.asked.append(f"check {tag}")
        self.has_checked.set()
        return Recheck()

    async def pushed(self, _source: RepositoryRef, tag: Tag, _digest: Digest, _by: str | None) -> bool:
        self.asked.append(f"pushed {tag}")
        if self._error is not None:
            raise self._error
        return False

    async def forget(self, _source: RepositoryRef, *_references: Reference) -> None:
        return


async def test_a_push_that_nothing_follows_is_not_checked(circle: Circle, begin: Callable[..., None]):
    onlooker = Onlooker()
    begin(followers=[onlooker])
    await circle.watch.pushed(A, APP, V1, NEW.digest, None)
    circle.watch.tag_changed(A, APP, Tag("v2"))
    await onlooker.has_checked.wait()
    assert onlooker.asked == ["pushed v1", "check v2"]


async def test_a_push_is_checked_if_it_is_unknown_what_follows_it(circle: Circle, begin: Callable[..., None]):
    onlooker = Onlooker(Unavailable("the database does not answer"))
    begin(followers=[onlooker])
    await circle.watch.pushed(A, APP, V1, NEW.digest, None)
    await onlooker.has_checked.wait()
    assert onlooker.asked == ["pushed v1", "check v1"]


async def test_what_a_job_has_brought_goes_on_from_there(ruled: Circle, begin: Callable[..., None]):
    await ruled.push(B, OLD, seen=False)
    await ruled.rule(B, C)
    shift = Shift()
    shift.is_leader = True
    begin(is_leader=shift)
    await eventually(arrived(ruled))

    async def has_gone_on() -> bool:
        ruled.watch.jobs_ended([1])
        return await ruled.stores[C].tag(APP, V1) == NEW.digest

    await eventually(has_gone_on)
    assert ruled.courier.ways() == ["a>b", "b>c"]


async def test_signals_that_may_have_been_lost_make_a_full_round(
    ruled: Circle, begin: Callable[..., None], monkeypatch: Any
):
    monkeypatch.setattr("tagferry.automation.watch.watcher._TICK_SECONDS", 0.02)
    shift = Shift()
    shift.is_leader = True
    begin(is_leader=shift)
    await eventually(arrived(ruled))
    await ruled.push(A, OTHER, seen=False)

    async def was_found() -> bool:
        ruled.watch.jobs_ended([])
        return await ruled.stores[B].tag(APP, V1) == OTHER.digest

    await eventually(was_found)


async def test_names_that_no_rule_can_have_are_passed_over(ruled: Circle, begin: Callable[..., None]):
    begin(is_leader=Shift())
    ruled.watch.tag_changed(A, RepositoryName("nothing-but-a-name"), V1)
    await ruled.watch.forget(A, RepositoryName("nothing-but-a-name"), V1)
    ruled.watch.tag_changed(A, APP, V1)
    await eventually(arrived(ruled))


async def test_polls_find_what_nobody_told_of_and_ask_no_more_than_they_must(ruled: Circle, begin: Callable[..., None]):
    begin(poll_intervals={A: 0.05})
    await eventually(arrived(ruled))
    ruled.stores[A].counts.clear()
    ruled.stores[B].counts.clear()

    async def three_rounds() -> bool:
        return ruled.stores[A].counts["list_tags"] >= 3

    await eventually(three_rounds)
    assert ruled.stores[A].counts.keys() == {"list_tags", "head_manifest"}
    assert not ruled.stores[B].counts
    assert ruled.courier.ways() == ["a>b"]


async def test_only_who_leads_polls_and_whoever_comes_to_lead_looks_at_everything(
    ruled: Circle, begin: Callable[..., None], monkeypatch: Any
):
    monkeypatch.setattr("tagferry.automation.watch.watcher._TICK_SECONDS", 0.02)
    shift = Shift()
    before = ruled.stores[A].counts["list_tags"]
    begin(is_leader=shift, poll_intervals={A: 0.02})

    async def asked_often() -> bool:
        return shift.asked >= 3

    await eventually(asked_often)
    assert ruled.stores[A].counts["list_tags"] == before

    shift.is_leader = True

    await eventually(arrived(ruled))


async def test_more_notices_than_there_is_room_for_lose_nothing(
    ruled: Circle, begin: Callable[..., None], monkeypatch: Any
):
    monkeypatch.setattr("tagferry.automation.watch.watcher._TICK_SECONDS", 0.02)
    begin(is_leader=Shift(), queue_limit=2)
    for number in range(50):
        ruled.watch.tag_changed(A, RepositoryName(f"team/other-{number}"), V1)
    ruled.watch.tag_changed(A, APP, V1)

    await eventually(arrived(ruled))


async def test_a_source_that_is_down_is_told_once_and_asked_again_later(ruled: Circle):
    ruled.stores[A].failures[V1] = Unavailable("the registry is down")
    ruled.watch = ruled.new_watch(is_leader=Shift())
    with structlog.testing.capture_logs() as logs:
        ruled.watch.start(Supervisor())

        async def asked_again() -> bool:
            return ruled.stores[A].counts["head_manifest"] > asked

        for _ in range(3):
            asked = ruled.stores[A].counts["head_manifest"]
            ruled.watch.tag_changed(A, APP, V1)
            await eventually(asked_again)
        assert [entry["reason"] for entry in logs] == ["the registry is down"]
    ruled.stores[A].failures.clear()
    ruled.clock.now += 600
    ruled.watch.tag_changed(A, APP, V1)

    await eventually(arrived(ruled))


async def test_a_tag_that_a_job_may_be_about_to_change_is_looked_at_again_when_the_job_came_to_nothing(
    ruled: Circle, begin: Callable[..., None]
):
    """A job that copied nothing is not reported, so that a later check finds it."""
    await ruled.push(B, OLD)
    await ruled.rule(B, A)
    ruled.courier.holding = True
    begin(is_leader=Shift())
    ruled.watch.tag_changed(A, APP, V1)

    async def is_on_its_way() -> bool:
        return len(ruled.courier.waiting) == 1

    await eventually(is_on_its_way)
    await ruled.push(B, OTHER, seen=False)
    ruled.watch.tag_changed(B, APP, V1)
    asked = ruled.stores[B].counts["head_manifest"]

    async def has_been_asked() -> bool:
        return ruled.stores[B].counts["head_manifest"] > asked

    await eventually(has_been_asked)
    assert ruled.courier.ways() == ["a>b"]
    job_id, _ = ruled.courier.waiting.pop()
    await ruled.hide_job(job_id, hidden=True)

    async def went_back() -> bool:
        return ruled.courier.ways() == ["a>b", "b>a"]

    await eventually(went_back)


async def test_a_repository_is_scanned_once_at_a_time_however_long_that_takes(
    ruled: Circle, begin: Callable[..., None], monkeypatch: Any
):
    monkeypatch.setattr("tagferry.automation.watch.watcher._TICK_SECONDS", 0.02)
    shift, begun, release = Shift(), asyncio.Event(), asyncio.Event()
    head = ruled.stores[A].head_manifest

    async def slow(repository: RepositoryName, reference: Reference, *, confirm_missing: bool) -> Descriptor | None:
        begun.set()
        await release.wait()
        return await head(repository, reference, confirm_missing=confirm_missing)

    monkeypatch.setattr(ruled.stores[A], "head_manifest", slow)
    before = ruled.stores[A].counts["list_tags"]
    shift.is_leader = True
    begin(is_leader=shift, poll_intervals={A: 0.02})
    async with asyncio.timeout(60):
        await begun.wait()
    polls = shift.asked

    async def polls_were_due_often() -> bool:
        ruled.watch.repository_changed(source(A))
        return shift.asked >= polls + 5

    await eventually(polls_were_due_often)
    assert ruled.stores[A].counts["list_tags"] == before + 1
    release.set()
    await eventually(arrived(ruled))


async def test_it_ends_at_once_whatever_is_under_way(ruled: Circle, begin: Callable[..., None], monkeypatch: Any):
    asked = asyncio.Event()

    async def hang(_repository: RepositoryName, _reference: Reference, *, confirm_missing: bool) -> Descriptor | None:
        asked.set()
        await asyncio.Event().wait()
        return None

    monkeypatch.setattr(ruled.stores[A], "head_manifest", hang)
    begin()
    async with asyncio.timeout(60):
        await asked.wait()

    async with asyncio.timeout(30):
        await ruled.watch.close()
