"""A registry that follows a test's script: ordered replies, faults, delays and tokens.

Each reply is used once; a request without a reply gets 404 with the code UNSCRIPTED.
"""

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from aiohttp import web


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A received request.

    Attributes:
        peer: the common name of the client's certificate, if it presented one.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    peer: str = ""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A response, or a fault.

    Attributes:
        delay: seconds before anything is sent.
        truncate_to: send this many bytes of the body, then close the connection.
        drop: close the connection instead of responding.
        unread: respond before the request's body is read.
        raw: send these bytes instead, including the head, and close the connection.
        trickle: seconds between the eighths of the body.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0
    truncate_to: int | None = None
    drop: bool = False
    unread: bool = False
    raw: bytes | None = None
    trickle: float = 0.0


Answering = Reply | Callable[[Asked], Reply]


def said(document: Any, **terms: Any) -> Reply:
    """Return a reply with a JSON document."""
    return Reply(body=json.dumps(document).encode(), **terms)


def error(status: int, code: str, message: str = "", **terms: Any) -> Reply:
    """Return a reply in the distribution-spec's format for errors."""
    return said({"errors": [{"code": code, "message": message}]}, status=status, **terms)


class ScriptedRegistry:
    """The script and the received requests.

    Attributes:
        url: the address, once it listens.
        asked: all requests, in the order of arrival.
    """

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self._once: list[tuple[str, str, deque[Answering]]] = []
        self._always: list[tuple[str, str, Answering]] = []

    def on(self, method: str, path: str, *replies: Answering) -> None:
        """Answer the next requests for a path (which may contain `*`) with these replies, one each."""
        self._once.append((method, path, deque(replies)))

    def always(self, method: str, path: str, reply: Answering) -> None:
        """Answer every request for a path that has no one-shot reply left."""
        self._always.append((method, path, reply))

    def lines(self) -> list[str]:
        """Return the requests as `METHOD path`."""
        return [f"{asked.method} {asked.path}" for asked in self.asked]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Handle one request."""
        reply = self._find(request.method, request.path)
        unread = isinstance(reply, Reply) and reply.unread
        if not unread and request.headers.get("Expect") == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        asked = Asked(
            method=request.method,
            path=request.path,
            query=request.raw_path.partition("?")[2],
            headers=dict(request.headers),
            body=b"" if unread else await request.content.read(),
            peer=_peer(request),
        )
        self.asked.append(asked)
        reply = reply(asked) if callable(reply) else reply
        return await send(request, reply)

    def _find(self, method: str, path: str) -> Answering:
        for verb, pattern, replies in self._once:
            if replies and verb == method and fnmatchcase(path, pattern):
                return replies.popleft()
        for verb, pattern, reply in self._always:
            if verb == method and fnmatchcase(path, pattern):
                return reply
        return error(404, "UNSCRIPTED", f"{method} {path}")


@asynccontextmanager
async def scripted_registry(*, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedRegistry]:
    """Run a scripted registry on a free port of loopback, over TLS if a server context is given."""
    script = ScriptedRegistry()
    runner = web.ServerRunner(web.Server(script.handle, access_log=None), shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    script.url = f"{'https' if tls else 'http'}://{host}:{port}"
    try:
        yield script
    finally:
        await runner.cleanup()


def _peer(request: web.BaseRequest) -> str:
    shown = request.transport.get_extra_info("peercert") if request.transport is not None else None
    return (
        next((value for part in shown["subject"] for name, value in part if name == "commonName"), "") if shown else ""
    )


def _close(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()


async def send(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Send a reply, or produce its fault."""
    await asyncio.sleep(reply.delay)
    if reply.drop:
        _close(request)
    if reply.raw is not None and request.transport is not None:
        request.transport.write(reply.raw)
        request.transport.close()
        return web.StreamResponse()
    headers = dict(reply.headers)
    bodiless = request.method == "HEAD" or reply.status in (204, 304)
    if not bodiless:
        headers.setdefault("Content-Length", str(len(reply.body)))
    response = web.StreamResponse(status=reply.status, headers=headers)
    if reply.unread:
        response.force_close()
    if reply.drop:
        return response
    await response.prepare(request)
    if reply.truncate_to is not None:
        await response.write(reply.body[: reply.truncate_to])
        _close_politely(request)
        return response
    if not bodiless and reply.body:
        await _write(response, reply)
    await response.write_eof()
    return response


async def _write(response: web.StreamResponse, reply: Reply) -> None:
    if not reply.trickle:
        await response.write(reply.body)
        return
    size = len(reply.body) // 8 + 1
    for start in range(0, len(reply.body), size):
        await response.write(reply.body[start : start + size])
        await asyncio.sleep(reply.trickle)


def _close_politely(request: web.BaseRequest) -> None:
    """Close after the written bytes are sent, since an abort may discard them."""
    if request.transport is not None:
        request.transport.close()
