"""Bodies of unknown callers share a budget of memory and a deadline; those of known callers leave it."""

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from tagferry import bounds
from tagferry.errors import Overloaded, Stalled
from tagferry.web.server.body_budget import AnonymousBodies, AuthenticatedBodies, BodyBudget


def scope(address: str = "10.0.0.1") -> dict[str, Any]:
    return {"type": "http", "client": (address, 1), "headers": [], "state": {}}


def body(size: int) -> Receive:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"a" * size, "more_body": True}

    return receive


async def send(_message: Any) -> None:
    pass


class Reading:
    """Reads this many parts of each body, and records the memory reserved then."""

    def __init__(self, budget: BodyBudget, parts: int = 1) -> None:
        self.budget = budget
        self.parts = parts
        self.seen: list[int] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(self.parts):
            await receive()
        self.seen.append(self.budget._held)


async def test_a_body_is_held_until_its_request_has_ended():
    budget = BodyBudget(1000, 1000)
    app = Reading(budget, parts=3)
    await AnonymousBodies(app, budget)(scope(), body(100), send)
    assert app.seen == [300]
    assert budget._held == 0
    assert not budget._by_address


async def test_more_than_the_budget_is_refused_with_a_time_to_try_again():
    budget = BodyBudget(1000, 1000)
    budget.reserve("10.0.0.9", 800)
    with pytest.raises(Overloaded) as refused:
        await AnonymousBodies(Reading(budget, parts=3), budget)(scope(), body(100), send)
    assert refused.value.retry_after
    assert budget._held == 800
    await AnonymousBodies(Reading(budget, parts=2), budget)(scope(), body(100), send)


async def test_one_address_gets_a_part_of_the_budget_only():
    budget = BodyBudget(1000, 200)
    budget.reserve("10.0.0.1", 200)
    with pytest.raises(Overloaded):
        await AnonymousBodies(Reading(budget), budget)(scope("10.0.0.1"), body(1), send)
    await AnonymousBodies(Reading(budget), budget)(scope("10.0.0.2"), body(200), send)


async def test_an_ipv6_network_gets_the_part_of_one_address():
    budget = BodyBudget(1000, 200)
    budget.reserve("2001:db8::/64", 200)
    with pytest.raises(Overloaded):
        await AnonymousBodies(Reading(budget), budget)(scope("2001:db8::2"), body(1), send)
    await AnonymousBodies(Reading(budget), budget)(scope("2001:db8:0:1::2"), body(200), send)


async def test_when_the_budget_is_used_up_nothing_of_a_body_is_read():
    budget = BodyBudget(1000, 1000)
    budget.reserve("10.0.0.9", 1000)

    async def never() -> dict[str, Any]:
        raise AssertionError("it was read")

    with pytest.raises(Overloaded):
        await AnonymousBodies(Reading(budget), budget)(scope(), never, send)


async def test_the_body_of_a_known_caller_is_not_held():
    budget = BodyBudget(1000, 1000)
    inside = Reading(budget, parts=0)

    async def authentication(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        assert budget._held == 100
        scope["state"]["caller"] = "somebody"
        await receive()
        assert budget._held == 100
        await AuthenticatedBodies(inside)(scope, receive, send)

    await AnonymousBodies(authentication, budget)(scope(), body(100), send)
    assert inside.seen == [0]
    assert budget._held == 0


async def test_a_body_that_does_not_arrive_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounds, "ANONYMOUS_BODY_SECONDS", 0.05)
    budget = BodyBudget(1000, 1000)

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            await receive()

    async def silent() -> dict[str, Any]:
        await asyncio.sleep(0.03)
        return {"type": "http.request", "body": b"a", "more_body": True}

    with pytest.raises(Stalled, match="did not arrive within"):
        await AnonymousBodies(endless, budget)(scope(), silent, send)
    assert budget._held == 0
