"""Streaming requests and responses over ASGI."""

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
from tagferry.metrics.instruments import CounterSeries
from tagferry.registry.api.access import Login
from tagferry.registry.errors import ClientStalled
from tagferry.registry.storage.threads import DISK_FAILED, DiskFailed
from tagferry.streams import FileContent

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SEND_FILE = "http.response.zerocopysend"
"""The extension of ASGI by which a server sends a part of a file itself, here given by its descriptor. Source: the ASGI
specification, "Extensions". An error of the disk is raised to the application."""

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


def origin(scheme: str, host: str) -> str | None:
    """Return the URL that a client addressed, from the Host header; None if that is invalid."""
    return f"{scheme}://{host}" if _HOST.fullmatch(host) else None


def check_parameters(text: str, field: str) -> None:
    """Raise TooLarge if a query or form has too many parameters; `field` names it in the error."""
    if (given := text.count("&") + 1) > bounds.QUERY_PARAMETERS:
        BOUND_REACHED.labels(bound="query_parameters").inc()
        raise TooLarge(field, f"must have at most {bounds.QUERY_PARAMETERS} parameters", given)


def parameters_of(text: str) -> Sequence[tuple[str, str]]:
    """Return the parameters of a query or form."""
    return parse_qsl(text, keep_blank_values=True)


def mark_as_shed(scope: Scope) -> None:
    """Mark a request as shed because of too many requests, so that the server slows its connection down."""
    scope.setdefault("state", {})["is_shed"] = True


def sends_files(scope: Scope) -> bool:
    """Return whether the server of a request sends parts of files itself."""
    return SEND_FILE in scope.get("extensions", ())


class ClientDisconnected(Exception):
    """The client disconnected before its request or the response was complete."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names are lowercase.

    Attributes:
        raw_path: the path as sent by the client.
        query_string: the query as sent by the client.
        scheme: `http` or `https`.
        address: the client's address.
        idle_seconds: how long to wait for more data of the body.
        received: counts the bytes of the body.
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
    received: CounterSeries = field(default_factory=CounterSeries)

    @classmethod
    def of(
        cls, scope: Scope, receive: Receive, *, idle_seconds: float, received: CounterSeries | None = None
    ) -> "Request":
        """Create a request from an ASGI HTTP scope."""
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
            received=received or CounterSeries(),
        )

    def check_head(self) -> None:
        """Raise TooLarge for a path or query that exceeds the limits."""
        if len(self.raw_path) > bounds.PATH_BYTES:
            BOUND_REACHED.labels(bound="path_bytes").inc()
            raise TooLarge("path", f"must be at most {bounds.PATH_BYTES} bytes", len(self.raw_path))
        check_parameters(self.query_string, "query")

    @property
    def parameters(self) -> Sequence[tuple[str, str]]:
        """The parameters of the query, in order."""
        return parameters_of(self.query_string) if self.query_string else ()

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters of the query by name; of repeated ones, the last."""
        return dict(self.parameters)

    @property
    def login(self) -> Login:
        """The client's credentials, not verified."""
        url = origin(self.scheme, self.headers.get("host", ""))
        return Login(authorization=self.headers.get("authorization"), address=self.address, origin=url)

    @property
    def content_length(self) -> int | None:
        """The declared length of the body; numbers of more than 18 digits become the largest integer."""
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
                self.received.value += len(body)
                yield body

    async def body(self, field: str, *, limit: int) -> bytes:
        """Return the whole body; raises as `chunks`, and TooLarge, which names `field`, above the limit."""
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
    """A response with either a body, or a function that opens a stream whose length is in the headers."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    stream: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]] | None = None

    async def send(self, send: Send, receive: Receive, *, method: str, sends_files: bool = False) -> None:
        """Send the response.

        Args:
            send: sends a message to the server.
            receive: receives a message from the server.
            method: the request's method; for HEAD only the headers are sent.
            sends_files: whether the server sends parts of files itself.

        Raises:
            ClientDisconnected: the client disconnected; reading stops.
            DiskFailed: the disk failed while the server read from it.
        """
        if self.stream is None or method == "HEAD":
            await self._start(send)
            await send({"type": "http.response.body", "body": b"" if method == "HEAD" else self.body})
            return
        # Opened before the status is sent, so that a failure can still become an error response.
        async with self.stream() as chunks:
            await self._start(send)
            if sends_files and isinstance(chunks, FileContent):
                await _send_file(chunks, send)
                return
            await _send_all(chunks, int(self.headers["Content-Length"]), send, receive)

    async def _start(self, send: Send) -> None:
        headers = dict(self.headers)
        if "Content-Length" not in headers and self.status not in (204, 304):
            headers["Content-Length"] = str(len(self.body))
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": encoded})


async def _send_file(content: FileContent, send: Send) -> None:
    message = {"type": SEND_FILE, "file": content.file, "offset": content.offset, "count": content.count}
    try:
        await send({**message, "more_body": True})
    except (OSError, EOFError) as error:
        raise DiskFailed(DISK_FAILED) from error
    await send({"type": "http.response.body", "body": b""})


async def _send_all(chunks: AsyncIterator[bytes], length: int, send: Send, receive: Receive) -> None:
    """Send a body; raises ClientDisconnected after the client has disconnected, which `send` does not report."""
    disconnected: asyncio.Task[None] | None = None
    try:
        async for chunk in chunks:
            if disconnected is not None and disconnected.done():
                raise ClientDisconnected
            length -= len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": bool(length)})
            if not length:
                return
            if disconnected is None:
                disconnected = asyncio.create_task(_disconnected(receive))
        await send({"type": "http.response.body", "body": b""})
    finally:
        if disconnected is not None:
            disconnected.cancel()


async def _disconnected(receive: Receive) -> None:
    """Wait until the client disconnects, ignoring any further data."""
    while (await receive())["type"] != "http.disconnect":
        pass
