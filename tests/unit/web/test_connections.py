"""Connections have slots: in all, for each listener and for each address; those without a request give way."""

import asyncio
import errno
import socket
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tagferry.bounds import DESCRIPTOR_RESERVE, SHED_PER_ADDRESS, SHED_SECONDS
from tagferry.settings import LimitSettings
from tagferry.web.server import accepting
from tagferry.web.server.connections import Connections, Slot, affordable_connections
from tagferry.web.server.proxies import trust
from tagferry.web.server.serve import Listener, listening
from tests.support.certificates import Authority
from tests.support.clock import Clock
from tests.support.processes import free_port
from tests.support.raw_client import connected
from tests.unit.web.front import GET, Application, fronted, until

HELD = b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n"


def taken(connections: Connections, host: str, listener: int = 0, *, works: bool = True) -> Slot:
    slot = connections.take(listener, host)
    assert slot is not None
    if works:
        slot.working()
    return slot


def test_when_all_slots_work_a_connection_is_refused():
    connections = Connections(3, 3)
    slots = [taken(connections, f"10.0.0.{n}") for n in range(3)]
    assert connections.take(0, "10.0.0.9") is None
    slots[1].release()
    slots[1].release()
    assert connections.held == 2
    taken(connections, "10.0.0.9")


def test_the_connection_that_has_been_idle_for_longest_gives_way():
    connections = Connections(3, 3)
    closed: list[str] = []
    for name in ("first", "second", "third"):
        slot = taken(connections, name)
        slot.close = partial(closed.append, name)
        if name != "first":
            slot.idle()
    taken(connections, "fourth")
    assert closed == ["second"]
    assert connections.held == 3


def test_one_address_has_its_own_limit_and_its_own_connections_give_way():
    connections = Connections(100, 2)
    other = taken(connections, "10.0.0.1", works=False)
    one, _two = taken(connections, "10.0.0.2", works=False), taken(connections, "10.0.0.2")
    taken(connections, "10.0.0.2")
    assert not one.is_held
    assert other.is_held
    assert connections.take(0, "10.0.0.2") is None
    taken(connections, "10.0.0.3")


def test_a_trusted_proxy_has_no_limit_of_its_own():
    connections = Connections(100, 1, is_exempt=trust(["10.0.0.0/24"]))
    for _ in range(50):
        taken(connections, "10.0.0.1")
    taken(connections, "10.0.1.1")
    assert connections.take(0, "10.0.1.1") is None


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("10.0.0.1", "10.0.0.2", False),
    ],
)
def test_a_network_of_ipv6_counts_as_one_address(first: str, second: str, is_one: bool):
    connections = Connections(100, 1)
    taken(connections, first)
    assert (connections.take(0, second) is None) == is_one


def test_no_listener_is_starved_by_another():
    connections = Connections(40, 40, listeners=2)
    for _ in range(30):
        taken(connections, "10.0.0.1", 0)
    assert connections.take(0, "10.0.0.1") is None
    for _ in range(10):
        taken(connections, "10.0.0.2", 1)
    assert connections.take(1, "10.0.0.2") is None


def test_the_slots_follow_from_the_descriptors():
    assert affordable_connections(4096, 256) == (256 - DESCRIPTOR_RESERVE) // 2
    assert affordable_connections(4096, 1_000_000) == 4096
    assert affordable_connections(4096, 10) == 16


async def test_connections_over_the_limit_are_told_to_try_again():
    app = Application()
    async with fronted(app, connections=16) as url, AsyncExitStack() as stack:
        for n in range(16):
            client = await stack.enter_async_context(connected(url, source=f"127.0.0.{n + 2}"))
            await client.send(HELD)
        await until(lambda: len(app.scopes) == 16)
        async with connected(url) as client:
            answer = await client.answer()
            assert answer.status == 503
            assert int(answer.headers["retry-after"]) > 0
            assert await client.rest() == b""
        app.released.set()


async def test_idle_connections_do_not_keep_anybody_out():
    app = Application()
    async with fronted(app, connections=32) as url, AsyncExitStack() as stack:
        for n in range(100):
            client = await stack.enter_async_context(connected(url))
            await client.send((b"", b"GET / HT", GET)[n % 3])
            async with connected(url) as honest:
                await honest.send(GET)
                assert (await honest.answer()).status == 200


async def test_handshakes_give_way_too(tmp_path: Path):
    certificate = Authority().issue(tmp_path / "pair.pem", "127.0.0.1", name="server")
    async with fronted(Application(), certificate=certificate, connections=16) as url, AsyncExitStack() as stack:
        plain = url.replace("https", "http")
        first = await stack.enter_async_context(connected(plain))
        for _ in range(16):
            await stack.enter_async_context(connected(plain))
        assert await first.rest() == b""


async def test_a_listener_goes_on_when_the_system_is_out_of_descriptors(monkeypatch: pytest.MonkeyPatch):
    """A fake listening socket raises the system's error."""
    app = Application()
    failures = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS]

    class Starved(accepting.Acceptor):
        def _accept(self) -> None:
            listening_socket: Any = self._listening
            if failures:
                failing: Any = _Failing(listening_socket, failures.pop())
                self._listening = failing
            try:
                super()._accept()
            finally:
                self._listening = listening_socket

    monkeypatch.setattr(accepting, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("tagferry.web.server.serve.Acceptor", Starved)
    with capture_logs() as logs:
        async with fronted(app) as url, connected(url) as client:
            await client.send(GET)
            assert (await client.answer()).status == 200
    assert not failures
    assert {e["event"] for e in logs} == {"could not accept a connection"}


class _Failing:
    def __init__(self, real: socket.socket, number: int) -> None:
        self._real = real
        self._number = number

    def accept(self) -> None:
        raise OSError(self._number, "out of something")

    def fileno(self) -> int:
        return self._real.fileno()


async def test_two_listeners_share_the_slots():
    app = Application()
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    limits = LimitSettings(connections=32)
    async with (
        listening([Listener(app, address) for address in addresses], limits),
        AsyncExitStack() as stack,
    ):
        first, second = (f"http://{address}" for address in addresses)
        for n in range(40):
            client = await stack.enter_async_context(connected(first, source=f"127.0.1.{n + 1}"))
            await client.send_all([HELD])
        await until(lambda: len(app.scopes) == 24)
        async with connected(second) as client:
            await client.send(GET)
            assert (await client.answer()).status == 200
        app.released.set()
        await asyncio.sleep(0)


def test_an_address_whose_requests_are_refused_gets_no_new_connections_for_a_while():
    clock = Clock()
    connections = Connections(1000, 1000, is_exempt=trust(["10.0.0.9"]), clock=clock)
    for host in ("10.0.0.1", "10.0.0.9"):
        slot = taken(connections, host)
        for _ in range(SHED_PER_ADDRESS - 1):
            slot.shed()
        taken(connections, host)
        slot.shed()

    with capture_logs() as logs:
        assert connections.take(0, "10.0.0.1") is None
    assert [(entry["event"], entry["limit"]) for entry in logs] == [("refused a connection", "shed_per_address")]
    # A proxy's connections are those of many clients.
    taken(connections, "10.0.0.9")
    taken(connections, "10.0.0.2")
    clock.now += SHED_SECONDS
    taken(connections, "10.0.0.1")
