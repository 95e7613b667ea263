"""A registry without optional features, in front of a real one."""

from typing import Any


class BareRegistry:
    """Refuses HEAD and mounts, and ignores ranges and conditions.

    Args:
        app: the ASGI application of a registry that supports them.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            if scope["method"] == "HEAD" or b"mount=" in scope["query_string"]:
                await send({"type": "http.response.start", "status": 405, "headers": [(b"content-length", b"0")]})
                await send({"type": "http.response.body", "body": b""})
                return
            kept = [header for header in scope["headers"] if header[0] not in (b"range", b"if-none-match")]
            scope = {**scope, "headers": kept}
        await self._app(scope, receive, send)
