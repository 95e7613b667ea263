"""Clients that stay idle, send too slowly or never read are disconnected; slow but steady ones are not."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tagferry import bounds
from tests.support.certificates import Authority
from tests.support.metrics import sample
from tests.support.raw_client import RawClient, connected
from tests.unit.web.front import GET, Application, fronted, until

pytestmark = pytest.mark.long

ENDLESS = b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n"
SHORT = 1.0

Connect = Callable[..., AbstractAsyncContextManager[RawClient]]


@pytest.fixture(autouse=True)
def _short_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LINGER_SECONDS", SHORT)


@pytest.fixture
def app() -> Application:
    return Application()


@pytest.fixture(params=["plain", "tls"])
async def connect(request: pytest.FixtureRequest, app: Application, tmp_path: Path) -> AsyncIterator[Connect]:
    """Opens connections to a listener with short time limits, without or with TLS."""
    certificate, tls = None, None
    if request.param == "tls":
        authority = Authority()
        certificate = authority.issue(tmp_path / "pair.pem", "127.0.0.1", name="server")
        tls = ssl.create_default_context(cafile=authority.write(tmp_path / "ca.pem"))
    async with fronted(
        app,
        certificate=certificate,
        header_timeout_seconds=SHORT,
        stall_timeout_seconds=SHORT,
        keep_alive_timeout_seconds=SHORT,
    ) as url:
        yield lambda **more: connected(url, tls=tls, **more)


async def test_a_connection_without_a_request_is_closed(connect: Connect):
    async with connect() as client:
        assert await client.rest() == b""


async def test_a_head_that_is_not_complete_in_time_is_refused(connect: Connect):
    async with connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHo")
        assert (await client.answer()).status == 408
        assert await client.rest() == b""


async def test_a_head_that_trickles_is_refused(connect: Connect):
    head = b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 10_000
    async with connect() as client:
        assert await client.trickle(head, pause=0.05) < len(head)


async def test_empty_lines_are_no_request(connect: Connect):
    async with connect() as client:
        assert await client.trickle(b"\r\n" * 10_000, pause=0.05) < 20_000


async def test_a_connection_is_closed_after_its_last_request(connect: Connect):
    async with connect() as client:
        await client.send(GET)
        assert (await client.answer()).status == 200
        assert await client.rest() == b""


async def test_a_request_that_takes_long_is_not_cut_off(connect: Connect, app: Application):
    async with connect() as client:
        await client.send(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(4 * SHORT)
        app.released.set()
        assert (await client.answer()).status == 200


@pytest.mark.parametrize(
    "start",
    [
        b"Content-Length: 100000\r\n\r\nabc",
        b"Content-Length: 100000000\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
)
async def test_a_body_that_stalls_is_refused(connect: Connect, app: Application, start: bytes):
    async with connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + start)
        assert (await client.answer()).status == 408
        assert await client.rest() == b""
    await until(lambda: app.left == 1)


@pytest.mark.parametrize("size", [100_000, 10_000_000])
async def test_a_body_that_trickles_is_refused(connect: Connect, size: int):
    async with connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        assert await client.trickle(b"a" * size, pause=0.05) < size


async def test_a_slow_body_that_goes_on_is_taken(connect: Connect):
    part, parts = b"a" * 2 * bounds.TRANSFER_RATE, 30
    async with connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (len(part) * parts))
        for _ in range(parts):
            await client.send(part)
            await asyncio.sleep(0.1)
        assert int((await client.answer()).body) == len(part) * parts


async def test_an_answer_that_nobody_takes_is_given_up(connect: Connect, app: Application):
    before = counted("stall_timeout_seconds")
    async with connect(buffer=4096) as client:
        await client.send(ENDLESS)
        await until(lambda: app.left == 1)
    assert counted("stall_timeout_seconds") == before + 1


async def test_answers_to_pipelined_requests_that_nobody_takes_are_given_up(connect: Connect, app: Application):
    before = counted("stall_timeout_seconds")
    async with connect(buffer=4096) as client:
        await client.send_all([ENDLESS + GET * 10])
        await until(lambda: counted("stall_timeout_seconds") == before + 1)
        await until(lambda: app.left == 1)


async def test_a_slow_reader_that_goes_on_is_served(app: Application):
    # Without TLS, since asyncio's client reads ahead with it.
    async with fronted(app, stall_timeout_seconds=SHORT) as url, connected(url, buffer=4096) as client:
        await client.send(ENDLESS)
        await client.answer_begins()
        read = 0
        for _ in range(40):
            read += len(await client.reader.readexactly(2048))
            await asyncio.sleep(0.1)
        assert read == 40 * 2048
        assert app.left == 0


async def test_a_tls_handshake_that_does_not_end_is_given_up(app: Application, tmp_path: Path):
    certificate = Authority().issue(tmp_path / "pair.pem", "127.0.0.1", name="server")
    async with fronted(app, certificate=certificate, header_timeout_seconds=SHORT) as url:
        for hello in (b"", b"\x16\x03\x01"):
            async with connected(url.replace("https", "http")) as client:
                await client.send(hello)
                assert await client.rest() == b""


async def test_bytes_that_are_no_tls_end_the_connection(app: Application, tmp_path: Path):
    certificate = Authority().issue(tmp_path / "pair.pem", "127.0.0.1", name="server")
    async with fronted(app, certificate=certificate) as url, connected(url.replace("https", "http")) as client:
        await client.send(GET)
        await client.rest()
        assert not app.scopes


async def test_a_client_that_holds_its_last_answer_does_not_keep_the_connection(connect: Connect):
    async with connect() as client:
        await client.send_all([b"GET / HTTP/1.1\r\n\r\n"])
        assert (await client.answer()).status == 400
        await client.send_all([b"a"])
        assert await client.rest() == b""


def counted(bound: str) -> float:
    return sample("tagferry_bound_reached_total", bound=bound) or 0


def test_the_system_reports_what_a_client_has_taken():
    """The stall of a reader is measured by this, since the system's own buffers are large."""
    assert hasattr(socket, "TCP_INFO")
