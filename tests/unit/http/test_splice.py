"""Splicing from one connection to another, on both event loops."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tagferry.http.connection import Stream
from tagferry.http.faults import ConnectionFailed, ConnectionTimedOut
from tagferry.http.pool import ConnectionPool
from tagferry.http.response import READ_AHEAD, Response
from tagferry.streams import Flow
from tests.support.raw_server import Handler, listening

MIB = 1024 * 1024
CONTENT = random.Random(3).randbytes(8 * MIB + 12_345)
CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test's scenario in an event loop of each kind."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run_in_loop(scenario: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            # The first loop of a process keeps some descriptors for later ones.
            runner.run(asyncio.sleep(0))
        before = _open_files()
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(scenario)
        assert _open_files() == before

    return run_in_loop


@asynccontextmanager
async def connections() -> AsyncIterator[ConnectionPool]:
    http = ConnectionPool(headers={"User-Agent": "t"}, connect_timeout=5.0)
    try:
        yield http
    finally:
        await http.close()


def giving(
    content: bytes = CONTENT, *, announced: int | None = None, then: float = 0.0, seen: list[int] | None = None
) -> Handler:
    """Send content of this announced length to each request, wait, and close after the second one."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if seen is not None:
            seen.append(1)
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (announced or len(content)))
            writer.write(content)
            await writer.drain()
            if announced is not None:
                await asyncio.sleep(then)
                return

    return handle


def taking(taken: bytearray, *, after: int | None = None, answer: bytes = CREATED) -> Handler:
    """Read the body, or this many bytes of it, and respond."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        while len(taken) < (len(CONTENT) if after is None else after):
            data = await reader.read(64 * 1024)
            if not data:
                return
            taken.extend(data)
        writer.write(answer)
        if after is None:
            return
        # Unread data would turn the close into a reset, which may discard the response.
        while answer and await reader.read(MIB):
            pass
        if not answer:
            writer.transport.abort()

    return handle


@dataclass
class Passed:
    """Counts the bytes of a body that were spliced and those that were copied."""

    chunks: int = 0
    flows: int = 0

    async def pieces(self, source: Response) -> AsyncIterator[bytes | Flow]:
        async for piece in source.pieces():
            if isinstance(piece, bytes):
                self.chunks += len(piece)
            else:
                piece.watch(self._count)
            yield piece

    def _count(self, size: int) -> None:
        self.flows += size


async def put(
    http: ConnectionPool,
    target: str,
    source: Response,
    *,
    size: int = len(CONTENT),
    idle_timeout: float = 5.0,
    passed: Passed | None = None,
) -> Response:
    body = Stream((passed or Passed()).pieces(source), size, idle_timeout=idle_timeout)
    return await http.send("PUT", target, {}, body, idle_timeout=5.0)


def test_a_body_is_spliced_and_both_connections_are_reused(run: Run):
    seen: list[int] = []
    taken = bytearray()
    passed = Passed()

    async def scenario() -> None:
        async with listening(giving(seen=seen)) as source_url, listening(taking(taken)) as url, connections() as http:
            source = await http.send("GET", source_url, {}, idle_timeout=5.0)
            response = await put(http, url, source, passed=passed)
            source.close()
            response.close()
            again = await http.send("GET", source_url, {}, idle_timeout=5.0)
            assert b"".join([chunk async for chunk in again.chunks()]) == CONTENT
            again.close()
        assert response.status == 201

    run(scenario())
    assert bytes(taken) == CONTENT
    assert passed.chunks + passed.flows == len(CONTENT)
    assert passed.chunks <= 2 * READ_AHEAD
    assert len(seen) == 1


def test_an_unread_flow_comes_in_chunks(run: Run):
    async def scenario() -> None:
        async with listening(giving()) as source_url, connections() as http:
            source = await http.send("GET", source_url, {}, idle_timeout=5.0)
            pieces = [piece async for piece in source.pieces()]
            source.close()
        chunks = [piece for piece in pieces if isinstance(piece, bytes)]
        assert len(chunks) == len(pieces) - 1
        assert b"".join(chunks) == CONTENT

    run(scenario())


@pytest.mark.parametrize(
    ("seconds", "fault"), [(0.0, ConnectionFailed), (20.0, ConnectionTimedOut)], ids=["ends", "stalls"]
)
def test_a_source_failure_is_raised_after_its_bytes(run: Run, seconds: float, fault: type[ConnectionFailed]):
    passed = Passed()
    announced = len(CONTENT) + MIB

    async def scenario() -> None:
        short = giving(announced=announced, then=seconds)
        sink = taking(bytearray(), after=announced)
        async with listening(short) as source_url, listening(sink) as url, connections() as http:
            source = await http.send("GET", source_url, {}, idle_timeout=0.3)
            with pytest.raises(fault) as raised:
                await put(http, url, source, size=announced, passed=passed)
            source.close()
        assert type(raised.value) is fault

    run(scenario())
    assert passed.chunks + passed.flows == len(CONTENT)


def test_an_answer_in_the_middle_ends_the_sending(run: Run):
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"

    async def scenario() -> None:
        large = giving(announced=2**40, then=20.0)
        early = taking(bytearray(), after=MIB, answer=refusal)
        async with listening(large) as source_url, listening(early) as url, connections() as http:
            source = await http.send("GET", source_url, {}, idle_timeout=30.0)
            async with asyncio.timeout(15):
                response = await put(http, url, source, size=2**40)
            response.close()
            source.close()
        assert response.status == 413

    run(scenario())


def test_a_broken_target_fails_at_once(run: Run):
    async def scenario() -> None:
        large = giving(announced=2**40, then=20.0)
        breaking = taking(bytearray(), after=MIB, answer=b"")
        async with listening(large) as source_url, listening(breaking) as url, connections() as http:
            source = await http.send("GET", source_url, {}, idle_timeout=30.0)
            async with asyncio.timeout(15):
                with pytest.raises(ConnectionFailed):
                    await put(http, url, source, size=2**40)
            source.close()

    run(scenario())


def test_a_stalled_target_pauses_the_source_and_fails(run: Run):
    given = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal given
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 2**40)
        while True:
            writer.write(bytes(MIB))
            await writer.drain()
            given += MIB

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(20)

    async def scenario() -> None:
        async with listening(endless) as source_url, listening(deaf) as url, connections() as http:
            source = await http.send("GET", source_url, {}, idle_timeout=30.0)
            with pytest.raises(ConnectionTimedOut):
                await put(http, url, source, size=2**40, idle_timeout=0.5)
            source.close()

    run(scenario())
    assert given < 256 * MIB


def test_a_cancelled_send_releases_everything_at_once(run: Run):
    async def scenario() -> None:
        flowing = asyncio.Event()

        async def pieces(source: Response) -> AsyncIterator[bytes | Flow]:
            async for piece in source.pieces():
                if not isinstance(piece, bytes):
                    piece.watch(lambda _size: flowing.set())
                yield piece

        stalling = giving(announced=2**40, then=20.0)
        sink = taking(bytearray(), after=2**40)
        async with listening(stalling) as source_url, listening(sink) as url, connections() as http:
            source = await http.send("GET", source_url, {}, idle_timeout=30.0)
            body = Stream(pieces(source), 2**40, idle_timeout=5.0)
            sending = asyncio.create_task(http.send("PUT", url, {}, body, idle_timeout=5.0))
            async with asyncio.timeout(15):
                await flowing.wait()
            sending.cancel()
            async with asyncio.timeout(15):
                with pytest.raises(asyncio.CancelledError):
                    await sending
            source.close()

    run(scenario())


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
