"""The end of a server: requests in progress are answered, and what takes too long is cancelled."""

import asyncio
import ssl
from contextlib import AsyncExitStack
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from tagferry.web.server.http_protocol import BoundedProtocol
from tests.support.certificates import Authority
from tests.support.raw_client import connected
from tests.unit.web.front import GET, Application, fronted, until

HELD = b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_a_request_in_progress_is_answered_before_the_server_ends():
    app = Application()
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(fronted(app))
        async with connected(url) as client:
            await client.send(HELD)
            await until(lambda: bool(app.scopes))
            ending = asyncio.create_task(stack.pop_all().aclose())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(ending), 0.2)
            app.released.set()

            answer = await client.answer()
            assert answer.status == 200
            assert answer.headers["connection"] == "close"
            assert await client.rest() == b""
        await ending


async def test_an_idle_connection_is_closed_when_the_server_ends():
    app = Application()
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(fronted(app))
        async with connected(url) as client:
            await client.send(GET)
            assert (await client.answer()).status == 200
            await stack.aclose()

            assert await client.rest() == b""


async def test_a_request_that_takes_too_long_is_cancelled_when_the_server_ends(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.web.server.serve._DRAIN_SECONDS", 0.1)
    app = Application()
    with capture_logs() as logs:
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(fronted(app))
            async with connected(url) as client:
                await client.send(HELD)
                await until(lambda: bool(app.scopes))
                await stack.aclose()
                await until(lambda: app.left == 1)

    assert [line["requests"] for line in logs if line["event"] == "cancelled requests at the end"] == [1]


async def test_a_request_that_is_cancelled_may_clean_up_before_the_server_ends(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.web.server.serve._DRAIN_SECONDS", 0.1)
    monkeypatch.setattr("tagferry.web.server.serve._CANCEL_SECONDS", 60)
    app = Thorough()
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(fronted(app))
        async with connected(url) as client:
            await client.send(HELD)
            await until(lambda: bool(app.scopes))
            await stack.aclose()

    assert app.has_cleaned_up


class Thorough(Application):
    """Cleans up after each request, which takes more than one turn of the event loop."""

    has_cleaned_up = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            for _ in range(50):
                await asyncio.sleep(0)
            self.has_cleaned_up = True


async def test_a_connection_whose_client_does_not_read_is_closed_when_the_server_ends(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.web.server.serve._DRAIN_SECONDS", 0.1)
    monkeypatch.setattr("tagferry.web.server.serve._CANCEL_SECONDS", 0.5)
    lost: list[BoundedProtocol] = []
    connection_lost = BoundedProtocol.connection_lost

    def record(self: BoundedProtocol, error: Exception | None) -> None:
        lost.append(self)
        connection_lost(self, error)

    monkeypatch.setattr(BoundedProtocol, "connection_lost", record)
    app = Application()
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(fronted(app))
        async with connected(url, buffer=4096) as client:
            await client.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: app.sent > 0)
            await stack.aclose()

            assert len(lost) == 1


class Streaming(Application):
    """Marks its responses as streams of changes."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["is_stream"] = True
        await super().__call__(scope, receive, send)


async def test_the_end_of_the_server_does_not_wait_for_the_reader_of_a_stream(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.web.server.serve._STREAMS_SECONDS", 0.1)
    monkeypatch.setattr("tagferry.web.server.serve._DRAIN_SECONDS", 1000)
    app = Streaming()
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(fronted(app))
        async with connected(url, buffer=4096) as client:
            await client.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: app.sent > 0)
            async with asyncio.timeout(60):
                await stack.aclose()
            await until(lambda: app.left == 1)


async def test_a_connection_that_has_not_completed_its_handshake_is_closed_when_the_server_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.web.server.serve._DRAIN_SECONDS", 60)
    app, authority = Application(), Authority()
    certificate = authority.issue(tmp_path / "pair.pem", "127.0.0.1")
    tls = ssl.create_default_context(cafile=authority.write(tmp_path / "ca.pem"))
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(fronted(app, certificate=certificate, header_timeout_seconds=60))
        # Connections are accepted in the order in which they arrive.
        async with connected(url) as late, connected(url, tls=tls) as client:
            await client.send(HELD)
            await until(lambda: bool(app.scopes))
            ending = asyncio.create_task(stack.pop_all().aclose())

            async with asyncio.timeout(20):
                assert await late.rest() == b""
            app.released.set()
            assert (await client.answer()).status == 200
        await ending


async def test_a_connection_whose_check_fails_does_not_keep_the_others_from_being_checked(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("tagferry.web.server.serve._TICK_SECONDS", 0.01)
    checked: set[BoundedProtocol] = set()

    def check(self: BoundedProtocol, _now: float) -> None:
        checked.add(self)
        if len(checked) == 1:
            raise RuntimeError("broken")

    async with fronted(Application()) as url, connected(url) as broken:
        monkeypatch.setattr(BoundedProtocol, "check", check)
        with capture_logs() as logs:
            await until(lambda: len(checked) == 1)
            assert await broken.rest() == b""
            async with connected(url):
                await until(lambda: len(checked) == 2)

    assert "closed a connection: its check failed" in [line["event"] for line in logs]


async def test_the_date_of_responses_moves_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.web.server.serve._TICK_SECONDS", 0.01)
    async with fronted(Application()) as url, connected(url) as client:
        dates: set[datetime] = set()
        async with asyncio.timeout(60):
            while len(dates) < 2:
                await client.send(GET)
                dates.add(parsedate_to_datetime((await client.answer()).headers["date"]))
