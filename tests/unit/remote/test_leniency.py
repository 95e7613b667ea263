"""Responses that deviate from the specification are read as other clients read them."""

import asyncio
import socket
import ssl

import pytest

from tagferry.errors import Unavailable
from tagferry.http.faults import ConnectionFailed, reason
from tagferry.http.pool import ConnectionPool
from tagferry.names import RepositoryName
from tagferry.remote import Endpoint, RemoteStore, Retry
from tagferry.remote.transport.requests import Transport
from tests.support.images import blob, read
from tests.support.raw_server import listening
from tests.unit.http.test_connection import OK, answering, fetched, http

__all__ = ["http"]

HEADS = {
    "folded": b"HTTP/1.1 200 OK\r\nX-Info: one\r\n  two\r\nContent-Length: 2\r\n\r\nok",
    "folded-by-tab": b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\t2\r\n\r\nok",
    "equal-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "listed-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    "lower-case": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "line-feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "blank-before-colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
    "control-character": b"HTTP/1.1 200 OK\r\nX-Info: a\x01b\r\nContent-Length: 2\r\n\r\nok",
    "no-colon": b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 2\r\n\r\nok",
    "two-blanks": b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok",
    "later-version": b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "no-reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
    "empty-length": b"HTTP/1.1 200 OK\r\nContent-Length:\r\nContent-Length: 2\r\n\r\nok",
    "identity": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok",
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n b\r\n\r\nHTTP/1.1 200 OK\r\nX: a\r\n\tb\r\n" + OK[17:],
}


@pytest.mark.parametrize("answer", HEADS.values(), ids=HEADS.keys())
async def test_a_lenient_head_is_read_and_its_connection_reused(http: ConnectionPool, answer: bytes):
    seen: list[int] = []
    async with listening(answering(answer, answer, connections=seen)) as url:
        assert await fetched(http, url) == (200, b"ok")
        assert await fetched(http, url) == (200, b"ok")
    assert len(seen) == 1


@pytest.mark.parametrize("answer", HEADS.values(), ids=HEADS.keys())
async def test_such_a_head_may_come_byte_by_byte(http: ConnectionPool, answer: bytes):
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for index in range(len(answer)):
            writer.write(answer[index : index + 1])
            await writer.drain()

    async with listening(handle) as url:
        assert await fetched(http, url) == (200, b"ok")


async def test_the_value_of_a_folded_line_is_one(http: ConnectionPool):
    async with listening(answering(HEADS["folded"])) as url:
        response = await http.send("GET", url, {}, idle_timeout=5.0)
        response.close()
    assert response.headers["X-Info"] == "one two"


async def test_the_sizes_of_chunks_may_be_padded(http: ConnectionPool):
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2   \r\nok\r\n0  \r\n\r\n"
    async with listening(answering(answer)) as url:
        assert await fetched(http, url) == (200, b"ok")


async def test_chunks_win_over_a_length_and_end_the_connection(http: ConnectionPool):
    seen: list[int] = []
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    async with listening(answering(answer, answer, connections=seen)) as url:
        assert await fetched(http, url) == (200, b"ok")
        assert await fetched(http, url) == (200, b"ok")
    assert len(seen) == 2


@pytest.mark.parametrize(
    "trailer",
    [
        b"X-Info: one\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"two words: x\r\n",
        b"nonsense\r\n",
    ],
)
async def test_data_after_the_last_chunk_does_not_affect_the_body(http: ConnectionPool, trailer: bytes):
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" + trailer + b"\r\n"
    async with listening(answering(answer, answer)) as url:
        assert await fetched(http, url) == (200, b"ok")
        assert await fetched(http, url) == (200, b"ok")


@pytest.mark.parametrize("damaged", [b"2\r\nok\r\nzz\r\n", b"2\r\nokk\r\n0\r\n\r\n", b"2\r\nok\r\n1\r\n"])
async def test_a_body_that_breaks_before_its_last_chunk_is_broken(http: ConnectionPool, damaged: bytes):
    async with listening(answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + damaged)) as url:
        with pytest.raises(ConnectionFailed):
            await fetched(http, url)


@pytest.mark.parametrize("endless", [b"2;" + b"x" * 400_000, b"0" * 400_000, b"2\r\nok\r\n0\r\nX: " + b"x" * 400_000])
async def test_what_surrounds_the_chunks_of_a_body_is_bounded(http: ConnectionPool, endless: bytes):
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + endless)
        await reader.read()

    async with listening(handle) as url:
        with pytest.raises(
            ConnectionFailed, match="the response has more than 65536 bytes between two parts of its body"
        ):
            await fetched(http, url)


async def test_a_body_without_a_length_ends_with_the_connection_also_with_identity_coding(http: ConnectionPool):
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok"
    async with listening(answering(answer)) as url:
        assert await fetched(http, url) == (200, b"ok")


@pytest.mark.parametrize(
    ("greeting", "message"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the response is not HTTP"),
        (b"220 mail.example.com ESMTP\r\n", "the response is not HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "the response is TLS; use an https:// URL"),
    ],
)
async def test_a_server_of_another_protocol_fails_at_once(http: ConnectionPool, greeting: bytes, message: str):
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.readuntil(b"\r\n\r\n")
        await reader.read()

    async with listening(handle) as url:
        with pytest.raises(ConnectionFailed, match=message):
            await fetched(http, url)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        b"<html>nonsense</html>\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b" folded\r\n" * 8000,
    ],
    ids=["listed", "folded", "negative", "no-status", "endless"],
)
async def test_what_could_mean_two_things_is_refused(http: ConnectionPool, answer: bytes):
    async with listening(answering(answer)) as url:
        with pytest.raises(ConnectionFailed, match=r"not HTTP|head has more than"):
            await fetched(http, url)


async def test_what_follows_an_answer_without_a_body_does_no_harm(http: ConnectionPool):
    answer = b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nnull"
    async with listening(answering(answer, answer)) as url:
        assert await fetched(http, url) == (204, b"")
        assert await fetched(http, url) == (204, b"")


async def test_a_failed_connection_is_reported_with_its_reason(http: ConnectionPool):
    async with listening(answering(OK)) as url:
        pass
    with pytest.raises(ConnectionFailed) as failure:
        await fetched(http, url)
    assert str(failure.value) == f"cannot connect to {url}: connection refused"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(), "OSError"),
        (ConnectionResetError(), "connection reset by peer"),
        (socket.gaierror(), "the host name cannot be resolved (gaierror)"),
        (OSError("Multiple exceptions: [Errno 111] x, [Errno 101] y"), "connection refused, network is unreachable"),
        (TimeoutError(), "no data was transferred in time"),
        (ConnectionResetError(104, "x"), "connection reset by peer"),
        (TimeoutError(110, "x"), "connection timed out"),
        (
            socket.gaierror(-2, "Name or service not known"),
            "the host name cannot be resolved (Name or service not known)",
        ),
        (ssl.SSLError("x"), "TLS failed: ('x',)"),
        (ExceptionGroup("", [OSError(111, "a"), OSError(111, "b"), OSError()]), "connection refused, OSError"),
    ],
)
def test_every_error_has_a_reason(error: Exception, message: str):
    assert reason(error) == message


def on_the_wire(text: str) -> str:
    """Return a header's parsed value."""
    return text.encode().decode("latin-1")


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/upload/a b?c=d e", "http://r.example/upload/a%20b?c=d%20e"),
        ("  /upload/x  ", "http://r.example/upload/x"),
        ("/größe/日本", "http://r.example/gr%C3%B6%C3%9Fe/%E6%97%A5%E6%9C%AC"),
        ("http://other.example/ä", "http://other.example/%C3%A4"),
        ("http://bücher.example/ä", "http://bücher.example/%C3%A4"),
        ("/a\\b", "http://r.example/a%5Cb"),
        ("/a%20b?sig=%2B%2f+|{}", "http://r.example/a%20b?sig=%2B%2f+|{}"),
        ("/a#part", "http://r.example/a"),
        ("next page", "http://r.example/v2/team/next%20page"),
        ("//other.example/x y", "http://other.example/x%20y"),
    ],
)
def test_what_a_location_must_not_hold_is_encoded(location: str, url: str):
    transport = Transport(Endpoint(name="r", url="http://r.example"), retry=Retry())
    assert transport.resolve(on_the_wire(location), "/v2/team/app") == url


@pytest.mark.parametrize("location", ["http://r.example\\@evil.example/", "http://r example/", "//a\\b/"])
def test_a_host_about_which_clients_disagree_is_refused(location: str):
    transport = Transport(Endpoint(name="r", url="http://r.example"), retry=Retry())
    with pytest.raises(Unavailable, match="invalid URL"):
        transport.resolve(location)


async def test_a_redirect_to_tls_on_the_same_host_stays_at_the_registry():
    transport = Transport(Endpoint(name="r", url="http://r.example"), retry=Retry())
    assert transport.is_own("https://r.example/v2/")
    assert not transport.is_own("https://r.example:8443/v2/")
    assert not Transport(Endpoint(name="r", url="http://r.example:81"), retry=Retry()).is_own("https://r.example/")


async def test_a_location_with_blanks_and_letters_is_followed():
    paths: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (
            "HTTP/1.1 307 Found\r\nLocation: /größe/a b\r\nContent-Length: 0\r\n\r\n".encode(),
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        ):
            paths.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
            writer.write(answer)
        await writer.drain()

    async with listening(handle) as url:
        store = RemoteStore(Endpoint(name="r", url=url), retry=Retry(attempts=1))
        assert await read(store, RepositoryName("team/app"), blob(b"x")) == b"x"
        await store.close()
    assert paths[1] == b"/gr%C3%B6%C3%9Fe/a%20b"


async def test_a_connection_timeout_names_the_address():
    with socket.create_server(("127.0.0.1", 0), backlog=1) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}"
        # It accepts connections and never completes a handshake.
        store = RemoteStore(Endpoint(name="r", url=url, connect_timeout=0.05), retry=Retry(attempts=1))
        with pytest.raises(Unavailable, match=f"cannot connect to {url}: no answer within 0.05 s"):
            await store.ping()
        await store.close()
