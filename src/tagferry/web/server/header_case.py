"""The case of response header names.

HTTP header names are case-insensitive, but SWR's SDK for Java requires the exact spelling `Content-Range`. Frameworks
and servers write all names in lower case.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class _Spelled(bytes):
    """A header name that keeps its case in uvicorn, which sends `name.lower()`."""

    __slots__ = ()

    def lower(self) -> "_Spelled":
        return self


_SPELLED = {name.lower(): _Spelled(name) for name in (b"Content-Range", b"X-Swr-Dockerlogin", b"X-Swr-Expireat")}


class HeaderCase:
    """Middleware that writes the names of SWR's response headers as SWR documents them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_spelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(_SPELLED.get(name, name), value) for name, value in message.get("headers", ())]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_spelled)
