"""Delayed tasks run once when they are due, and failures back off."""

import asyncio

import pytest

from tagferry.automation.watch.scheduling import Backoff, DelayQueue, DelayQueues
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(now=0.0)


@pytest.fixture
def queue(clock: Clock) -> DelayQueue[str]:
    return DelayQueue(3, clock)


def test_works_come_when_they_are_due_the_earliest_first(queue: DelayQueue[str], clock: Clock):
    queue.add("later", 10.0)
    queue.add("soon", 5.0)
    queue.add("now")

    assert [queue.pop(), queue.pop()] == ["now", None]
    clock.now = 10.0
    assert [queue.pop(), queue.pop(), queue.pop()] == ["soon", "later", None]


def test_a_work_that_is_added_twice_is_done_once_at_the_earlier_time(queue: DelayQueue[str], clock: Clock):
    for at in (5.0, 9.0, 2.0, 7.0):
        queue.add("work", at)

    clock.now = 2.0
    assert [queue.pop(), queue.pop()] == ["work", None]
    clock.now = 20.0
    assert queue.pop() is None


def test_a_work_can_be_added_again_once_it_was_taken(queue: DelayQueue[str]):
    queue.add("work")
    queue.pop()
    queue.add("work")

    assert queue.pop() == "work"


def test_a_full_agenda_takes_no_more_but_knows_what_it_has(queue: DelayQueue[str]):
    assert [queue.add(work, 5.0) for work in ("a", "b", "c", "d", "a")] == [True, True, True, False, True]
    assert len(queue) == 3


async def test_a_work_wakes_one_of_those_that_wait():
    looks = 0

    def clock() -> float:
        nonlocal looks
        looks += 1
        return 0.0

    queue: DelayQueue[str] = DelayQueue(3, clock)
    queue.add("later", 3600.0)
    waiting = [asyncio.create_task(queue.take()) for _ in range(8)]
    await asyncio.sleep(0)
    looks = 0
    queue.add("work")
    done, others = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)

    assert [one.result() for one in done] == ["work"]
    # To add the work, to take it, and two for the next one to wait.
    assert looks <= 4
    for one in others:
        one.cancel()


async def test_whoever_waits_is_woken_by_a_work_that_comes_to_be_due():
    queue: DelayQueue[str] = DelayQueue(3)
    waiting = [asyncio.create_task(queue.take()) for _ in range(2)]
    await asyncio.sleep(0)
    queue.add("far off", asyncio.get_running_loop().time() + 3600)
    queue.add("a")
    queue.add("b")

    async with asyncio.timeout(60):
        assert sorted(await asyncio.gather(*waiting)) == ["a", "b"]


def test_what_goes_wrong_again_and_again_is_left_alone_for_longer_and_longer(clock: Clock):
    backoff = Backoff(initial=5.0, maximum=30.0, clock=clock)

    pauses = []
    for _ in range(5):
        until, _ = backoff.failed("rule")
        pauses.append(until - clock.now)
        assert backoff.retry_at("rule") == until
        clock.now = until
        assert backoff.retry_at("rule") is None

    assert pauses == [5.0, 10.0, 20.0, 30.0, 30.0]
    assert [backoff.succeeded("rule"), backoff.succeeded("rule")] == [True, False]
    assert backoff.failed("rule")[0] - clock.now == 5.0


def test_what_goes_wrong_several_times_at_once_counts_once(clock: Clock):
    backoff = Backoff(initial=5.0, maximum=600.0, clock=clock)

    assert [backoff.failed("registry")[0] - clock.now for _ in range(5)] == [5.0] * 5
    clock.now += 5.0
    assert [backoff.failed("registry")[0] - clock.now for _ in range(5)] == [10.0] * 5


def test_a_reason_is_news_once(clock: Clock):
    backoff = Backoff(initial=1.0, maximum=9.0, clock=clock)

    assert [backoff.failed("rule", reason)[1] for reason in ("denied", "denied", "gone", "gone")] == [
        True,
        False,
        True,
        False,
    ]
    backoff.succeeded("rule")
    assert backoff.failed("rule", "gone")[1]


async def test_works_that_never_end_keep_only_their_own_lane_waiting():
    lanes: DelayQueues[tuple[str, int]] = DelayQueues(100, lambda work: work[0])
    begun: list[tuple[str, int]] = []
    all_done = asyncio.Event()

    async def do(work: tuple[str, int]) -> None:
        begun.append(work)
        if work[0] == "silent":
            await asyncio.Event().wait()
        if work == ("late", 9):
            all_done.set()

    serving = asyncio.create_task(lanes.serve(do, concurrency=2))
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
    lanes: DelayQueues[tuple[str, int]] = DelayQueues(1, lambda work: work[0])

    assert [lanes.add(work) for work in (("a", 1), ("b", 1), ("a", 2), ("b", 2))] == [True, True, False, False]


async def test_lanes_are_not_served_on_if_what_the_work_waits_for_is_cancelled():
    lanes: DelayQueues[str] = DelayQueues(100, lambda work: work)

    async def do(work: str) -> None:
        waited_for = asyncio.get_running_loop().create_future()
        waited_for.cancel()
        await waited_for

    lanes.add("work")
    with pytest.raises(ExceptionGroup):
        async with asyncio.timeout(30):
            await lanes.serve(do, concurrency=2)
