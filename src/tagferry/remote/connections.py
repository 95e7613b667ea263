"""Connections to a registry and to where it redirects: made, kept for the next request, closed when idle."""

import asyncio
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohappyeyeballs import AddrInfoType, start_connection

from tagferry.remote.faults import Broken, Silent, unconnected
from tagferry.remote.http1 import Connection, Stream
from tagferry.remote.response import Response

Origin = tuple[str, str, int]
"""Scheme, host and port."""

KEEP_SECONDS = 15.0
"""How long an idle connection is kept; servers tend to close theirs later than that."""
PORTS = {"http": 80, "https": 443}
"""The schemes that are spoken, and the port of each where a URL names none."""
_HEAD_START_SECONDS = 0.25
"""What one address of a host has before the next is tried too (RFC 8305)."""
_LOOKED_UP = ("PUT", "DELETE")
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_URL = re.compile(r"(https?://[^/?#]+)([^#]*)", re.IGNORECASE)
_TARGET = re.compile(r"[\x21-\x7e]+")


class Connections:
    """Sends requests over as few connections as it takes; belongs to one event loop.

    Args:
        tls: makes the context for https; asked once, when it is needed.
        headers: sent with every request.
        connect_timeout: seconds to wait for a connection.
    """

    def __init__(
        self, *, tls: Callable[[], ssl.SSLContext], headers: Mapping[str, str], connect_timeout: float
    ) -> None:
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None
        self._headers = dict(headers)
        self._connect_timeout = connect_timeout
        self._idle: dict[Origin, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._sweeping: asyncio.TimerHandle | None = None

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | Stream = b"", *, silence: float
    ) -> Response:
        """Send a request and wait for its answer's head; the caller closes the answer.

        A kept connection that turns out to be dead is replaced at once, unless the body is a stream, or a second
        deletion would be told that there is nothing to delete.

        Args:
            method: in capitals.
            url: absolute, http or https, encoded already.
            headers: besides those that every request has.
            body: sent with its length.
            silence: seconds without a byte of the answer after which it is given up.

        Raises:
            Broken: the connection could not be made, or failed before the answer began; Silent where that took
                too long.
        """
        try:
            origin, head = self._head(method, url, headers, body)
        except ValueError as error:
            raise Broken(f"the request cannot be sent: {error}") from None
        while True:
            connection = self._reused(origin) or await self._connect(origin)
            try:
                return await connection.request(head, body, url=url, bodiless=method == "HEAD", silence=silence)
            except Broken as fault:
                is_stale = connection.exchanges > 1 and not isinstance(fault, Silent)
                # What a write has done whose answer was lost must be looked up before it is sent again.
                if not is_stale or isinstance(body, Stream) or method in _LOOKED_UP:
                    raise

    async def close(self) -> None:
        """Close all connections."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        open_now = list(self._open)
        for connection in open_now:
            connection.abort()
        if open_now:
            await asyncio.wait([connection.closed for connection in open_now], timeout=1.0)

    def _head(self, method: str, url: str, headers: Mapping[str, str], body: bytes | Stream) -> tuple[Origin, bytes]:
        origin, target = _split(url)
        scheme, host, port = origin
        if not _TARGET.fullmatch(target):
            raise ValueError("the address holds what no address may hold")
        literal = f"[{host}]" if ":" in host else host
        fields = {
            "Host": literal if port == PORTS[scheme] else f"{literal}:{port}",
            **self._headers,
            **headers,
        }
        if isinstance(body, Stream):
            fields["Content-Length"] = str(body.size)
            if body.asks_first:
                fields["Expect"] = "100-continue"
        elif body or method in _WITH_BODY:
            fields["Content-Length"] = str(len(body))
        lines = "".join([f"{name}: {value}\r\n" for name, value in fields.items()])
        if lines.count("\n") != len(fields) or lines.count("\r") != len(fields):
            raise ValueError("a header holds a line break")
        return origin, f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")

    def _reused(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin, [])
        while idle:
            # The one that was used last is the least likely to have been closed by the other side.
            connection = idle.pop()
            if connection.is_usable and asyncio.get_running_loop().time() - connection.idle_since < KEEP_SECONDS:
                return connection
            connection.abort()
        return None

    async def _connect(self, origin: Origin) -> Connection:
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await self._connected(origin)
        except TimeoutError:
            raise Silent(f"cannot connect to {_url(origin)}: no answer within {self._connect_timeout:g} s") from None
        except (OSError, UnicodeError, RuntimeError, ExceptionGroup) as error:
            raise unconnected(_url(origin), error) from error

    async def _connected(self, origin: Origin) -> Connection:
        scheme, host, port = origin
        loop = asyncio.get_running_loop()
        tls = self._context() if scheme == "https" else None
        name = host if tls else None
        make = partial(Connection, on_lost=self._forget, on_free=partial(self._keep, origin))
        if _is_address(host):
            _, connection = await loop.create_connection(make, host, port, ssl=tls, server_hostname=name)
        else:
            sock = await start_connection(
                await _addresses(host, port), happy_eyeballs_delay=_HEAD_START_SECONDS, interleave=1
            )
            _, connection = await loop.create_connection(make, sock=sock, ssl=tls, server_hostname=name)
        self._open.add(connection)
        return connection

    def _keep(self, origin: Origin, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.setdefault(origin, []).append(connection)
        if self._sweeping is None:
            self._sweeping = loop.call_later(KEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        eldest = loop.time() - KEEP_SECONDS
        for connections in self._idle.values():
            for connection in [one for one in connections if one.idle_since <= eldest]:
                connections.remove(connection)
                connection.abort()
        self._idle = {origin: connections for origin, connections in self._idle.items() if connections}
        self._sweeping = loop.call_later(KEEP_SECONDS, self._sweep) if self._idle else None

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        for connections in self._idle.values():
            if connection in connections:
                connections.remove(connection)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = self._make_tls()
        return self._tls


def origin_of(url: str) -> Origin:
    """Where a URL leads to; raises ValueError where it is no http or https address."""
    return _split(url)[0]


def _split(url: str) -> tuple[Origin, str]:
    """Where a URL leads to, and what to ask for there."""
    match = _URL.match(url)
    if match is None:
        raise ValueError("it is not an address of the web")
    target = match[2]
    return _origin(match[1]), target if target.startswith("/") else f"/{target}"


@lru_cache(maxsize=1024)
def _origin(beginning: str) -> Origin:
    parts = urlsplit(beginning)
    host = parts.hostname or ""
    if not host:
        raise ValueError("it names no host")
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    return parts.scheme, host, parts.port or PORTS[parts.scheme]


def _url(origin: Origin) -> str:
    scheme, host, port = origin
    literal = f"[{host}]" if ":" in host else host
    return f"{scheme}://{literal}" if port == PORTS[scheme] else f"{scheme}://{literal}:{port}"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def _addresses(host: str, port: int) -> list[AddrInfoType]:
    loop = asyncio.get_running_loop()
    return [*await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
