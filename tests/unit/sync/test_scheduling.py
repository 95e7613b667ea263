"""What is due when, each work once, and how long what went wrong is left alone."""

import asyncio

import pytest

from tagferry.automation.watch.scheduling import Agenda, Lanes, Patience
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(now=0.0)


@pytest.fixture
def agenda(clock: Clock) -> Agenda[str]:
    return Agenda(3, clock)


def test_works_come_when_they_are_due_the_earliest_first(agenda: Agenda[str], clock: Clock):
    agenda.add("later", 10.0)
    agenda.add("soon", 5.0)
    agenda.add("now")

    assert [agenda.pop(), agenda.pop()] == ["now", None]
    clock.now = 10.0
    assert [agenda.pop(), agenda.pop(), agenda.pop()] == ["soon", "later", None]


def test_a_work_that_is_added_twice_is_done_once_at_the_earlier_time(agenda: Agenda[str], clock: Clock):
    for at in (5.0, 9.0, 2.0, 7.0):
        agenda.add("work", at)

    clock.now = 2.0
    assert [agenda.pop(), agenda.pop()] == ["work", None]
    clock.now = 20.0
    assert agenda.pop() is None


def test_a_work_can_be_added_again_once_it_was_taken(agenda: Agenda[str]):
    agenda.add("work")
    agenda.pop()
    agenda.add("work")

    assert agenda.pop() == "work"


def test_a_full_agenda_takes_no_more_but_knows_what_it_has(agenda: Agenda[str]):
    assert [agenda.add(work, 5.0) for work in ("a", "b", "c", "d", "a")] == [True, True, True, False, True]
    assert len(agenda) == 3


async def test_whoever_waits_is_woken_by_a_work_that_comes_to_be_due():
    agenda: Agenda[str] = Agenda(3)
    waiting = [asyncio.create_task(agenda.take()) for _ in range(2)]
    await asyncio.sleep(0)
    agenda.add("far off", asyncio.get_running_loop().time() + 3600)
    agenda.add("a")
    agenda.add("b")

    async with asyncio.timeout(5):
        assert sorted(await asyncio.gather(*waiting)) == ["a", "b"]


def test_what_goes_wrong_again_and_again_is_left_alone_for_longer_and_longer(clock: Clock):
    patience = Patience(shortest=5.0, longest=30.0, clock=clock)

    pauses = []
    for _ in range(5):
        until, _ = patience.fail("rule")
        pauses.append(until - clock.now)
        assert patience.until("rule") == until
        clock.now = until
        assert patience.until("rule") is None

    assert pauses == [5.0, 10.0, 20.0, 30.0, 30.0]
    assert [patience.succeed("rule"), patience.succeed("rule")] == [True, False]
    assert patience.fail("rule")[0] - clock.now == 5.0


def test_what_goes_wrong_several_times_at_once_counts_once(clock: Clock):
    patience = Patience(shortest=5.0, longest=600.0, clock=clock)

    assert [patience.fail("registry")[0] - clock.now for _ in range(5)] == [5.0] * 5
    clock.now += 5.0
    assert [patience.fail("registry")[0] - clock.now for _ in range(5)] == [10.0] * 5


def test_a_reason_is_news_once(clock: Clock):
    patience = Patience(shortest=1.0, longest=9.0, clock=clock)

    assert [patience.fail("rule", reason)[1] for reason in ("denied", "denied", "gone", "gone")] == [
        True,
        False,
        True,
        False,
    ]
    patience.succeed("rule")
    assert patience.fail("rule", "gone")[1]


async def test_works_that_never_end_keep_only_their_own_lane_waiting():
    lanes: Lanes[tuple[str, int]] = Lanes(100, lambda work: work[0])
    begun: list[tuple[str, int]] = []
    all_done = asyncio.Event()

    async def do(work: tuple[str, int]) -> None:
        begun.append(work)
        if work[0] == "silent":
            await asyncio.Event().wait()
        if work == ("late", 9):
            all_done.set()

    serving = asyncio.create_task(lanes.serve(do, at_once=2))
    for lane in ("silent", "quick"):
        for number in range(10):
            assert lanes.add((lane, number))
    await asyncio.sleep(0)
    for number in range(10):
        lanes.add(("late", number))
    async with asyncio.timeout(30):
        await all_done.wait()
    serving.cancel()
    await asyncio.wait([serving])

    assert [work for work in begun if work[0] == "silent"] == [("silent", 0), ("silent", 1)]
    assert len([work for work in begun if work[0] == "quick"]) == 10
    assert len([work for work in begun if work[0] == "late"]) == 10


def test_each_lane_has_room_of_its_own():
    lanes: Lanes[tuple[str, int]] = Lanes(1, lambda work: work[0])

    assert [lanes.add(work) for work in (("a", 1), ("b", 1), ("a", 2), ("b", 2))] == [True, True, False, False]
