"""Serve several ASGI applications, each on its own address, in one event loop."""

import asyncio
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from tagferry.errors import Unavailable
from tagferry.settings import LimitSettings
from tagferry.tls import server_context
from tagferry.web.server.accepting import Acceptor
from tagferry.web.server.connections import Connections, Slot, affordable_connections, raise_descriptor_limit
from tagferry.web.server.header_case import HeaderCase
from tagferry.web.server.http_protocol import BoundedProtocol
from tagferry.web.server.proxies import trust
from tagferry.web.server.refusals import NOSNIFF

_DRAIN_SECONDS = 10
_TICK_SECONDS = 1.0
_BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Listener:
    """An application and its listen address.

    Attributes:
        address: the address, as HOST:PORT.
    """

    app: ASGIApp
    address: str
    tls_certificate: Path | None = None
    tls_key: Path | None = None


class _Server(uvicorn.Server):
    """A uvicorn server without signal handlers, of which a process may run several, and without polling while idle.

    Args:
        listener: the application and its address.
        listening: the listening socket.
        number: the listener's number in the process.
        connections: the slots that the listeners share.
        limits: the limits.

    Attributes:
        leaving: set this event to stop the server.
    """

    def __init__(
        self, listener: Listener, listening: socket.socket, number: int, connections: Connections, limits: LimitSettings
    ) -> None:
        super().__init__(_config(listener))
        self.leaving = asyncio.Event()
        self._listening = listening
        self._number = number
        self._connections = connections
        self._limits = limits
        self._tls = _tls(listener)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        acceptor = Acceptor(
            self._listening,
            self._connections,
            self._number,
            self._protocol,
            tls=self._tls,
            handshake_seconds=self._limits.header_timeout_seconds,
        )
        self.servers = [acceptor]  # type: ignore[list-item]  # only their `close` is called
        self.started = True

    def _protocol(self, slot: Slot) -> BoundedProtocol:
        return BoundedProtocol(self.config, self.server_state, slot, self._limits)

    async def main_loop(self) -> None:
        # Tick 0 counts as every tenth tick, which renews the Date header.
        while not (await self.on_tick(0) or self.leaving.is_set()):
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await self.leaving.wait()
            self._check_connections()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        checking = asyncio.create_task(self._keep_checking())
        try:
            await super().shutdown(sockets)
        finally:
            checking.cancel()

    async def _keep_checking(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._check_connections()

    def _check_connections(self) -> None:
        now = asyncio.get_running_loop().time()
        for protocol in list(self.server_state.connections):
            assert isinstance(protocol, BoundedProtocol)  # noqa: S101
            protocol.check(now)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def listening(
    listeners: Sequence[Listener], limits: LimitSettings | None = None, *, proxies: Sequence[str] = ()
) -> AsyncIterator[None]:
    """Serve while the context is entered. On exit, requests in progress get ten seconds to finish.

    Args:
        listeners: the applications and their addresses.
        limits: the limits; by default those of the default settings.
        proxies: networks of proxies, which are exempt from the limit of connections per address.

    Raises:
        Unavailable: an address is in use or not local; then nothing is served.
        Invalid: a certificate or key is missing or invalid.
    """
    limits = limits or LimitSettings()
    most = affordable_connections(limits.connections, raise_descriptor_limit())
    per_address = min(limits.connections_per_address, max(most // 2, 1))
    connections = Connections(most, per_address, listeners=len(listeners), is_exempt=trust(proxies))
    bound: list[socket.socket] = []
    try:
        servers = []
        for number, listener in enumerate(listeners):
            bound.append(_bind(listener.address))
            servers.append(_Server(listener, bound[-1], number, connections, limits))
    except BaseException:
        for bound_socket in bound:
            bound_socket.close()
        raise
    tasks = [asyncio.create_task(server.serve()) for server in servers]
    try:
        yield
    finally:
        for server in servers:
            server.leaving.set()
        await asyncio.gather(*tasks)
        for bound_socket in bound:
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


def _config(listener: Listener) -> uvicorn.Config:
    config = uvicorn.Config(
        HeaderCase(listener.app),
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        headers=[(NOSNIFF[0].decode(), NOSNIFF[1].decode())],
        proxy_headers=False,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    config.load()
    return config


def _tls(listener: Listener) -> ssl.SSLContext | None:
    if listener.tls_certificate is None or listener.tls_key is None:
        return None
    return server_context(listener.tls_certificate, listener.tls_key)


def _bind(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, int(port)))
        # Clients can connect from now on; connections are accepted a moment later.
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise Unavailable(f"cannot listen on {address}: {error.strerror or error}") from None
    return bound
