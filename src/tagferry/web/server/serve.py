"""Serve several ASGI applications, each on its own address, in one event loop."""

import asyncio
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from starlette.types import ASGIApp

from tagferry import open_files
from tagferry.settings import LimitSettings
from tagferry.tls import server_context
from tagferry.web.server.accepting import Acceptor
from tagferry.web.server.connections import Connections, affordable_connections
from tagferry.web.server.listener_protocols import ListenerProtocols
from tagferry.web.server.proxies import trust
from tagferry.web.server.sockets import bind, listen

log = structlog.get_logger(__name__)

_STREAMS_SECONDS = 1.0
"""Time for streams of changes to end, before their connections are aborted: their clients open them again."""
_DRAIN_SECONDS = 9.0
"""Time after that for the requests in progress."""
_DRAIN_POLL_SECONDS = 0.05
_CANCEL_SECONDS = 1.0
"""Time for cancelled requests to clean up, before their connections are aborted."""
_TICK_SECONDS = 1.0


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


class _Server:
    """Serves the connections of one listener.

    Args:
        listener: the application and its address.
        listening: the listening socket.
        number: the listener's number in the process.
        connections: the slots that the listeners share.
        limits: the limits.
    """

    def __init__(
        self, listener: Listener, listening: socket.socket, number: int, connections: Connections, limits: LimitSettings
    ) -> None:
        self._listener = listener
        self._listening = listening
        self._number = number
        self._connections = connections
        self._handshake_seconds = limits.header_timeout_seconds
        self._tls = _tls(listener)
        self._protocols = ListenerProtocols(listener.app, limits)

    def start(self) -> None:
        """Accept connections from now on."""
        self._acceptor = Acceptor(
            self._listening,
            self._connections,
            self._number,
            self._protocols.new,
            tls=self._tls,
            handshake_seconds=self._handshake_seconds,
        )
        self._ticking = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            self._protocols.tick()
            await asyncio.sleep(_TICK_SECONDS)

    @property
    def listener(self) -> Listener:
        """The application and its address."""
        return self._listener

    def renew(self, listener: Listener, tls: ssl.SSLContext | None, limits: LimitSettings) -> None:
        """Use the certificates of a listener, in this TLS context, and these limits for new connections."""
        self._listener = listener
        self._acceptor.tls = self._tls = tls
        self._acceptor.handshake_seconds = limits.header_timeout_seconds
        self._protocols.limits = limits

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The TLS context; None without TLS."""
        return self._tls

    async def stop(self) -> None:
        """Stop accepting, give requests in progress time to finish, and close all connections."""
        self._acceptor.close()
        try:
            # First, since a connection whose handshake completes later would be served like any other.
            await self._acceptor.wait_closed()
            self._protocols.finish()
            if not await self._is_idle_within(_STREAMS_SECONDS):
                self._protocols.abort_streams()
            if not await self._is_idle_within(_DRAIN_SECONDS):
                cancelled = self._protocols.cancel()
                log.warning("cancelled requests at the end", address=self._listener.address, requests=cancelled)
                await self._is_idle_within(_CANCEL_SECONDS)
                self._protocols.abort()
                await self._is_idle_within(_CANCEL_SECONDS)
        finally:
            self._ticking.cancel()

    async def _is_idle_within(self, seconds: float) -> bool:
        """Wait until no connection is open and no request is being answered; return False if that takes longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._protocols.is_idle:  # noqa: ASYNC110  # uvicorn keeps both in plain sets
                    await asyncio.sleep(_DRAIN_POLL_SECONDS)
        return self._protocols.is_idle


class Listening:
    """The listeners of this process, at work. A reload changes their certificates and limits for new connections."""

    def __init__(self, servers: Sequence[_Server], connections: Connections) -> None:
        self._servers = servers
        self._connections = connections

    def prepare(
        self, listeners: Sequence[Listener], limits: LimitSettings, proxies: Sequence[str]
    ) -> Callable[[], None]:
        """Read the certificates of listeners that have others; return a function that applies all changes.

        Args:
            listeners: the listeners to change, by their addresses; the others keep their certificates.
            limits: as for `listening`.
            proxies: as for `listening`.

        Raises:
            Invalid: a certificate or key is missing or invalid; nothing has changed.
        """
        wanted = {listener.address: listener for listener in listeners}
        renewed = []
        for server in self._servers:
            old, new = server.listener, wanted.get(server.listener.address, server.listener)
            is_same = (old.tls_certificate, old.tls_key) == (new.tls_certificate, new.tls_key)
            renewed.append((server, new, server.tls if is_same else _tls(new)))

        def apply() -> None:
            self._connections.set_limits(*_connection_limits(limits), trust(proxies))
            for server, listener, context in renewed:
                server.renew(listener, context, limits)

        return apply


@asynccontextmanager
async def listening(
    listeners: Sequence[Listener],
    limits: LimitSettings | None = None,
    *,
    proxies: Sequence[str] = (),
    sockets: Sequence[socket.socket] | None = None,
) -> AsyncIterator[Listening]:
    """Serve while the context is entered. On exit, requests get ten seconds to finish, and one more to clean up.

    Args:
        listeners: the applications and their addresses.
        limits: the limits; by default those of the default settings.
        proxies: networks of proxies, which are exempt from the limit of connections per address.
        sockets: the sockets that the listeners' addresses were bound to; by default, they are bound now.

    Raises:
        AddressUnusable: an address is in use or not of this machine; then nothing is served.
        Invalid: a certificate or key is missing or invalid.
    """
    limits = limits or LimitSettings()
    most, per_address = _connection_limits(limits)
    connections = Connections(most, per_address, listeners=len(listeners), is_exempt=trust(proxies))
    bound: list[socket.socket] = list(sockets or ())
    try:
        servers = []
        for number, listener in enumerate(listeners):
            if sockets is None:
                bound.append(bind(listener.address))
            listen(bound[number], listener.address)
            servers.append(_Server(listener, bound[number], number, connections, limits))
    except BaseException:
        for bound_socket in bound:
            bound_socket.close()
        raise
    for server in servers:
        server.start()
    try:
        yield Listening(servers, connections)
    finally:
        await asyncio.gather(*(server.stop() for server in servers))
        for bound_socket in bound:
            bound_socket.close()


async def until_signalled(is_waiting: Callable[[], None] = lambda: None) -> None:
    """Wait for SIGINT or SIGTERM.

    Args:
        is_waiting: called as soon as a signal ends the wait, and no longer the process.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        is_waiting()
        await stop.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _connection_limits(limits: LimitSettings) -> tuple[int, int]:
    """Return the number of connections that the process can afford, and that of one address."""
    most = affordable_connections(limits.connections, open_files.raise_limit())
    return most, min(limits.connections_per_address, max(most // 2, 1))


def _tls(listener: Listener) -> ssl.SSLContext | None:
    if listener.tls_certificate is None or listener.tls_key is None:
        return None
    return server_context(listener.tls_certificate, listener.tls_key)
