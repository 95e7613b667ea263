"""Compression of pages and static files.

Only what is read is compressed, never the answer to a form. Such an answer may contain a secret, the other ones contain
none whose length could be guessed from their size by someone who reads the network and makes a browser open pages.
"""

import gzip

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_TYPES = ("text/html", "text/css", "text/javascript", "image/svg+xml")
_LEAST_BYTES = 500
"""Bytes below which an answer fits into one packet with its head anyway."""
_LEVEL = 4
"""From here on, more time saves little."""
_READING = frozenset({"GET", "HEAD"})


class Compressed:
    """Middleware that compresses complete answers for browsers that accept it. Streams pass unchanged.

    Args:
        app: the application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in _READING:
            await self._app(scope, receive, send)
            return
        accepts = _accepts_gzip(Headers(scope=scope).get("accept-encoding", ""))
        start: Message | None = None

        async def send_compressed(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None:
                message = _compressed(start, message, accepts=accepts)
                await send(start)
                start = None
            await send(message)

        await self._app(scope, receive, send_compressed)


def _compressed(start: Message, message: Message, *, accepts: bool) -> Message:
    """Return the first message of a body, compressed if it is the only one; the head is changed accordingly."""
    headers, body = MutableHeaders(scope=start), message.get("body", b"")
    is_whole = message["type"] == "http.response.body" and not message.get("more_body")
    if not is_whole or len(body) < _LEAST_BYTES or not headers.get("content-type", "").startswith(_TYPES):
        return message
    headers.add_vary_header("Accept-Encoding")
    if not accepts:
        return message
    # Without the time, equal answers are equal bytes.
    packed = gzip.compress(body, compresslevel=_LEVEL, mtime=0)
    headers["Content-Encoding"] = "gzip"
    headers["Content-Length"] = str(len(packed))
    return {**message, "body": packed}


def _accepts_gzip(accepted: str) -> bool:
    """Return whether an `Accept-Encoding` allows gzip."""
    for coding in accepted.lower().split(","):
        name, *parameters = (part.strip() for part in coding.split(";"))
        if name == "gzip":
            return not any(part.replace(" ", "").rstrip("0.") == "q=" for part in parameters)
    return False
