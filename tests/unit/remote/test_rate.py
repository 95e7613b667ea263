"""The limit of a host is learned from its refusals."""

import asyncio
from itertools import pairwise

import pytest

from tagferry.remote.transport.rate import MIN_LIMIT, RESTART_LIMIT, RequestLimiter
from tests.support.clock import Clock
from tests.support.rate_limit import Bucket


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rate(clock: Clock) -> RequestLimiter:
    return RequestLimiter(sleep=clock.sleep, clock=clock)


async def test_nothing_waits_before_a_first_refusal(rate: RequestLimiter, clock: Clock):
    for _ in range(1000):
        await rate.acquire()
        rate.record_success()
    assert (rate.limit, clock.slept) == (None, [])


async def test_after_a_refusal_requests_start_at_the_rate_that_was_granted(rate: RequestLimiter, clock: Clock):
    for _ in range(20):
        rate.record_success()
    rate.record_refusal(2.0)
    starts = []
    for _ in range(4):
        await rate.acquire()
        starts.append(round(clock.now, 6))

    # 20 requests in two seconds, minus a tenth.
    assert rate.limit == pytest.approx(9.0)
    assert starts[0] == 1002.0
    assert [late - early for early, late in pairwise(starts)] == pytest.approx([1 / 9] * 3, rel=1e-3)


async def test_what_is_granted_after_the_first_refusal_counts_too(rate: RequestLimiter, clock: Clock):
    """Responses to concurrent requests arrive in any order."""
    rate.record_refusal(1.0)
    for _ in range(10):
        rate.record_success()
    await rate.acquire()
    assert rate.limit == pytest.approx(9.0)


async def test_refusals_of_concurrent_requests_count_as_one(rate: RequestLimiter, clock: Clock):
    assert [rate.record_refusal(1.0) for _ in range(3)] == [True, False, False]
    await rate.acquire()
    assert rate.record_refusal(1.0)


async def test_idle_time_does_not_count_for_the_rate(rate: RequestLimiter, clock: Clock):
    rate.record_success()
    clock.now += 3600
    for _ in range(10):
        rate.record_success()
    rate.record_refusal(1.0)
    await rate.acquire()
    assert rate.limit == pytest.approx(9.0)


async def test_an_outage_does_not_lower_the_limit_of_a_registry(rate: RequestLimiter, clock: Clock):
    rate.record_refusal(30.0, min_limit=RESTART_LIMIT)
    await rate.acquire()
    assert rate.limit == RESTART_LIMIT
    rate.record_refusal(30.0)
    await rate.acquire()
    assert MIN_LIMIT <= (rate.limit or 0) < RESTART_LIMIT


async def test_a_request_cancelled_while_waiting_leaks_no_position(clock: Clock):
    going = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await going.wait()
        await clock.sleep(seconds)

    rate = RequestLimiter(sleep=sleep, clock=clock)
    rate.record_refusal(1.0)
    waiting = [asyncio.ensure_future(rate.acquire()) for _ in range(5)]
    await asyncio.sleep(0)
    for one in waiting[:4]:
        one.cancel()
    await asyncio.wait(waiting[:4])
    going.set()
    await waiting[4]

    assert clock.now == 1001.0


@pytest.mark.parametrize(("most", "seconds"), [(1, 120), (10, 66), (50, 66)])
async def test_the_rate_comes_close_to_what_is_granted_with_few_refusals(
    rate: RequestLimiter, clock: Clock, most: int, seconds: float
):
    """The hardest case is a registry without burst after a pause that was too long: sixty seconds are optimal."""
    bucket = Bucket(rate=10, most=most, clock=clock)
    begun_at, refused = clock.now, 0
    for _ in range(600):
        await rate.acquire()
        while not bucket.take():
            refused += 1
            rate.record_refusal(1.0)
            await rate.acquire()
        rate.record_success()

    assert clock.now - begun_at < seconds
    assert refused < 600 * 0.05


async def test_a_restored_limit_applies_from_the_first_request_and_grows(rate: RequestLimiter, clock: Clock):
    rate.restore(0.2)
    assert rate.limit == MIN_LIMIT
    for _ in range(5):
        waiting = [asyncio.create_task(rate.acquire()) for _ in range(3)]
        await asyncio.gather(*waiting)
        rate.record_success()
        waiting = [asyncio.create_task(rate.acquire())]
        rate.record_success()
        await asyncio.gather(*waiting)
    assert clock.slept
    assert rate.limit > MIN_LIMIT


async def test_an_expected_limit_does_not_replace_what_was_found_meanwhile(rate: RequestLimiter, clock: Clock):
    for _ in range(20):
        rate.record_success()
    rate.record_refusal(2.0)
    await rate.acquire()
    found = rate.limit
    rate.restore(2.0)
    assert rate.limit == found
