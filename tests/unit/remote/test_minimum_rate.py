"""A slow body fails in either direction, spliced or not; pauses on tagferry's side do not count."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from tagferry.errors import Unavailable
from tagferry.http.connection import Stream
from tagferry.http.faults import ConnectionFailed, ConnectionTimedOut, TransferTooSlow
from tagferry.http.minimum_rate import MinimumRate
from tagferry.http.pool import ConnectionPool
from tagferry.names import RepositoryName
from tests.support.images import blob, opening, read
from tests.support.raw_server import Handler, listening
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry
from tests.unit.remote.conftest import IMPATIENCE, Opening

APP = RepositoryName("team/app")
CONTENT = bytes(range(256)) * 1024
UPLOADS = "/v2/team/app/blobs/uploads/"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
WINDOW, STEP = 0.2, 0.01


def test_what_is_waited_for_is_measured_over_windows():
    rate = MinimumRate(100, window=10.0)
    rate.record(1000)
    assert not rate.record_wait(10.0)
    rate.record(999)
    assert not rate.record_wait(9.9)
    assert rate.record_wait(0.1)


def test_time_in_which_nothing_is_waited_for_does_not_count():
    rate = MinimumRate(100, window=10.0)
    assert not any(rate.record_wait(0.0) for _ in range(1000))


def test_without_a_rate_nothing_is_too_slow():
    assert not MinimumRate(0, window=1.0).record_wait(100.0)


def trickling(content: bytes = CONTENT, *, step: int = 1, asked: list[bytes] | None = None) -> Handler:
    """Send a few bytes at a time, from the beginning of the requested range."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if asked is not None:
            asked.append(head.split(b"\r\n")[0])
        begin = re.search(rb"Range: bytes=(\d+)-", head)
        start = int(begin[1]) if begin else 0
        if begin:
            content_range = b"bytes %d-%d/%d" % (start, len(content) - 1, len(content))
            writer.write(b"HTTP/1.1 206 Partial Content\r\nContent-Range: " + content_range + b"\r\n")
            writer.write(b"Content-Length: %d\r\n\r\n" % (len(content) - start))
        else:
            writer.write(HEAD % len(content))
        for place in range(start, len(content), step):
            writer.write(content[place : place + step])
            await writer.drain()
            await asyncio.sleep(STEP)

    return handle


async def test_a_trickling_blob_has_the_usual_number_of_attempts(opened: Opening):
    asked: list[bytes] = []
    async with listening(trickling(asked=asked)) as url:
        store = opened(url=url, attempts=3, read_timeout=IMPATIENCE, min_bytes_per_second=10_000)
        with pytest.raises(Unavailable, match=r"than 10000 bytes a second when asked to .* \(min_bytes_per_second"):
            await read(store, APP, blob(CONTENT))
    assert len(asked) == 3


async def test_a_blob_at_the_minimum_rate_arrives(opened: Opening):
    async with listening(trickling(CONTENT[:32768], step=256)) as url:
        store = opened(url=url, attempts=1, read_timeout=IMPATIENCE, min_bytes_per_second=1)
        assert await read(store, APP, blob(CONTENT[:32768])) == CONTENT[:32768]


async def test_the_rate_is_the_sources_own(script: ScriptedRegistry, opened: Opening):
    """A consumer that is slow, because of its own limit or its target's, does not make the transfer fail."""
    content = CONTENT * 16
    script.always("GET", "/v2/*", Reply(body=content))
    store = opened(attempts=1, read_timeout=IMPATIENCE, min_bytes_per_second=1_000_000_000)
    taken, pauses = b"", 0
    async with store.read_blob(APP, blob(content)) as chunks:
        async for chunk in chunks:
            taken += chunk
            pauses += 1
            await asyncio.sleep(IMPATIENCE / 8)
    assert taken == content
    assert pauses > 8, "they took longer than the registry may"


async def test_a_download_without_progress_fails(script: ScriptedRegistry, opened: Opening):
    """One byte per request would otherwise count as progress and never end."""

    def one_byte(asked: Asked) -> Reply:
        begin = int(asked.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        headers = {"Content-Range": f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}"} if begin else {}
        return Reply(status=206 if begin else 200, body=CONTENT[begin:], headers=headers, truncate_to=1)

    script.always("GET", "/v2/*", one_byte)
    with pytest.raises(Unavailable):
        await read(opened(attempts=4), APP, blob(CONTENT))
    assert len(script.asked) == 4


async def test_an_upload_with_little_progress_per_session_fails(script: ScriptedRegistry, opened: Opening):
    kept = 0

    def take_a_little(asked: Asked) -> Reply:
        nonlocal kept
        kept += 10
        return Reply(drop=True)

    script.always("POST", UPLOADS, Reply(status=202, headers={"Location": f"{UPLOADS}s"}))
    script.always("PUT", f"{UPLOADS}s", take_a_little)
    script.always("GET", f"{UPLOADS}s", lambda _: Reply(status=204, headers={"Range": f"0-{kept - 1}"}))
    script.always("DELETE", f"{UPLOADS}s", Reply(status=204))
    with pytest.raises(Unavailable):
        await opened(attempts=4).write_blob(APP, blob(CONTENT), opening(CONTENT))
    assert script.lines().count(f"PUT {UPLOADS}s") == 4


@pytest.fixture
async def http() -> AsyncIterator[ConnectionPool]:
    connections = ConnectionPool(headers={}, connect_timeout=5.0)
    yield connections
    await connections.close()


async def content(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // len(CONTENT)):
        yield CONTENT


@pytest.mark.parametrize("reads", [0, 1], ids=["reads nothing", "reads a byte at a time"])
async def test_a_target_that_accepts_too_few_bytes_fails(http: ConnectionPool, reads: int):
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        while True:
            # An interim response shows that the server is alive, and must not extend the timeout.
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await asyncio.sleep(STEP)
            if reads:
                await reader.read(1)

    async with listening(handle) as url:
        body = Stream(content(64 * len(CONTENT)), 64 * len(CONTENT), idle_timeout=WINDOW)
        with pytest.raises(ConnectionTimedOut):
            await http.send("PUT", url, {}, body, idle_timeout=30.0)


async def test_interim_answers_without_end_are_no_answer(http: ConnectionPool):
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await asyncio.sleep(STEP)

    async with listening(handle) as url:
        with pytest.raises(ConnectionFailed):
            await http.send("GET", url, {}, idle_timeout=WINDOW)


@pytest.mark.parametrize("slow", ["source", "target"])
async def test_a_slow_splice_fails_too(http: ConnectionPool, slow: str):
    size = 64 * len(CONTENT)

    async def source(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD % size)
        while True:
            writer.write(b"x" if slow == "source" else CONTENT)
            await writer.drain()
            await asyncio.sleep(STEP)

    async def target(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            if not await reader.read(1 if slow == "target" else 1 << 20):
                return
            await asyncio.sleep(STEP if slow == "target" else 0)

    async with listening(source) as from_url, listening(target) as to_url:
        response = await http.send("GET", from_url, {}, idle_timeout=WINDOW, min_rate=100_000.0)
        body = Stream(response.pieces(), size, idle_timeout=WINDOW, min_rate=100_000.0)
        with pytest.raises(ConnectionFailed) as failure:
            await http.send("PUT", to_url, {}, body, idle_timeout=5.0)
        response.close()
    assert isinstance(failure.value, TransferTooSlow if slow == "source" else TransferTooSlow | ConnectionTimedOut)
