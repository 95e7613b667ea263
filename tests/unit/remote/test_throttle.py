"""The load that a registry accepts: a variable number of slots, pauses for all requests, and a retry budget."""

import asyncio

import pytest

from tagferry.errors import Unavailable
from tagferry.names import RepositoryName
from tagferry.oci.images import free_requests
from tagferry.remote.transport.retry import Retries, Retry, RetryBudget
from tagferry.remote.transport.throttle import Throttle, rate_limit_pause
from tests.support.clock import Clock
from tests.support.scripted_registry import Reply, ScriptedRegistry, error, said
from tests.unit.remote.conftest import Opening, Pauses

APP = RepositoryName("team/app")
TAGS = "/v2/team/app/tags/list"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def throttle(clock: Clock, capacity: int = 8) -> Throttle:
    return Throttle(capacity, max_wait=60.0, sleep=clock.sleep, clock=clock)


async def test_refusals_halve_the_slots_and_answers_let_them_grow_back(clock: Clock):
    throttled = throttle(clock)
    sizes = []
    for _ in range(4):
        throttled.record_response(429, {"Retry-After": "1"})
        sizes.append(throttled.requests.size)
        await throttled.limiter.acquire()
    for _ in range(1 + 2 + 3):
        throttled.record_response(200, {})
    assert (sizes, throttled.requests.size) == ([4, 2, 1, 1], 4)
    for _ in range(100):
        throttled.record_response(200, {})
    assert (throttled.requests.size, throttled.uploads.size) == (8, 8)


async def test_slots_in_use_and_requests_that_wait_are_not_free(clock: Clock):
    slots = throttle(clock, capacity=3).requests
    assert slots.free == 3
    entered = asyncio.Event()

    async def enter() -> None:
        async with slots:
            await entered.wait()

    free = []
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(enter())
            await asyncio.sleep(0)
            free.append(slots.free)
        slots.halve()
        entered.set()
    assert free == [2, 1, 0, 0, 0]
    assert slots.free == 2


async def test_a_store_reports_the_requests_that_it_can_begin(script: ScriptedRegistry, opened: Opening):
    script.always("GET", TAGS, said({"tags": ["a"]}))
    store = opened(max_connections=3)
    assert free_requests(store) == 3
    tags = store.list_tags(APP)
    assert [tag async for tag in tags] == ["a"]
    assert free_requests(store) == 3


async def test_refusals_that_come_together_count_as_one(clock: Clock):
    throttled = throttle(clock)
    for _ in range(5):
        throttled.record_response(429, {})
    assert throttled.requests.size == 4


async def test_never_more_are_inside_than_there_are_slots(clock: Clock):
    throttled = throttle(clock)
    inside = peak = 0
    seen = []

    async def enter() -> None:
        nonlocal inside, peak
        async with throttled.requests:
            inside += 1
            peak = max(peak, inside)
            await asyncio.sleep(0)
            inside -= 1

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(enter())
    seen.append(peak)
    throttled.record_response(429, {"Retry-After": "0"})
    peak = 0
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(enter())
    seen.append(peak)
    assert seen == [8, 4]


async def test_a_request_cancelled_in_the_queue_leaks_no_slot(clock: Clock):
    throttled = throttle(clock, capacity=1)
    await throttled.requests.__aenter__()
    lines = [asyncio.ensure_future(throttled.requests.__aenter__()) for _ in range(3)]
    await asyncio.sleep(0)
    lines[0].cancel()
    await throttled.requests.__aexit__(None, None, None)
    lines[1].cancel()
    async with asyncio.timeout(60):
        await lines[2]
    assert [line.cancelled() for line in lines] == [True, True, False]


@pytest.mark.parametrize(
    ("status", "headers", "pause"),
    [
        (429, {"Retry-After": "7"}, [7.0]),
        (429, {}, [2.0]),
        (429, {"Retry-After": "0"}, [2.0]),
        (503, {"Retry-After": "3"}, [3.0]),
        (503, {}, []),
        (200, {"RateLimit": '"default";r=0;t=30'}, [30.0]),
        (200, {"RateLimit": '"default";r=12;t=30'}, []),
        (429, {"Retry-After": "3600"}, []),
    ],
)
async def test_later_requests_observe_an_earlier_pause(
    clock: Clock, status: int, headers: dict[str, str], pause: list[float]
):
    throttled = throttle(clock)
    throttled.record_response(status, headers)
    for slots in (throttled.requests, throttled.uploads):
        async with slots:
            pass
    # The next one follows at the granted rate.
    assert clock.slept[:1] == pause
    assert len(clock.slept) == 2 * len(pause)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "20"}, 20.0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "2000000045"}, 45.0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1999999999"}, 0.0),
        ({"RateLimit-Remaining": "0;w=21600"}, 0.0),
        ({"RateLimit-Remaining": "76;w=21600", "RateLimit-Reset": "20"}, 0.0),
        ({"RateLimit-Remaining": "none", "RateLimit-Reset": "20"}, 0.0),
        ({"RateLimit-Remaining": "9" * 5000, "RateLimit-Reset": "20"}, 0.0),
        ({"RateLimit": f"r={'9' * 5000};t=20"}, 0.0),
        ({"RateLimit": "r=00;t=20"}, 20.0),
        ({}, 0.0),
    ],
)
def test_rate_limit_headers_are_read_in_each_of_their_forms(headers: dict[str, str], seconds: float):
    assert rate_limit_pause(headers, now=lambda: 2_000_000_000.0) == seconds


def test_the_budget_for_retries_runs_out_and_fills_up_again(clock: Clock):
    budget = RetryBudget(capacity=2, per_second=1.0, per_success=0.5, clock=clock)

    assert [budget.spend() for _ in range(3)] == [True, True, False]
    clock.now += 1
    assert [budget.spend(), budget.spend()] == [True, False]
    budget.earn()
    budget.earn()
    assert [budget.spend(), budget.spend()] == [True, False]


async def test_without_budget_a_failure_is_final(clock: Clock):
    retries = Retries(Retry(attempts=9, sleep=clock.sleep), RetryBudget(capacity=2, per_second=0.0, clock=clock))
    attempts = 0

    async def attempt() -> None:
        nonlocal attempts
        attempts += 1
        raise Unavailable("down")

    with pytest.raises(Unavailable, match="down"):
        await retries.run(attempt)
    with pytest.raises(Unavailable, match="down"):
        await retries.run(attempt)
    assert attempts == 3 + 1


async def test_a_requested_pause_applies_to_all_requests(script: ScriptedRegistry, opened: Opening, pauses: Pauses):
    store = opened()
    script.on("GET", TAGS, error(429, "TOOMANYREQUESTS", headers={"Retry-After": "30"}), said({"tags": []}))
    script.always("GET", "/v2/", Reply())

    assert [tag async for tag in store.list_tags(APP)] == []
    pauses.clear()
    await store.ping()

    # The pauses of this test take no time, so the registry's limit still applies to the next request; the test does.
    assert 20 <= pauses[0] <= 31


async def test_a_request_that_trickles_fails(script: ScriptedRegistry, opened: Opening):
    store = opened(attempts=1, request_timeout=0.2)
    script.always("GET", TAGS, Reply(body=b'{"tags": []}', delay=5.0))

    with pytest.raises(Unavailable, match="did not answer in time"):
        _ = [tag async for tag in store.list_tags(APP)]
