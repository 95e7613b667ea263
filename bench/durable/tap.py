"""A TCP forwarder in the client's own process, so that one clock measures the request and what follows it."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_PIECE = 64 * 1024
_BLOB = re.compile(rb"^GET /v2/\S+/blobs/sha256:")


class Tap:
    """Forwards connections to a registry, and records the times of requests.

    Attributes:
        first: the time of the first request since the last `forget`, by `time.perf_counter`; None before.
        first_blob: the same of the first one for a blob's content.
        sent: bytes that the clients have sent.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._passing: set[asyncio.Task[None]] = set()
        self.first: float | None = None
        self.first_blob: float | None = None
        self.sent = 0
        self._mark = 0
        self._reached = asyncio.Event()

    def forget(self) -> None:
        """Reset `first` and `first_blob`."""
        self.first = self.first_blob = None

    @asynccontextmanager
    async def listening(self, address: str) -> AsyncIterator[None]:
        """Accept connections at HOST:PORT in the context."""
        host, _, port = address.partition(":")
        server = await asyncio.start_server(self._accept, host, int(port))
        try:
            yield
        finally:
            server.close()
            for task in self._passing:
                task.cancel()
            await asyncio.gather(*self._passing, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._pass(reader, writer))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._target.partition(":")
        with contextlib.closing(writer), contextlib.suppress(OSError):
            upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))
            with contextlib.closing(upstream_writer):
                back = asyncio.create_task(_pump(upstream_reader, writer))
                try:
                    # A request is smaller than a piece, and a client sends none before the last response.
                    while piece := await reader.read(_PIECE):
                        self._note(piece)
                        self._count(piece)
                        upstream_writer.write(piece)
                        await upstream_writer.drain()
                finally:
                    back.cancel()
                    await asyncio.wait([back])

    async def until(self, size: int) -> None:
        """Wait until the clients have sent this many bytes."""
        self._mark = size
        self._reached.clear()
        if self.sent < size:
            await self._reached.wait()

    def _count(self, piece: bytes) -> None:
        self.sent += len(piece)
        if self.sent >= self._mark:
            self._reached.set()

    def _note(self, piece: bytes) -> None:
        now = time.perf_counter()
        self.first = self.first or now
        if self.first_blob is None and _BLOB.match(piece):
            self.first_blob = now


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
    writer.close()
