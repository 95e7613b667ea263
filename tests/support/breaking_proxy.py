"""A forwarder to a server that breaks connections and counts bytes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_PIECE = 64 * 1024


@dataclass
class BreakingProxy:
    """Forwards connections.

    Attributes:
        url: the address to use instead of the server's.
        sent: bytes sent to the server.
        received: bytes received from it.
        breaks: number of broken connections.
        is_open: once cleared, nothing is forwarded any more, and no peer is notified.
    """

    url: str = ""
    sent: int = 0
    received: int = 0
    breaks: int = 0
    is_open: asyncio.Event = field(default_factory=asyncio.Event)
    send_breaks: Iterator[int] = field(default_factory=lambda: iter(()))
    receive_breaks: Iterator[int] = field(default_factory=lambda: iter(()))

    def break_sending(self, *at: int) -> None:
        """Break the connection that carries the sent byte with this number, for each number."""
        self.send_breaks = iter(sorted(at))
        self._next_send = next(self.send_breaks, None)

    def break_receiving(self, *at: int) -> None:
        """Break the connection that carries the received byte with this number, for each number."""
        self.receive_breaks = iter(sorted(at))
        self._next_receive = next(self.receive_breaks, None)

    _next_send: int | None = None
    _next_receive: int | None = None

    def must_break_sending(self, size: int) -> bool:
        self.sent += size
        if self._next_send is None or self.sent < self._next_send:
            return False
        self._next_send = next(self.send_breaks, None)
        self.breaks += 1
        return True

    def must_break_receiving(self, size: int) -> bool:
        self.received += size
        if self._next_receive is None or self.received < self._next_receive:
            return False
        self._next_receive = next(self.receive_breaks, None)
        self.breaks += 1
        return True


@asynccontextmanager
async def breaking_proxy(url: str) -> AsyncIterator[BreakingProxy]:
    """Listen on a free port of loopback, and forward to the server at this URL."""
    target = urlsplit(url)
    proxy = BreakingProxy()
    proxy.is_open.set()

    async def forward(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, outward: bool, ends: list[asyncio.StreamWriter]
    ) -> None:
        must_break = proxy.must_break_sending if outward else proxy.must_break_receiving
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE):
                await proxy.is_open.wait()
                if must_break(len(data)):
                    for end in ends:
                        end.transport.abort()
                    return
                writer.write(data)
                await writer.drain()
            writer.close()

    connections: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.current_task())  # type: ignore[arg-type]
        ends = [writer]
        try:
            there_reader, there_writer = await asyncio.open_connection(target.hostname, target.port)
            ends.append(there_writer)
            await asyncio.gather(
                forward(reader, there_writer, outward=True, ends=ends),
                forward(there_reader, writer, outward=False, ends=ends),
            )
        except asyncio.CancelledError:
            return
        finally:
            for end in ends:
                end.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.url = "http://{}:{}".format(*server.sockets[0].getsockname())
    try:
        yield proxy
    finally:
        server.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        # An aborted transport closes its socket in the next iteration of the loop.
        await asyncio.sleep(0)
