"""The address of a client is that of its connection, or what trusted proxies say."""

from typing import Any

import pytest

from tagferry import bounds
from tagferry.web.server.proxies import TrustedProxies

CLIENT, PROXY, SECOND = "203.0.113.9", "10.0.0.1", "10.0.0.2"


async def seen(
    peer: str | None, *headers: tuple[str, str], trusted: tuple[str, ...] = ("10.0.0.0/8", "2001:db8::1")
) -> tuple[str | None, str]:
    """The client's address and the scheme that the application sees."""
    scopes: list[Any] = []

    async def application(scope, receive, send):
        scopes.append(scope)

    async def nothing(*_: Any) -> Any:
        raise AssertionError("neither read nor written")

    scope = {
        "type": "http",
        "scheme": "http",
        "client": (peer, 1) if peer else None,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }
    await TrustedProxies(application, trusted)(scope, nothing, nothing)
    client = scopes[0]["client"]
    return client[0] if client else None, scopes[0]["scheme"]


def forwarded(*values: str) -> tuple[tuple[str, str], ...]:
    return tuple(("X-Forwarded-For", value) for value in values)


@pytest.mark.parametrize(
    ("peer", "scheme"), [("127.0.0.1", "https"), ("::1", "https"), (CLIENT, "http"), ("11.0.0.1", "http")]
)
async def test_of_what_others_than_trusted_proxies_say_only_https_on_this_machine_is_believed(peer: str, scheme: str):
    headers = (*forwarded("192.0.2.1"), ("X-Forwarded-Proto", "https"))

    assert await seen(peer, *headers) == (peer, scheme)
    assert await seen(peer, *headers, trusted=()) == (peer, scheme)


@pytest.mark.parametrize(
    ("values", "client"),
    [
        ([CLIENT], CLIENT),
        ([f" {CLIENT} "], CLIENT),
        (["192.0.2.1, " + CLIENT], CLIENT),
        (["192.0.2.1", CLIENT], CLIENT),
        ([f"192.0.2.1,{CLIENT}, {SECOND}"], CLIENT),
        ([f"{CLIENT}:4711"], CLIENT),
        (["2001:db8::9"], "2001:db8::9"),
        (["[2001:db8::9]:4711"], "2001:db8::9"),
        (['"[2001:db8::9]"'], "2001:db8::9"),
        (["fe80::9%eth0"], "fe80::9"),
        ([f"::ffff:{CLIENT}"], CLIENT),
        ([f"{SECOND}, 10.0.0.3"], SECOND),
        ([f"unknown, {SECOND}"], SECOND),
        ([f"{CLIENT}, nonsense"], PROXY),
        (["unknown"], PROXY),
        ([""], PROXY),
        ([", ,"], PROXY),
        (["\xff" * 1000], PROXY),
        ([], PROXY),
    ],
)
async def test_the_last_address_that_is_no_trusted_proxys_counts(values: list[str], client: str):
    assert (await seen(PROXY, *forwarded(*values)))[0] == client


async def test_a_trusted_proxy_may_connect_over_any_family():
    assert (await seen("2001:db8::1", *forwarded(CLIENT)))[0] == CLIENT
    assert (await seen(f"::ffff:{PROXY}", *forwarded(CLIENT)))[0] == CLIENT
    assert (await seen(f"::ffff:{CLIENT}", *forwarded("192.0.2.1")))[0] == CLIENT
    assert (await seen(None, *forwarded(CLIENT)))[0] is None


async def test_only_so_many_proxies_are_gone_through():
    row = [f"10.0.1.{number}" for number in range(bounds.FORWARDED_HOPS)]

    assert (await seen(PROXY, *forwarded(", ".join([CLIENT, *row[1:]]))))[0] == CLIENT
    assert (await seen(PROXY, *forwarded(", ".join([CLIENT, *row]))))[0] == "10.0.1.0"
    assert (await seen(PROXY, *forwarded("10.0.0.1," * 6000 + "10.0.1.9")))[0] == "10.0.0.1"


@pytest.mark.parametrize(
    ("value", "scheme"),
    [("https", "https"), ("HTTPS", "https"), ("http, https", "https"), ("ftp", "http"), ("", "http")],
)
async def test_a_trusted_proxy_says_how_it_was_reached(value: str, scheme: str):
    assert (await seen(PROXY, ("X-Forwarded-Proto", value)))[1] == scheme
