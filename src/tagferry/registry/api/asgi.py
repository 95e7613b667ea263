"""HTTP as ASGI hands it over: a request that is read in chunks, a response that is sent in chunks."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from tagferry import bounds
from tagferry.digits import whole_number
from tagferry.errors import TooLarge
from tagferry.metrics import BOUND_REACHED
from tagferry.registry.api.access import Login
from tagferry.registry.errors import ClientStalled

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


def origin(scheme: str, host: str) -> str | None:
    """The address that a client asked, from its `Host`; None where that is not a host."""
    return f"{scheme}://{host}" if _HOST.fullmatch(host) else None


def check_parameters(text: str, field: str) -> None:
    """Refuse a query or a form of too many parameters; raises TooLarge, by this name."""
    if (given := text.count("&") + 1) > bounds.QUERY_PARAMETERS:
        BOUND_REACHED.labels(bound="query_parameters").inc()
        raise TooLarge(field, f"must have at most {bounds.QUERY_PARAMETERS} parameters", given)


def parameters_of(text: str) -> Sequence[tuple[str, str]]:
    """The parameters of a query or a form."""
    return parse_qsl(text, keep_blank_values=True)


def mark_as_shed(scope: Scope) -> None:
    """Note that a request was refused because there were too many, so that its connection is slowed down."""
    scope.setdefault("state", {})["is_shed"] = True


class ClientDisconnected(Exception):
    """The client closed the connection before its request was complete, or before it had the whole answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names are lowercase.

    Attributes:
        raw_path: the path as it was sent.
        query_string: the query as it was sent.
        scheme: `http` or `https`.
        address: where the connection comes from.
        idle_seconds: how long to wait for the next bytes of the body.
    """

    method: str
    path: str
    raw_path: bytes
    query_string: str
    headers: Mapping[str, str]
    scheme: str
    address: str
    receive: Receive
    idle_seconds: float

    @classmethod
    def of(cls, scope: Scope, receive: Receive, *, idle_seconds: float) -> "Request":
        """Read an ASGI HTTP scope."""
        return cls(
            method=scope["method"],
            path=scope["path"],
            raw_path=scope.get("raw_path", b""),
            query_string=scope.get("query_string", b"").decode("latin-1"),
            headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
            scheme=scope.get("scheme", "http"),
            address=str((scope.get("client") or ("unknown",))[0]),
            receive=receive,
            idle_seconds=idle_seconds,
        )

    def check_head(self) -> None:
        """Refuse a path or a query that would take long to read; raises TooLarge."""
        if len(self.raw_path) > bounds.PATH_BYTES:
            BOUND_REACHED.labels(bound="path_bytes").inc()
            raise TooLarge("path", f"must be at most {bounds.PATH_BYTES} bytes", len(self.raw_path))
        check_parameters(self.query_string, "query")

    @property
    def parameters(self) -> Sequence[tuple[str, str]]:
        """The query's, in the order in which they were given."""
        return parameters_of(self.query_string) if self.query_string else ()

    @property
    def query(self) -> Mapping[str, str]:
        """The query's parameters by their names, the last of those that are repeated."""
        return dict(self.parameters)

    @property
    def login(self) -> Login:
        """Who the client says it is."""
        asked = origin(self.scheme, self.headers.get("host", ""))
        return Login(authorization=self.headers.get("authorization"), address=self.address, origin=asked)

    @property
    def content_length(self) -> int | None:
        """Bytes of the body, if the client says; what is more than any disk holds is a very large number."""
        text = self.headers.get("content-length", "")
        if not (text.isascii() and text.isdigit()):
            return None
        number = whole_number(text.lstrip("0") or "0")
        return sys.maxsize if number is None else number

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body; raises ClientDisconnected, and ClientStalled after `idle_seconds` without data."""
        more = True
        while more:
            try:
                async with asyncio.timeout(self.idle_seconds):
                    message = await self.receive()
            except TimeoutError:
                raise ClientStalled("body", self.idle_seconds) from None
            if message["type"] != "http.request":
                raise ClientDisconnected
            more = message.get("more_body", False)
            if body := message.get("body", b""):
                yield body

    async def body(self, field: str, *, limit: int) -> bytes:
        """The whole body; raises TooLarge, by this name, where it has more bytes than the limit, and as `chunks`."""
        rule = f"must be at most {limit} bytes long"
        if (self.content_length or 0) > limit:
            raise TooLarge(field, rule, self.content_length)
        gathered = bytearray()
        try:
            async for chunk in self.chunks():
                gathered += chunk
                if len(gathered) > limit:
                    raise TooLarge(field, rule)
        except ClientStalled:
            raise ClientStalled(field, self.idle_seconds) from None
        return bytes(gathered)


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered: either a body, or an opener of a stream whose length the headers tell."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    stream: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]] | None = None

    async def send(self, send: Send, receive: Receive, *, method: str) -> None:
        """Send everything; a HEAD request gets the headers only.

        Raises:
            ClientDisconnected: the client closed the connection; nothing more is read for it.
        """
        if self.stream is None or method == "HEAD":
            await self._start(send)
            await send({"type": "http.response.body", "body": b"" if method == "HEAD" else self.body})
            return
        # Opened before the status is sent: what cannot be opened is still answered with an error.
        async with self.stream() as chunks:
            await self._start(send)
            await _send_all(chunks, send, receive)

    async def _start(self, send: Send) -> None:
        headers = dict(self.headers)
        if "Content-Length" not in headers and self.status not in (204, 304):
            headers["Content-Length"] = str(len(self.body))
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": encoded})


async def _send_all(chunks: AsyncIterator[bytes], send: Send, receive: Receive) -> None:
    """Send a body; raises ClientDisconnected once the client has closed the connection, which `send` does not tell."""
    gone: asyncio.Task[None] | None = None
    try:
        async for chunk in chunks:
            if gone is not None and gone.done():
                raise ClientDisconnected
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if gone is None:
                gone = asyncio.create_task(_disconnected(receive))
        await send({"type": "http.response.body", "body": b""})
    finally:
        if gone is not None:
            gone.cancel()


async def _disconnected(receive: Receive) -> None:
    """Wait until the client closes the connection; what it still sends is left alone."""
    while (await receive())["type"] != "http.disconnect":
        pass
