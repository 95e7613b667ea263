"""Responses that a connection accepts, and when it serves another request."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tagferry import bounds
from tagferry.http.connection import Connection, Stream
from tagferry.http.faults import ConnectionFailed, ConnectionTimedOut
from tagferry.http.pool import ConnectionPool
from tagferry.http.response import READ_AHEAD
from tagferry.tls import ClientContexts, ClientTls
from tests.support.certificates import Authority
from tests.support.raw_server import Handler, listening

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answering(*answers: bytes, connections: list[int] | None = None) -> Handler:
    """Send these responses on each connection, one per request without a body, then close it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if connections is not None:
            connections.append(1)
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()

    return handle


@pytest.fixture
async def http() -> AsyncIterator[ConnectionPool]:
    connections = ConnectionPool(headers={"User-Agent": "t"}, connect_timeout=5.0)
    yield connections
    await connections.close()


async def fetched(http: ConnectionPool, url: str, method: str = "GET", idle_timeout: float = 5.0) -> tuple[int, bytes]:
    response = await http.send(method, url, {}, idle_timeout=idle_timeout)
    body = b"".join([chunk async for chunk in response.chunks()])
    response.close()
    return response.status, body


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK, b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK, b"ok"),
    ],
    ids=["length", "empty", "no-content", "chunked", "continue", "hints"],
)
async def test_bodies_end_as_their_head_states_and_the_connection_is_reused(
    http: ConnectionPool, answer: bytes, body: bytes
):
    seen: list[int] = []
    async with listening(answering(answer, answer, connections=seen)) as url:
        assert (await fetched(http, url))[1] == body
        assert (await fetched(http, url))[1] == body
    assert len(seen) == 1


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n\r\nto the end", b"HTTP/1.0 200 OK\r\n\r\nto the end"])
async def test_a_body_without_a_length_ends_with_the_connection(http: ConnectionPool, answer: bytes):
    seen: list[int] = []
    async with listening(answering(answer, connections=seen)) as url:
        assert await fetched(http, url) == (200, b"to the end")
        assert await fetched(http, url) == (200, b"to the end")
    assert len(seen) == 2


async def test_a_response_to_head_has_no_body_whatever_its_length(http: ConnectionPool):
    seen: list[int] = []
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"
    async with listening(answering(head, OK, connections=seen)) as url:
        assert await fetched(http, url, "HEAD") == (200, b"")
        assert await fetched(http, url) == (200, b"ok")
    assert len(seen) == 1


@pytest.mark.parametrize("wish", [b"HTTP/1.1 200 OK\r\nConnection: close", b"HTTP/1.0 200 OK"])
async def test_a_connection_that_the_server_wants_closed_is_not_used_again(http: ConnectionPool, wish: bytes):
    seen: list[int] = []
    answer = wish + b"\r\nContent-Length: 2\r\n\r\nok"
    async with listening(answering(answer, answer, connections=seen)) as url:
        await fetched(http, url)
        await fetched(http, url)
    assert len(seen) == 2


async def test_an_answer_that_is_not_read_to_its_end_closes_its_connection(http: ConnectionPool):
    seen: list[int] = []
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\nbeginning"
    async with listening(answering(large, OK, connections=seen)) as url:
        (await http.send("GET", url, {}, idle_timeout=5.0)).close()
        (await http.send("GET", url, {}, idle_timeout=5.0)).close()
    assert len(seen) == 2


async def test_a_closed_pooled_connection_is_replaced_at_once(http: ConnectionPool):
    seen: list[int] = []
    dying = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(1)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        if len(seen) == 1:
            # Read the next request without responding, as a server does that is just closing.
            await reader.readuntil(b"\r\n\r\n")
            dying.set()
            return
        await reader.read()

    async with listening(handle) as url:
        await fetched(http, url)
        assert await fetched(http, url) == (200, b"ok")
    assert dying.is_set()
    assert len(seen) == 2


async def test_a_fresh_connection_that_breaks_is_not_tried_again(http: ConnectionPool):
    seen: list[int] = []
    async with listening(answering(b"", connections=seen)) as url:
        with pytest.raises(ConnectionFailed, match="closed by the other side"):
            await fetched(http, url)
    assert len(seen) == 1


async def test_a_truncated_body_fails(http: ConnectionPool):
    async with listening(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")) as url:
        response = await http.send("GET", url, {}, idle_timeout=5.0)
        chunks = response.chunks()
        assert await anext(chunks) == b"ab"
        with pytest.raises(ConnectionFailed):
            await anext(chunks)
        response.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: minus\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (bounds.RESPONSE_HEAD_BYTES + 1),
    ],
    ids=["not-http", "two-lengths", "no-number", "long-head"],
)
async def test_what_is_no_proper_answer_is_refused(http: ConnectionPool, answer: bytes):
    async with listening(answering(answer)) as url:
        with pytest.raises(ConnectionFailed):
            await fetched(http, url)


async def test_bytes_after_an_answer_are_no_answer_to_the_next_request(http: ConnectionPool):
    seen: list[int] = []
    smuggled = OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    async with listening(answering(smuggled, connections=seen)) as url:
        try:
            bodies = [(await fetched(http, url))[1], (await fetched(http, url))[1]]
        except ConnectionFailed:
            bodies = []
    assert b"evil" not in b"".join(bodies)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"])
async def test_a_response_that_stalls_times_out(http: ConnectionPool, sent: bytes):
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        await reader.read()

    async with listening(handle) as url:
        with pytest.raises(ConnectionTimedOut):
            await fetched(http, url, idle_timeout=0.05)


async def test_unread_bodies_are_not_buffered(http: ConnectionPool):
    size = 64 * 1024 * 1024
    stopped = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        piece = bytes(1024 * 1024)
        for _ in range(size // len(piece)):
            writer.write(piece)
            try:
                await asyncio.wait_for(writer.drain(), 1.0)
            except TimeoutError:
                stopped.set()
                await writer.drain()

    async with listening(handle) as url:
        response = await http.send("GET", url, {}, idle_timeout=10.0)
        async with asyncio.timeout(20):
            await stopped.wait()
        first = await anext(response.chunks())
        rest = [len(chunk) async for chunk in response.chunks()]
        response.close()
    assert len(first) + sum(rest) == size
    assert max(rest) <= READ_AHEAD


def head_first(body: bytes) -> Handler:
    """Send the head of a response, and its body a moment later."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        await asyncio.sleep(0.05)
        writer.write(body)
        await writer.drain()

    return handle


async def test_a_long_body_that_comes_after_its_head_is_read(http: ConnectionPool):
    body = b"x" * (4 * READ_AHEAD)

    async with listening(head_first(body)) as url:
        assert await fetched(http, url) == (200, body)


@pytest.mark.parametrize("is_paused", [True, False], ids=["plain", "tls"])
async def test_a_response_is_paused_at_its_head_only_if_its_body_may_stay_in_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_paused: bool
):
    # uvloop drops the bytes of a paused TLS connection that the server closes.
    authority = Authority()
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(authority.issue(tmp_path / "server.pem", "127.0.0.1"))
    contexts = ClientContexts(ClientTls(ca_file=authority.write(tmp_path / "ca.pem")))
    body = b"x" * (READ_AHEAD * 3 // 4)
    pauses: list[None] = []
    pause = Connection.pause_reading
    monkeypatch.setattr(Connection, "pause_reading", lambda connection: pauses.append(pause(connection)))

    http = ConnectionPool(headers={}, connect_timeout=5.0, tls=contexts)
    async with listening(head_first(body), tls=None if is_paused else served) as url:
        assert await fetched(http, url) == (200, body)
    await http.close()
    assert bool(pauses) is is_paused


async def test_an_answer_before_the_end_of_a_stream_ends_the_sending(http: ConnectionPool):
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(10_000):
            taken += 1
            yield bytes(1024 * 1024)
            await asyncio.sleep(0)

    async with listening(handle) as url:
        body = Stream(endless(), 10_000 * 1024 * 1024, idle_timeout=5.0)
        response = await http.send("PUT", url, {}, body, idle_timeout=5.0)
        response.close()
    assert response.status == 413
    assert taken < 10_000


async def test_a_stream_that_stalls_fails(http: ConnectionPool):
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(20)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1024 * 1024)

    async with listening(handle) as url:
        with pytest.raises(ConnectionTimedOut):
            await http.send("PUT", url, {}, Stream(endless(), 2**40, idle_timeout=0.2), idle_timeout=5.0)


async def test_what_a_stream_raises_comes_through_as_it_is(http: ConnectionPool):
    async def failing() -> AsyncIterator[bytes]:
        yield b"a"
        raise LookupError("the source failed")

    async with listening(answering(OK)) as url:
        with pytest.raises(LookupError, match="the source failed"):
            await http.send("PUT", url, {}, Stream(failing(), 2, idle_timeout=5.0), idle_timeout=5.0)


@pytest.mark.parametrize(
    ("path", "header"), [("/a b", "x"), ("/ä", "x"), ("/a", "x\r\nHost: evil"), ("/a", "x\nY: evil")]
)
async def test_a_malformed_request_is_not_sent(http: ConnectionPool, path: str, header: str):
    seen: list[int] = []
    async with listening(answering(OK, connections=seen)) as url:
        with pytest.raises(ConnectionFailed, match="cannot be sent"):
            await http.send("GET", url + path, {"X": header}, idle_timeout=5.0)
    assert seen == []


async def test_a_refused_connection_is_reported(http: ConnectionPool):
    async with listening(answering(OK)) as url:
        pass
    with pytest.raises(ConnectionFailed):
        await http.send("GET", url, {}, idle_timeout=5.0)


async def test_a_host_is_found_by_its_name(http: ConnectionPool):
    async with listening(answering(OK)) as url:
        assert await fetched(http, url.replace("127.0.0.1", "localhost")) == (200, b"ok")
