"""An application behind the server's front end, for tests of requests that do not reach applications."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from starlette.types import Receive, Scope, Send

from tagferry.settings import LimitSettings
from tagferry.web.server.serve import Listener, listening
from tests.support.processes import free_port

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BIG_CHUNK = b"0" * 64 * 1024

_mark: ContextVar[str] = ContextVar("_mark", default="")


class Application:
    """Answers `/` with the bytes of the body, `/held` when `released`, `/endless` without end, `/context` with what
    the request before has left in its context, and `/unread` without reading the body; `/unread/close` asks to close
    the connection, too.

    Attributes:
        scopes: of all requests.
        sent: bytes of `/endless` that the server took.
        left: how many requests have ended.
    """

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.released = asyncio.Event()
        self.sent = 0
        self.left = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        try:
            await self._answer(scope, receive, send)
        finally:
            self.left += 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/endless":
            await self._endless(receive, send)
            return
        body = b"unread"
        if scope["path"] == "/context":
            body = _mark.get().encode()
            _mark.set("left behind")
        elif scope["path"] == "/held":
            await self.released.wait()
        elif not scope["path"].startswith("/unread"):
            size = 0
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                size += len(message["body"])
                if not message["more_body"]:
                    break
            body = str(size).encode()
        closing = [(b"connection", b"close")] if scope["path"] == "/unread/close" else []
        await send(_start([(b"content-length", str(len(body)).encode()), *closing]))
        await send({"type": "http.response.body", "body": body})

    async def _endless(self, receive: Receive, send: Send) -> None:
        await send(_start([]))
        gone = asyncio.create_task(_disconnected(receive))
        while not gone.done():
            await send({"type": "http.response.body", "body": BIG_CHUNK, "more_body": True})
            self.sent += len(BIG_CHUNK)
            await asyncio.sleep(0)


@asynccontextmanager
async def fronted(
    app: Application, *, certificate: Path | None = None, host: str = "127.0.0.1", **limits: Any
) -> AsyncIterator[str]:
    """Serve it with these limits; gives the URL."""
    address = f"{host}:{free_port()}"
    listener = Listener(app, address, tls_certificate=certificate, tls_key=certificate)
    async with listening([listener], LimitSettings(**limits)):
        yield f"{'https' if certificate else 'http'}://{address}"


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _start(headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": 200, "headers": headers}


async def until(is_so: Callable[[], bool], *, seconds: float = 60) -> None:
    """Wait until this is so; fails after a minute."""
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
