"""A browser that opens a stream of changes and never reads it delays no other user, and does not hold the server."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tagferry.sync.jobs.model import SyncJob
from tagferry.web.console.pages import events
from tests.support.browser import Browser
from tests.support.deployment import NORTH, Deployment, deployed, eventually
from tests.support.raw_client import RawClient, connected

LARGE = 16 * 1024 * 1024
"""Characters of a message that the buffers of no system take."""


@pytest.fixture(autouse=True)
def _large_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    async def changed_parts(_: events._Stream, __: Sequence[SyncJob]) -> str:
        return "x" * LARGE

    monkeypatch.setattr(events._Stream, "_changed_parts", changed_parts)


async def signed_in(ferry: Deployment) -> Browser:
    browser = Browser(ferry.urls[NORTH])
    await browser.sign_in(ferry.admin.name, ferry.admin.password)
    return browser


async def open_stream(client: RawClient, browser: Browser) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    head = f"GET /console/events?after=0 HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\nAccept: text/event-stream\r\n\r\n"
    await client.send(head.encode())
    await client.answer_begins()


def number_of_streams() -> int:
    return events._streams._of_user.total()


async def test_a_stream_that_nobody_reads_ends_and_others_are_served_meanwhile(tmp_path: Path):
    async with deployed(tmp_path, limits={"stall_timeout_seconds": 1.0}) as ferry:
        browser = await signed_in(ferry)
        async with connected(ferry.urls[NORTH], buffer=4096) as client:
            await open_stream(client, browser)
            assert (await browser.get("/console/jobs")).status == 200

            async def has_ended() -> bool:
                return number_of_streams() == 0

            assert await eventually(has_ended, seconds=60)


async def test_the_server_ends_without_waiting_for_the_readers_of_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.web.server.serve._DRAIN_SECONDS", 1000)
    async with AsyncExitStack() as stack:
        ferry = await stack.enter_async_context(deployed(tmp_path))
        browser = await signed_in(ferry)
        async with connected(ferry.urls[NORTH], buffer=4096) as client:
            await open_stream(client, browser)
            await ferry.app.services.console.live.close()
            async with asyncio.timeout(120):
                await stack.aclose()

    assert number_of_streams() == 0
