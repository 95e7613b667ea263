"""The case of response header names.

HTTP header names are case-insensitive, but SWR's SDK for Java requires the exact spelling `Content-Range`. Frameworks
write all names in lower case.
"""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SPELLED = {name.lower(): name for name in (b"Content-Range", b"X-Swr-Dockerlogin", b"X-Swr-Expireat")}


class HeaderCase:
    """Middleware that writes the names of SWR's response headers as SWR documents them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    # Not a coroutine: one more would cost time in each step of every request.
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        def send_spelled(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [(_SPELLED.get(name, name), value) for name, value in message.get("headers", ())]
            return send(message)

        return self._app(scope, receive, send_spelled)
