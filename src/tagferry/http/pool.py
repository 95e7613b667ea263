"""A pool of connections to a registry and to the hosts that it redirects to."""

import asyncio
import re
from collections import Counter
from collections.abc import Mapping
from functools import partial

from tagferry.errors import Invalid
from tagferry.http.address_policy import ANY_ADDRESS, AddressPolicy
from tagferry.http.connection import Connection, Stream
from tagferry.http.dialing import Route, dial, proxy_refusal
from tagferry.http.early_sockets import EarlySockets
from tagferry.http.faults import ConnectionFailed, ConnectionRejected, ConnectionTimedOut, ConnectTimedOut
from tagferry.http.proxies import Proxies
from tagferry.http.response import Response
from tagferry.http.urls import Origin, authority, split
from tagferry.tls import ClientContexts

KEEP_SECONDS = 15.0
"""Seconds that an idle connection is kept; servers usually close theirs later."""
_NOT_REPEATABLE = ("PUT", "DELETE")
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_TARGET = re.compile(r"[\x21-\x7e]+")


class ConnectionPool:
    """Sends requests over pooled connections; belongs to one event loop.

    Args:
        headers: sent with every request.
        connect_timeout: seconds to wait for a connection.
        tls: TLS contexts for https.
        proxies: the proxies; those of the environment by default.
        early: connections that have begun already.
    """

    def __init__(
        self,
        *,
        headers: Mapping[str, str],
        connect_timeout: float,
        tls: ClientContexts | None = None,
        proxies: Proxies | None = None,
        early: EarlySockets | None = None,
    ) -> None:
        self._headers = dict(headers)
        self._connect_timeout = connect_timeout
        self._tls = tls or ClientContexts()
        self._proxies = proxies or Proxies()
        self._early = early
        self._idle: dict[Route, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._open_to: Counter[Origin] = Counter()
        self._sweeping: asyncio.TimerHandle | None = None

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Stream = b"",
        *,
        idle_timeout: float,
        min_rate: float = 0.0,
        with_certificate: bool = False,
        address_policy: AddressPolicy = ANY_ADDRESS,
    ) -> Response:
        """Send a request and wait for the response's head; the caller closes the response.

        A pooled connection that turns out to be closed is replaced at once, unless the body is a stream, or the outcome
        of a write has to be looked up first.

        Args:
            method: in capitals.
            url: absolute, http or https, and percent-encoded.
            headers: added to the headers of every request.
            body: sent with its Content-Length.
            idle_timeout: seconds without a response byte after which the request fails.
            min_rate: minimum bytes per second of the response body, measured over `idle_timeout`.
            with_certificate: whether to present the client's certificate.
            address_policy: the addresses to which the connection may be made.

        Raises:
            ConnectionFailed: the connection could not be made, or failed before the response began; ConnectionTimedOut
                if that took too long, ConnectionRejected if waiting does not help.
            AddressForbidden: the address policy forbids the host's address.
        """
        try:
            route, head = self._head(
                method, url, headers, body, with_certificate=with_certificate, address_policy=address_policy
            )
        except ValueError as error:
            raise ConnectionFailed(f"the request cannot be sent: {error}") from None
        except Invalid as error:
            raise ConnectionRejected(error.message) from None
        while True:
            connection = self._idle_connection(route) or await self._connect(route)
            try:
                response = await connection.request(
                    head, body, url=url, bodiless=method == "HEAD", idle_timeout=idle_timeout, min_rate=min_rate
                )
            except ConnectionFailed as fault:
                is_stale = connection.exchanges > 1 and not isinstance(fault, ConnectionTimedOut)
                # If the response to a write is lost, its outcome must be looked up before it is sent again.
                if not is_stale or isinstance(body, Stream) or method in _NOT_REPEATABLE:
                    raise
                continue
            if response.status == 407 and route.proxy is not None:
                response.close()
                target = authority(route.origin, with_port=True)
                raise proxy_refusal(route.proxy, target, 407, "Proxy Authentication Required")
            return response

    @property
    def connections(self) -> tuple[int, int]:
        """The number of connections in use, and of idle ones; can be read in any thread."""
        idle = sum(map(len, list(self._idle.values())))
        return max(0, len(self._open) - idle), idle

    async def close(self) -> None:
        """Close all connections."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        open_now = list(self._open)
        for connection in open_now:
            connection.abort()
        if open_now:
            await asyncio.wait([connection.closed for connection in open_now], timeout=1.0)

    def _head(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Stream,
        *,
        with_certificate: bool,
        address_policy: AddressPolicy,
    ) -> tuple[Route, bytes]:
        origin, target = split(url)
        if not _TARGET.fullmatch(target):
            raise ValueError("the URL contains invalid characters")
        route = Route(origin, self._proxies.find(origin), with_certificate, address_policy)
        fields = {"Host": authority(origin), **self._headers, **headers}
        if route.is_relayed and route.proxy is not None:
            target = f"http://{authority(origin)}{target}"
            if route.proxy.authorization:
                fields["Proxy-Authorization"] = route.proxy.authorization
        if isinstance(body, Stream):
            fields["Content-Length"] = str(body.size)
            if body.expects_continue:
                fields["Expect"] = "100-continue"
        elif body or method in _WITH_BODY:
            fields["Content-Length"] = str(len(body))
        lines = "".join([f"{name}: {value}\r\n" for name, value in fields.items()])
        if lines.count("\n") != len(fields) or lines.count("\r") != len(fields):
            raise ValueError("a header contains a line break")
        return route, f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")

    def _idle_connection(self, route: Route) -> Connection | None:
        connections = self._idle.get(route, [])
        while connections:
            # The most recently used connection is the least likely to have been closed by the server.
            connection = connections.pop()
            if connection.is_usable and asyncio.get_running_loop().time() - connection.idle_since < KEEP_SECONDS:
                return connection
            connection.abort()
        return None

    async def _connect(self, route: Route) -> Connection:
        origin = route.origin if route.proxy is None else route.proxy.origin
        make = partial(Connection, on_lost=partial(self._forget, origin), on_free=partial(self._release, route))
        try:
            async with asyncio.timeout(self._connect_timeout):
                connection = await dial(route, make, self._tls, self._early)
        except TimeoutError:
            raise ConnectTimedOut(f"cannot connect to {route}: no answer within {self._connect_timeout:g} s") from None
        except Invalid as error:
            raise ConnectionRejected(error.message) from None
        self._open.add(connection)
        self._open_to[origin] += 1
        if self._early is not None:
            self._early.record(origin[1], origin[2], self._open_to[origin])
        return connection

    def _release(self, route: Route, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.setdefault(route, []).append(connection)
        if self._sweeping is None:
            self._sweeping = loop.call_later(KEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        eldest = loop.time() - KEEP_SECONDS
        for connections in self._idle.values():
            for connection in [one for one in connections if one.idle_since <= eldest]:
                connections.remove(connection)
                connection.abort()
        self._idle = {route: connections for route, connections in self._idle.items() if connections}
        self._sweeping = loop.call_later(KEEP_SECONDS, self._sweep) if self._idle else None

    def _forget(self, origin: Origin, connection: Connection) -> None:
        if connection in self._open:
            self._open.remove(connection)
            self._open_to[origin] -= 1
        for connections in self._idle.values():
            if connection in connections:
                connections.remove(connection)
