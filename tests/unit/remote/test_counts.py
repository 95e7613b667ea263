"""Requests to a registry are counted by their outcome, with their retries and the time they were held back."""

import asyncio

import pytest

from tagferry.errors import Unavailable
from tagferry.metrics import REGISTRY_REQUESTS, REGISTRY_RETRIES, REGISTRY_SECONDS, REGISTRY_THROTTLED
from tagferry.metrics.instruments import CounterSeries
from tagferry.names import RepositoryName, Tag
from tagferry.remote import RemoteStore
from tagferry.remote.transport.rate import RequestLimiter
from tests.support.clock import Clock
from tests.support.deployment import eventually
from tests.support.metrics import growth
from tests.support.scripted_registry import Reply, ScriptedRegistry, error, said
from tests.unit.remote.conftest import IMPATIENCE, Opening

APP = RepositoryName("team/app")
TAGS = "/v2/team/app/tags/list"


async def tags_of(store: RemoteStore) -> list[Tag]:
    return [tag async for tag in store.list_tags(APP)]


async def is_asked(script: ScriptedRegistry) -> bool:
    return bool(script.asked)


async def test_requests_are_counted_by_method_and_status_class_with_their_latency(
    script: ScriptedRegistry, opened: Opening
):
    requests, seconds = growth(REGISTRY_REQUESTS), growth(REGISTRY_SECONDS)
    script.on("GET", TAGS, error(503, "UNAVAILABLE"), said({"tags": ["v1"]}))

    await tags_of(opened(name="north"))

    assert requests() == {("north", "GET", "5xx"): 1, ("north", "GET", "2xx"): 1}
    assert seconds() == {("north", "GET"): 2}


async def test_a_request_without_a_response_counts_as_an_error(script: ScriptedRegistry, opened: Opening):
    requests, seconds = growth(REGISTRY_REQUESTS), growth(REGISTRY_SECONDS)
    script.always("GET", TAGS, Reply(drop=True))

    with pytest.raises(Unavailable):
        await tags_of(opened(name="north", attempts=2))

    assert requests() == {("north", "GET", "error"): 2}
    assert seconds() == {}


async def test_a_retry_is_counted_by_its_reason(script: ScriptedRegistry, opened: Opening):
    retries = growth(REGISTRY_RETRIES)
    throttled = error(429, "TOOMANYREQUESTS", headers={"Retry-After": "1"})
    script.on("GET", TAGS, error(500, "UNKNOWN"), throttled, said({"tags": []}))

    await tags_of(opened(name="north"))

    assert retries() == {("north", "unavailable"): 1, ("north", "throttled"): 1}


async def test_a_registry_that_does_not_answer_is_a_timeout(script: ScriptedRegistry, opened: Opening):
    retries = growth(REGISTRY_RETRIES)
    script.on("GET", TAGS, Reply(delay=60), said({"tags": []}))

    await tags_of(opened(name="north", read_timeout=IMPATIENCE))

    assert retries() == {("north", "timeout"): 1}


async def test_the_pause_that_a_registry_asks_for_is_counted_once(script: ScriptedRegistry, opened: Opening):
    throttled = growth(REGISTRY_THROTTLED)
    script.on("GET", TAGS, error(429, "TOOMANYREQUESTS", headers={"Retry-After": "7"}), said({"tags": []}))

    await tags_of(opened(name="north"))

    assert throttled()["north",] >= 7


async def test_pauses_that_overlap_and_waits_for_the_limit_add_up_to_the_time_that_has_passed():
    clock, throttled = Clock(), CounterSeries()
    limiter = RequestLimiter(sleep=clock.sleep, clock=clock, throttled=throttled)
    begun = clock()

    limiter.record_refusal(10.0)
    limiter.record_refusal(10.0)
    await limiter.acquire()
    assert throttled.value == pytest.approx(clock() - begun) == pytest.approx(10.0)

    for _ in range(3):
        await limiter.acquire()
    assert throttled.value == pytest.approx(clock() - begun)
    assert throttled.value > 10.0


async def test_connections_are_in_use_or_idle(script: ScriptedRegistry, opened: Opening):
    store = opened()
    assert store.connections == (0, 0)
    script.always("GET", TAGS, Reply(delay=30))
    asking = asyncio.create_task(tags_of(store))
    await eventually(lambda: is_asked(script))
    assert store.connections == (1, 0)
    asking.cancel()
    await asyncio.wait([asking])

    script.always("GET", TAGS, said({"tags": []}))
    script.on("GET", TAGS, said({"tags": []}))
    await tags_of(store)
    assert store.connections[0] == 0
