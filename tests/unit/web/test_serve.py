"""The end of a server: requests in progress are answered, and what takes too long is cancelled."""

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime
from email.utils import parsedate_to_datetime

import pytest
from structlog.testing import capture_logs

from tagferry.web.server.http_protocol import BoundedProtocol
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
