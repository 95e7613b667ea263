"""Opens connections to a host, directly or through a proxy (RFC 9110, sections 7.3.2 and 9.3.6)."""

import asyncio
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from tagferry.addresses import parse_address
from tagferry.http.address_policy import ANY_ADDRESS, AddressForbidden, AddressPolicy, zone_of, zone_of_host
from tagferry.http.connection import Connection
from tagferry.http.early_sockets import EarlySockets
from tagferry.http.explanation import one_line
from tagferry.http.faults import EXPIRED, NOT_YET_VALID, ConnectionFailed, ConnectionRejected, connect_failure
from tagferry.http.proxies import Proxy
from tagferry.http.urls import Origin, authority
from tagferry.tls import ClientContexts, ClientTls

if TYPE_CHECKING:
    from aiohappyeyeballs import AddrInfoType

P = TypeVar("P", bound=asyncio.Protocol)
_HEAD_START_SECONDS = 0.25
"""Delay before the next address of a host is tried in parallel (RFC 8305)."""
_HEAD_LIMIT = 16 * 1024
"""Maximum size of a proxy's response to CONNECT."""
_SECOND_LOOK_SECONDS = 2.0
"""Timeout of the second connection, which reads the dates of a refused certificate."""
_STATUS = rb"HTTP/1\.[01] (\d{3})(?: ([^\r\n]*))?"
_FAULTS = (OSError, UnicodeError, RuntimeError, ExceptionGroup)


class Route(NamedTuple):
    """The route of requests; a connection serves one route.

    Attributes:
        origin: the destination.
        proxy: the proxy, if any.
        with_certificate: whether the client's certificate is presented.
        address_policy: the addresses to which connections may be made. The address that a proxy connects to is unknown
            here, so behind a proxy only a host that is itself an address is checked.
    """

    origin: Origin
    proxy: Proxy | None = None
    with_certificate: bool = False
    address_policy: AddressPolicy = ANY_ADDRESS

    @property
    def is_relayed(self) -> bool:
        """Return whether the proxy forwards the requests themselves, as it does without TLS."""
        return self.proxy is not None and self.origin[0] == "http"

    def __str__(self) -> str:
        through = f" through proxy {self.proxy}" if self.proxy is not None else ""
        return f"{self.origin[0]}://{authority(self.origin)}{through}"


async def dial(
    route: Route, make: Callable[[], Connection], contexts: ClientContexts, early: EarlySockets | None = None
) -> Connection:
    """Open a connection for a route.

    Args:
        route: the route.
        make: makes the connection's protocol.
        contexts: the TLS contexts.
        early: connections that have begun already.

    Raises:
        ConnectionFailed: the connection cannot be made; ConnectionRejected if waiting does not help.
        AddressForbidden: the address policy forbids the host's address.
        TimeoutError: the caller's deadline passed.
    """
    zone = zone_of_host(route.origin[1])
    if zone is not None and not route.address_policy.allows(zone):
        raise AddressForbidden(zone)
    if route.proxy is None:
        try:
            return (
                await _connect(
                    route.origin,
                    make,
                    contexts,
                    early,
                    with_certificate=route.with_certificate,
                    address_policy=route.address_policy,
                )
            )[1]
        except _FAULTS as error:
            raise connect_failure(str(route), error, await _validity_detail(route, error)) from error
    try:
        if route.is_relayed:
            return (await _connect(route.proxy.origin, make, contexts, early))[1]
        transport, tunnel = await _connect(route.proxy.origin, _Tunnel, contexts, early)
    except _FAULTS as error:
        message = await _validity_detail(Route(route.proxy.origin), error)
        raise connect_failure(f"proxy {route.proxy}", error, message) from error
    try:
        await tunnel.connect(route.proxy, route.origin)
        return await _start_tls(transport, make(), route, contexts)
    except _FAULTS as error:
        transport.abort()
        raise connect_failure(str(route), error, await _validity_detail(route, error)) from error
    except BaseException:
        transport.abort()
        raise


async def _connect(
    origin: Origin,
    make: Callable[[], P],
    contexts: ClientContexts,
    early: EarlySockets | None,
    *,
    with_certificate: bool = False,
    address_policy: AddressPolicy = ANY_ADDRESS,
) -> tuple[asyncio.Transport, P]:
    scheme, host, port = origin
    loop = asyncio.get_running_loop()
    tls = contexts.current(with_certificate=with_certificate) if scheme == "https" else None
    name = host if tls else None
    sock = None if early is None else _allowed(early.take(host, port), address_policy)
    if sock is None:
        has_begun = early is not None and early.has_begun(host, port)
        if not has_begun and parse_address(host) is not None:
            return await loop.create_connection(make, host, port, ssl=tls, server_hostname=name)
        known = None if early is None else early.addresses(host, port)
        addresses = allowed_addresses(address_policy, known or await _addresses(host, port))
        factory = None if early is None else partial(early.connecting, host, port)
        # Imported here: a host that is named by its address needs no race between several.
        from aiohappyeyeballs import start_connection

        sock = await start_connection(
            addresses, happy_eyeballs_delay=_HEAD_START_SECONDS, interleave=1, socket_factory=factory
        )
    return await loop.create_connection(make, sock=sock, ssl=tls, server_hostname=name)


async def _start_tls(
    transport: asyncio.Transport, connection: Connection, route: Route, contexts: ClientContexts
) -> Connection:
    """Start TLS in a tunnel."""
    inner = await asyncio.get_running_loop().start_tls(
        transport,
        connection,
        contexts.current(with_certificate=route.with_certificate),
        server_hostname=route.origin[1],
    )
    if inner is None:
        raise ConnectionFailed(f"cannot connect to {route}: the connection was closed")
    connection.connection_made(inner)
    return connection


async def _validity_detail(route: Route, error: BaseException) -> str:
    """Return the date for which a certificate was refused, or an empty string.

    The certificate is read over a second connection, on which nothing is sent.
    """
    if not isinstance(error, ssl.SSLCertVerificationError) or error.verify_code not in (NOT_YET_VALID, EXPIRED):
        return ""
    try:
        async with asyncio.timeout(_SECOND_LOOK_SECONDS):
            connection = await dial(
                route._replace(with_certificate=False),
                lambda: Connection(on_lost=lambda _: None, on_free=lambda _: None),
                ClientContexts(ClientTls(ca_only=True, skip_verify=True)),
            )
    except (ConnectionFailed, TimeoutError):
        return ""
    presented = connection.peer_certificate
    connection.abort()
    # Imported here because it is slow to load and rarely needed.
    from cryptography.x509 import load_der_x509_certificate

    try:
        certificate = load_der_x509_certificate(presented or b"")
    except ValueError:
        return ""
    now, begin, end = datetime.now(UTC), certificate.not_valid_before_utc, certificate.not_valid_after_utc
    # If the server's own certificate is valid now, an intermediate certificate is not.
    if error.verify_code == EXPIRED:
        return f"notAfter {end:%Y-%m-%d}" if end < now else ""
    return f"notBefore {begin:%Y-%m-%d}" if begin > now else ""


class _Tunnel(asyncio.Protocol):
    """A connection to a proxy until the tunnel is established."""

    def __init__(self) -> None:
        self._head = b""
        self._answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if (b"\r\n\r\n" in self._head or len(self._head) > _HEAD_LIMIT) and not self._answered.done():
            self._answered.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answered.done():
            self._answered.set_result(None)

    async def connect(self, proxy: Proxy, origin: Origin) -> None:
        """Establish a tunnel to an origin; raise ConnectionFailed with the proxy's response if it refuses."""
        target = authority(origin, with_port=True)
        secret = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
        self._transport.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{secret}\r\n".encode("latin-1"))
        await self._answered
        head, end, rest = self._head.partition(b"\r\n\r\n")
        status = re.match(_STATUS, head)
        if status is None or not end:
            raise ConnectionFailed(f"proxy {proxy} did not respond with HTTP when asked to connect to {target}")
        if not status[1].startswith(b"2"):
            raise proxy_refusal(proxy, target, int(status[1]), (status[2] or b"").decode("latin-1"))
        if rest:
            raise ConnectionFailed(f"proxy {proxy} sent unexpected data after its response to CONNECT")


def proxy_refusal(proxy: Proxy, target: str, status: int, phrase: str = "") -> ConnectionFailed:
    """Return the error of a proxy that refused a connection to `target`, a host and port."""
    message = f"proxy {proxy} refused the connection to {target}: {status} {one_line(phrase, 100)}".rstrip()
    # A failure of the host behind the proxy may be temporary; a refusal by the proxy's rules is not.
    return ConnectionRejected(message) if status in (401, 403, 405, 407) else ConnectionFailed(message)


def allowed_addresses(address_policy: AddressPolicy, addresses: "Sequence[AddrInfoType]") -> "list[AddrInfoType]":
    """Return the addresses that the policy allows; raise AddressForbidden if it allows none."""
    if address_policy.zone is None:
        return list(addresses)
    zones = [zone_of(str(address[4][0])) for address in addresses]
    allowed = [address for address, zone in zip(addresses, zones, strict=True) if address_policy.allows(zone)]
    if zones and not allowed:
        raise AddressForbidden(zones[0])
    return allowed


def _allowed(sock: socket.socket | None, address_policy: AddressPolicy) -> socket.socket | None:
    """Return a connected socket if the policy allows its address; otherwise close it."""
    if sock is None or address_policy.zone is None:
        return sock
    with suppress(OSError):
        if address_policy.allows(zone_of(str(sock.getpeername()[0]))):
            return sock
    sock.close()
    return None


async def _addresses(host: str, port: int) -> "list[AddrInfoType]":
    loop = asyncio.get_running_loop()
    return [*await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
