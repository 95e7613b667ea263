"""A long link on loopback: a TCP forwarder with a round trip time and a rate, in its own process.

Each direction of the link has a rate, shared by all connections in order of arrival, and takes half the round trip. A
connection costs one round trip before its first bytes are sent, as TCP's handshake does. TCP's slow start and loss are
not modelled: every connection has the whole rate at once, unless it has its own limit.

    python -m bench.link LISTEN TARGET --rtt 0.1 --rate 25000000
"""

import argparse
import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import uvloop

from bench.registries import free_address
from tests.support.processes import stop, tied, wait_until_it_listens

_PIECE = 32 * 1024
_AHEAD = 0.02
"""Seconds by which bytes may be accepted early, so that a late timer costs the link no capacity."""
_UNDER_WAY = 16 * 1024 * 1024
"""Bytes in flight of one connection and direction; far more than rate and round trip need."""


@dataclass(frozen=True)
class Link:
    """The link between a client and a registry.

    Attributes:
        rtt: seconds of a round trip.
        rate: bytes a second in each direction, of all connections together.
        connection_rate: bytes a second of one connection, if a single one does not reach the whole rate.
    """

    rtt: float
    rate: float
    connection_rate: float | None = None


class Pace:
    """Shares a rate: returns when the last of the taken bytes has passed."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = 0.0

    def take(self, size: int, now: float) -> float:
        """Take the next turn; returns the time at which it ends."""
        self._free_at = max(self._free_at, now) + size / self._rate
        return self._free_at


class Forwarder:
    """Forwards connections to a target through a link."""

    def __init__(self, link: Link, target: tuple[str, int]) -> None:
        self._link = link
        self._target = target
        self._paces = (Pace(link.rate), Pace(link.rate))
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, address: tuple[str, int]) -> None:
        """Accept connections forever."""
        loop = asyncio.get_running_loop()
        with socket.create_server(address, backlog=512) as server:
            server.setblocking(False)
            while True:
                client, _ = await loop.sock_accept(server)
                task = asyncio.create_task(self._forward(client))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _forward(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        established = loop.time() + self._link.rtt
        with client, socket.socket() as upstream, contextlib.suppress(OSError):
            for side in (client, upstream):
                side.setblocking(False)
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(upstream, self._target)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(client, upstream, self._paces[0], established))
                group.create_task(self._pump(upstream, client, self._paces[1], established))

    async def _pump(self, origin: socket.socket, goal: socket.socket, shared: Pace, established: float) -> None:
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDER_WAY // _PIECE)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take_in(origin, pieces, shared, established))
            group.create_task(_give_out(goal, pieces))

    async def _take_in(
        self, origin: socket.socket, pieces: asyncio.Queue[tuple[float, bytes]], shared: Pace, established: float
    ) -> None:
        loop = asyncio.get_running_loop()
        own = Pace(self._link.connection_rate) if self._link.connection_rate else None
        while True:
            piece = await _read(origin)
            through = shared.take(len(piece), loop.time())
            if own is not None:
                through = max(through, own.take(len(piece), loop.time()))
            await pieces.put((max(through, established) + self._link.rtt / 2, piece))
            if not piece:
                return
            await asyncio.sleep(through - loop.time() - _AHEAD)


async def _give_out(goal: socket.socket, pieces: asyncio.Queue[tuple[float, bytes]]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due, piece = await pieces.get()
        if (early := due - loop.time()) > 0:
            await asyncio.sleep(early)
        if not piece:
            with contextlib.suppress(OSError):
                goal.shutdown(socket.SHUT_WR)
            return
        try:
            await loop.sock_sendall(goal, piece)
        except OSError:
            # The other side has closed: read and drop the rest.
            while (await pieces.get())[1]:
                pass
            return


async def _read(origin: socket.socket) -> bytes:
    try:
        return await asyncio.get_running_loop().sock_recv(origin, _PIECE)
    except OSError:
        return b""


@contextmanager
def linked(link: Link | None, target: str) -> Iterator[str]:
    """Yield the address of a target through the link; the target's own without a link."""
    if link is None:
        yield target
        return
    address = free_address()
    command = [sys.executable, "-m", "bench.link", address, target, "--rtt", str(link.rtt), "--rate", str(link.rate)]
    if link.connection_rate is not None:
        command += ["--connection-rate", str(link.connection_rate)]
    process = subprocess.Popen(tied(command))
    try:
        wait_until_it_listens(process, address)
        yield address
    finally:
        stop(process)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.partition(":")
    return host, int(port)


def main(arguments: Sequence[str] | None = None) -> None:
    """Forward until terminated."""
    parser = argparse.ArgumentParser(description="A TCP forwarder with a round trip time and a rate.")
    parser.add_argument("listen", type=_address, help="HOST:PORT")
    parser.add_argument("target", type=_address, help="HOST:PORT")
    parser.add_argument("--rtt", type=float, required=True, help="seconds of a round trip")
    parser.add_argument("--rate", type=float, required=True, help="bytes a second in each direction")
    parser.add_argument("--connection-rate", type=float, help="bytes a second of one connection")
    options = parser.parse_args(arguments)
    forwarder = Forwarder(Link(options.rtt, options.rate, options.connection_rate), options.target)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(forwarder.listen(options.listen))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
