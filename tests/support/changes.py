"""The stream of changes of the console's pages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from tests.support.browser import Browser


@asynccontextmanager
async def streaming(browser: Browser, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
    """Open a stream with the session of a browser."""
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
        http.get(f"{browser.url}{path}", headers={"Cookie": cookie, "Accept": "text/event-stream"}) as answer,
    ):
        yield answer


async def until(answer: aiohttp.ClientResponse, text: str) -> str:
    """Read events until one has this text; returns it."""
    event = ""
    async with asyncio.timeout(60):
        async for line in answer.content:
            event = event + line.decode() if line.strip() else ""
            if text in event:
                return event
    raise AssertionError(f"the stream ended without {text!r}")
