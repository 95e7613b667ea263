"""How many requests a second a host grants is found out from what it refuses."""

import asyncio
from itertools import pairwise

import pytest

from tagferry.remote.transport.rate import RESTART, SLOWEST, RequestRate
from tests.support.clock import Clock
from tests.support.rate_limit import Bucket


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rate(clock: Clock) -> RequestRate:
    return RequestRate(sleep=clock.sleep, clock=clock)


async def test_nothing_waits_before_a_first_refusal(rate: RequestRate, clock: Clock):
    for _ in range(1000):
        await rate.turn()
        rate.grant()
    assert (rate.limit, clock.slept) == (None, [])


async def test_after_a_refusal_requests_start_at_the_rate_that_was_granted(rate: RequestRate, clock: Clock):
    for _ in range(20):
        rate.grant()
    rate.refuse(2.0)
    starts = []
    for _ in range(4):
        await rate.turn()
        starts.append(round(clock.now, 6))

    # 20 requests in two seconds, and a tenth less than that.
    assert rate.limit == pytest.approx(9.0)
    assert starts[0] == 1002.0
    assert [late - early for early, late in pairwise(starts)] == pytest.approx([1 / 9] * 3, rel=1e-3)


async def test_what_is_granted_after_the_first_refusal_counts_too(rate: RequestRate, clock: Clock):
    """Answers of requests that went out together come in any order."""
    rate.refuse(1.0)
    for _ in range(10):
        rate.grant()
    await rate.turn()
    assert rate.limit == pytest.approx(9.0)


async def test_refusals_of_requests_that_were_under_way_count_as_one(rate: RequestRate, clock: Clock):
    assert [rate.refuse(1.0) for _ in range(3)] == [True, False, False]
    await rate.turn()
    assert rate.refuse(1.0)


async def test_a_time_before_which_nothing_was_asked_says_nothing_about_the_rate(rate: RequestRate, clock: Clock):
    rate.grant()
    clock.now += 3600
    for _ in range(10):
        rate.grant()
    rate.refuse(1.0)
    await rate.turn()
    assert rate.limit == pytest.approx(9.0)


async def test_a_registry_that_was_down_is_not_taken_for_a_slow_one(rate: RequestRate, clock: Clock):
    rate.refuse(30.0, slowest=RESTART)
    await rate.turn()
    assert rate.limit == RESTART
    rate.refuse(30.0)
    await rate.turn()
    assert SLOWEST <= (rate.limit or 0) < RESTART


async def test_who_is_cancelled_while_waiting_takes_no_turn_away(clock: Clock):
    going = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await going.wait()
        await clock.sleep(seconds)

    rate = RequestRate(sleep=sleep, clock=clock)
    rate.refuse(1.0)
    waiting = [asyncio.ensure_future(rate.turn()) for _ in range(5)]
    await asyncio.sleep(0)
    for one in waiting[:4]:
        one.cancel()
    await asyncio.wait(waiting[:4])
    going.set()
    await waiting[4]

    assert clock.now == 1001.0


@pytest.mark.parametrize(("most", "seconds"), [(1, 120), (10, 66), (50, 66)])
async def test_the_rate_comes_close_to_what_is_granted_with_few_refusals(
    rate: RequestRate, clock: Clock, most: int, seconds: float
):
    """A registry that lets nothing pass after a pause that was too long is hardest: sixty seconds would be ideal."""
    bucket = Bucket(rate=10, most=most, clock=clock)
    begun_at, refused = clock.now, 0
    for _ in range(600):
        await rate.turn()
        while not bucket.take():
            refused += 1
            rate.refuse(1.0)
            await rate.turn()
        rate.grant()

    assert clock.now - begun_at < seconds
    assert refused < 600 * 0.05


async def test_a_limit_that_is_expected_holds_from_the_first_request_on_and_grows(rate: RequestRate, clock: Clock):
    rate.expect(0.2)
    assert rate.limit == SLOWEST
    for _ in range(5):
        waiting = [asyncio.create_task(rate.turn()) for _ in range(3)]
        await asyncio.gather(*waiting)
        rate.grant()
        waiting = [asyncio.create_task(rate.turn())]
        rate.grant()
        await asyncio.gather(*waiting)
    assert clock.slept
    assert rate.limit > SLOWEST


async def test_an_expected_limit_does_not_replace_what_was_found_meanwhile(rate: RequestRate, clock: Clock):
    for _ in range(20):
        rate.grant()
    rate.refuse(2.0)
    await rate.turn()
    found = rate.limit
    rate.expect(2.0)
    assert rate.limit == found
