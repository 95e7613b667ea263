"""How the names of response headers are spelled.

HTTP ignores the case of a header's name, but SWR's SDK for Java finds `Content-Range` only where it is written so.
Frameworks and servers write every name in lower case.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class _Spelled(bytes):
    """A name that uvicorn, which sends `name.lower()`, sends as it is."""

    __slots__ = ()

    def lower(self) -> "_Spelled":
        return self


_SPELLED = {name.lower(): _Spelled(name) for name in (b"Content-Range", b"X-Swr-Dockerlogin", b"X-Swr-Expireat")}


class HeaderCase:
    """Spells the response headers that SWR's clients read as SWR documents them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_spelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(_SPELLED.get(name, name), value) for name, value in message.get("headers", ())]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_spelled)
