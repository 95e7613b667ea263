"""Connections that begin before the modules that use them are loaded."""

import asyncio
import resource
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop

from tagferry.http.address_policy import ANY_ADDRESS, AddressForbidden, AddressPolicy, Zone
from tagferry.http.early_sockets import KEPT_SECONDS, EarlySockets
from tagferry.http.faults import ConnectionFailed
from tagferry.http.pool import ConnectionPool
from tagferry.http.proxies import Proxies
from tagferry.tls import ClientContexts, ClientTls
from tests.support.certificates import Authority
from tests.support.raw_server import listening
from tests.support.scripted_proxy import scripted_proxy

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HOST = "127.0.0.1"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Server:
    """Counts connections; answers each request on them."""

    def __init__(self) -> None:
        self.connections = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(OK)
            await writer.drain()


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - sockets are opened in a thread
            await asyncio.sleep(0.005)


async def begun(early: EarlySockets, url: str, count: int, host: str = HOST) -> None:
    """Begin connections, and wait until all have begun."""
    early.open(host, port_of(url), count)
    await until(lambda: sum(map(len, early._waiting.values())) == count)


def pool(early: EarlySockets) -> ConnectionPool:
    return ConnectionPool(headers={}, connect_timeout=5.0, proxies=Proxies("none"), early=early)


async def fetch(http: ConnectionPool, url: str, policy: AddressPolicy = ANY_ADDRESS) -> bytes:
    response = await http.send("GET", url, {}, idle_timeout=5.0, address_policy=policy)
    try:
        return b"".join([chunk async for chunk in response.chunks()])
    finally:
        response.close()


@pytest.fixture
async def early() -> AsyncIterator[EarlySockets]:
    made = EarlySockets()
    yield made
    made.close()


async def exchanged(early: EarlySockets) -> None:
    server = Server()
    async with listening(server.handle) as url:
        await begun(early, url, 3)
        await until(lambda: server.connections == 3)
        http = pool(early)
        answers = await asyncio.gather(*(fetch(http, url) for _ in range(3)))
        assert (answers, server.connections) == ([b"ok"] * 3, 3)
        assert await asyncio.gather(*(fetch(http, url) for _ in range(5))) == [b"ok"] * 5
        assert server.connections == 5
        assert early.needed == {(HOST, port_of(url)): 5}
        await http.close()


async def test_requests_use_the_connections_that_have_begun(early: EarlySockets):
    await exchanged(early)


def test_so_they_do_on_uvloop():
    early = EarlySockets()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(exchanged(early))
    early.close()


async def test_a_connection_that_is_still_being_made_is_waited_for(early: EarlySockets):
    server = Server()
    with socket.create_server((HOST, 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        # It fills the queue of the listener, so that the next handshake takes about a second.
        other = socket.create_connection((HOST, port))
        url = f"http://{HOST}:{port}"
        await begun(early, url, 1)
        with pytest.raises(OSError, match="not connected"):
            next(iter(early._waiting.values()))[0].sock.getpeername()
        async with await asyncio.start_server(server.handle, sock=listener):
            other.close()
            http = pool(early)
            assert await fetch(http, url) == b"ok"
            await http.close()
    assert early.needed == {(HOST, port): 1}


async def test_a_connection_that_is_refused_after_a_while_is_made_again(early: EarlySockets):
    server = Server()
    with socket.create_server((HOST, 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        other = socket.create_connection((HOST, port))
        await begun(early, f"http://{HOST}:{port}", 1)
    other.close()
    (one,) = early._waiting[HOST, port]
    await until(lambda: one.has_ended)
    async with await asyncio.start_server(server.handle, HOST, port):
        http = pool(early)
        assert await fetch(http, f"http://{HOST}:{port}") == b"ok"
        await http.close()
    assert (server.connections, one.sock.fileno()) == (1, -1)


async def test_a_connection_that_its_host_has_closed_is_made_again(early: EarlySockets):
    closed, server = 0, Server()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal closed
        if closed < 8:
            closed += 1
            writer.close()
        else:
            await server.handle(reader, writer)

    async with listening(handle) as url:
        await begun(early, url, 8)
        await until(lambda: all(one.has_ended for one in early._waiting[HOST, port_of(url)]))
        http = pool(early)
        assert await fetch(http, url) == b"ok"
        await http.close()
    assert (closed, server.connections) == (8, 1)


async def test_one_connection_after_the_other_counts_as_one(early: EarlySockets):
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))
        await writer.drain()

    async with listening(handle) as url:
        http = pool(early)
        for _ in range(10):
            assert await fetch(http, url) == b"ok"
            await until(lambda: not http._open)
        await http.close()
    assert early.needed == {(HOST, port_of(url)): 1}


async def test_without_another_thread_connections_begin_when_they_are_needed(
    early: EarlySockets, monkeypatch: pytest.MonkeyPatch
):
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    server = Server()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    async with listening(server.handle) as url:
        early.open(HOST, port_of(url), 2)
        http = pool(early)
        assert await fetch(http, url) == b"ok"
        await http.close()
    assert server.connections == 1


async def test_few_connections_begin_if_few_files_may_be_open(early: EarlySockets, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    async with listening(Server().handle) as url:
        early.open(HOST, port_of(url), 32)
        await until(lambda: len(early._waiting.get((HOST, port_of(url)), [])) == 4)
        # The thread has ended once it gave up the lock after the last one.
        with early._lock:
            assert len(early._waiting[HOST, port_of(url)]) == 4


async def test_a_host_that_refuses_is_reported_as_always(early: EarlySockets):
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    early.open(HOST, port, 1)
    await until(lambda: (HOST, port) in early._addresses)
    messages = []
    for sockets in (None, early):
        http = ConnectionPool(headers={}, connect_timeout=5.0, proxies=Proxies("none"), early=sockets)
        with pytest.raises(ConnectionFailed) as failed:
            await fetch(http, f"http://{HOST}:{port}")
        messages.append(str(failed.value))
        await http.close()
    assert messages[0] == messages[1] == f"cannot connect to http://{HOST}:{port}: connection refused"


def resolving(monkeypatch: pytest.MonkeyPatch, port: int, *addresses: str) -> None:
    """Let every name have these addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


async def test_the_next_address_of_a_host_is_tried(early: EarlySockets, monkeypatch: pytest.MonkeyPatch):
    server = Server()
    async with listening(server.handle) as url:
        port = port_of(url)
        resolving(monkeypatch, port, "127.0.0.2", HOST)
        early.open("registry.test", port, 2)
        await until(lambda: ("registry.test", port) in early._addresses)
        http = pool(early)
        assert await fetch(http, f"http://registry.test:{port}") == b"ok"
        await http.close()
    assert server.connections == 1


async def test_the_address_policy_holds(early: EarlySockets, monkeypatch: pytest.MonkeyPatch):
    server = Server()
    async with listening(server.handle) as url:
        port = port_of(url)
        resolving(monkeypatch, port, HOST)
        await begun(early, url, 1, host="registry.test")
        http = pool(early)
        with pytest.raises(AddressForbidden):
            await fetch(http, f"http://registry.test:{port}", AddressPolicy(Zone.PUBLIC))
        await http.close()


@pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "tls"])
async def test_a_connection_to_a_proxy_may_begin_early(early: EarlySockets, tmp_path: Path, with_tls: bool):
    authority = Authority()
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(authority.issue(tmp_path / "server.pem", HOST))
    server = Server()
    async with listening(server.handle, tls=served if with_tls else None) as url, scripted_proxy() as proxy:
        await begun(early, proxy.url, 1)
        tls = ClientContexts(ClientTls(ca_file=authority.write(tmp_path / "ca.pem")))
        http = ConnectionPool(headers={}, connect_timeout=5.0, proxies=Proxies(proxy.url), early=early, tls=tls)
        assert await fetch(http, url) == b"ok"
        await http.close()
    assert early.needed == {(HOST, port_of(proxy.url)): 1}
    assert len(proxy.asked) == 1
    assert not any(early._waiting.values())


async def test_tls_begins_on_a_connection_that_has_begun(early: EarlySockets, tmp_path: Path):
    authority = Authority()
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(authority.issue(tmp_path / "server.pem", HOST))
    server = Server()
    async with listening(server.handle, tls=served) as url:
        await begun(early, url, 1)
        tls = ClientContexts(ClientTls(ca_file=authority.write(tmp_path / "ca.pem")))
        http = ConnectionPool(headers={}, connect_timeout=5.0, proxies=Proxies("none"), early=early, tls=tls)
        assert await fetch(http, url) == b"ok"
        await http.close()
    assert (server.connections, any(early._waiting.values())) == (1, False)


async def test_a_name_that_does_not_exist_is_reported_as_always(early: EarlySockets):
    early.open("registry.invalid", 80, 1)
    http = pool(early)
    with pytest.raises(ConnectionFailed, match=r"registry\.invalid"):
        await fetch(http, "http://registry.invalid")
    await http.close()


async def test_an_old_connection_is_not_used():
    clock, server = Clock(), Server()
    early = EarlySockets(clock=clock)
    async with listening(server.handle) as url:
        await begun(early, url, 1)
        await until(lambda: server.connections == 1)
        clock.now += KEPT_SECONDS
        http = pool(early)
        assert await fetch(http, url) == b"ok"
        assert server.connections == 2
        await http.close()
    early.close()


async def test_what_nobody_took_is_closed():
    ended: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        ended.append(await reader.read())

    early = EarlySockets()
    async with listening(handle) as url:
        await begun(early, url, 4)
        early.close()
        await until(lambda: len(ended) == 4)
        early._open(HOST, port_of(url), 1)
        assert not early._waiting
    assert ended == [b""] * 4
