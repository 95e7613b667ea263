"""A load balancer without sticky sessions: each connection goes to the next server, and past servers that are down."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

_PIECE = 64 * 1024


@dataclass
class Balancer:
    """Forwards connections, not requests: clients that reuse connections stay at a server.

    Attributes:
        address: the host and the port.
        servers: the addresses of the servers.
        used: the server of each connection, in the order of arrival.
    """

    address: str
    servers: Sequence[str]
    used: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"http://{self.address}"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the server whose turn it is, or to the next one that answers."""
        start = next(self._turn)
        for offset in range(len(self.servers)):
            server = self.servers[(start + offset) % len(self.servers)]
            host, _, port = server.partition(":")
            with contextlib.suppress(OSError):
                connection = await asyncio.open_connection(host, int(port))
                self.used.append(server)
                return connection
        raise ConnectionRefusedError("no server answers")

    _turn: count = field(default_factory=count)  # type: ignore[type-arg]


@asynccontextmanager
async def balancing(address: str, servers: Sequence[str]) -> AsyncIterator[Balancer]:
    """Listen on an address, and forward to these servers in turn."""
    balancer = Balancer(address, servers)
    connections: set[asyncio.Task[None]] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.current_task())  # type: ignore[arg-type]
        ends = [writer]
        try:
            there_reader, there_writer = await balancer.connect()
            ends.append(there_writer)
            await asyncio.gather(forward(reader, there_writer), forward(there_reader, writer))
        except (OSError, asyncio.CancelledError):
            return
        finally:
            for end in ends:
                end.transport.abort()

    host, _, port = address.partition(":")
    server = await asyncio.start_server(accept, host, int(port))
    try:
        yield balancer
    finally:
        server.close()
        for connection in connections:
            connection.cancel()
