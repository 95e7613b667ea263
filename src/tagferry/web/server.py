"""Serves ASGI applications on their addresses, several in one process and one event loop."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from tagferry.errors import Unavailable
from tagferry.tls import server_context
from tagferry.web.spelling import SpelledHeaders

_DRAIN_SECONDS = 10
_TICK_SECONDS = 1.0
_BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Listener:
    """An application and where it listens.

    Attributes:
        address: HOST:PORT.
    """

    app: ASGIApp
    address: str
    tls_certificate: Path | None = None
    tls_key: Path | None = None


class _Server(uvicorn.Server):
    """A server that leaves signals alone, since there may be several in the process, and sleeps while nothing comes in.

    Attributes:
        leaving: set to end it.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.leaving = asyncio.Event()

    async def main_loop(self) -> None:
        # Every tenth tick, of which this always is one, renews the Date header.
        while not (await self.on_tick(0) or self.leaving.is_set()):
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await self.leaving.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def listening(listeners: Sequence[Listener]) -> AsyncIterator[None]:
    """Serve while the context is open; requests under way are given ten seconds at the end.

    Raises:
        Unavailable: an address is in use or not this machine's; nothing is served then.
        Invalid: a certificate or key is missing or of no use.
    """
    bound: list[tuple[_Server, socket.socket]] = []
    try:
        bound.extend((_server(listener), _bind(listener.address)) for listener in listeners)
    except BaseException:
        for _, bound_socket in bound:
            bound_socket.close()
        raise
    tasks = [asyncio.create_task(server.serve(sockets=[bound_socket])) for server, bound_socket in bound]
    try:
        yield
    finally:
        for server, _ in bound:
            server.leaving.set()
        await asyncio.gather(*tasks)
        for _, bound_socket in bound:
            bound_socket.close()


async def until_signalled() -> None:
    """Wait for SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        await stop.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _server(listener: Listener) -> _Server:
    config = uvicorn.Config(
        SpelledHeaders(listener.app),
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    config.load()
    if listener.tls_certificate is not None and listener.tls_key is not None:
        config.ssl = server_context(listener.tls_certificate, listener.tls_key)
    return _Server(config)


def _bind(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, int(port)))
        # From here on clients can connect, although the first is accepted a moment later.
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise Unavailable(f"{address} cannot be listened on: {error.strerror or error}") from None
    return bound
