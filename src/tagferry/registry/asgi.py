"""HTTP as ASGI hands it over: a request that is read in chunks, a response that is sent in chunks."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from tagferry.digits import whole_number
from tagferry.errors import TooLarge
from tagferry.registry.access import Login

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


def origin(scheme: str, host: str) -> str | None:
    """The address that a client asked, from its `Host`; None where that is not a host."""
    return f"{scheme}://{host}" if _HOST.fullmatch(host) else None


class ClientGone(Exception):
    """The client closed the connection, or sent nothing for too long, before its request was complete."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names are lowercase.

    Attributes:
        parameters: the query's, in the order in which they were given.
        scheme: `http` or `https`.
        address: where the connection comes from.
        idle_seconds: how long to wait for the next bytes of the body.
    """

    method: str
    path: str
    parameters: Sequence[tuple[str, str]]
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
            parameters=parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True),
            headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
            scheme=scope.get("scheme", "http"),
            address=str((scope.get("client") or ("unknown",))[0]),
            receive=receive,
            idle_seconds=idle_seconds,
        )

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
        """Bytes of the body, if the client says."""
        return whole_number(self.headers.get("content-length", ""))

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives; raises ClientGone."""
        more = True
        while more:
            try:
                async with asyncio.timeout(self.idle_seconds):
                    message = await self.receive()
            except TimeoutError:
                raise ClientGone from None
            if message["type"] != "http.request":
                raise ClientGone
            more = message.get("more_body", False)
            if body := message.get("body", b""):
                yield body

    async def body(self, field: str, *, limit: int) -> bytes:
        """The whole body; raises TooLarge, by this name, where it has more bytes than the limit, and ClientGone."""
        rule = f"must be at most {limit} bytes long"
        if (self.content_length or 0) > limit:
            raise TooLarge(field, rule, self.content_length)
        gathered = bytearray()
        async for chunk in self.chunks():
            gathered += chunk
            if len(gathered) > limit:
                raise TooLarge(field, rule)
        return bytes(gathered)


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered: either a body, or an opener of a stream whose length the headers tell."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    stream: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]] | None = None

    async def send(self, send: Send, *, method: str) -> None:
        """Send everything; a HEAD request gets the headers only."""
        if self.stream is None or method == "HEAD":
            await self._start(send)
            await send({"type": "http.response.body", "body": b"" if method == "HEAD" else self.body})
            return
        # Opened before the status is sent: what cannot be opened is still answered with an error.
        async with self.stream() as chunks:
            await self._start(send)
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def _start(self, send: Send) -> None:
        headers = dict(self.headers)
        if "Content-Length" not in headers and self.status not in (204, 304):
            headers["Content-Length"] = str(len(self.body))
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": encoded})
