"""Count the requests of the API and the console by the template of their path, which only the router knows."""

import time
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagferry.metrics import HTTP_REQUESTS, HTTP_SECONDS, ROUTE_UNKNOWN

_ROUTE, _ROUTED = "counted_route", "counted_scope"
"""The keys in `scope["state"]`, which all copies of a scope share: the template, and the scope that has it so far."""
_CLASSES = ("", "1xx", "2xx", "3xx", "4xx", "5xx")


class Routed:
    """Middleware directly around a router, which remembers the route of each request for `RequestCounts`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.get("state")
        if state is None or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state[_ROUTED] = scope
        try:
            await self._app(scope, receive, send)
        finally:
            # A deadline may answer later. A scope that refers to itself would stay until a garbage collection.
            state[_ROUTE] = _template(state.pop(_ROUTED))


class RequestCounts:
    """Middleware that counts requests when their response begins.

    Args:
        app: the application behind it.
        route: the route of all requests; None if a router behind it knows them.
    """

    def __init__(self, app: ASGIApp, route: str | None = None) -> None:
        self._app = app
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state, method, begun = scope.setdefault("state", {}), scope["method"], time.perf_counter()
        has_begun = False

        def count(status: int) -> None:
            nonlocal has_begun
            has_begun = True
            route = self._route or state.get(_ROUTE) or _template(state.get(_ROUTED) or {})
            HTTP_REQUESTS.at((route, method, _CLASSES[status // 100])).value += 1
            HTTP_SECONDS.at((route, method)).observe(time.perf_counter() - begun)

        def counting(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                count(message["status"])
            return send(message)

        try:
            await self._app(scope, receive, counting)
        except Exception:
            if not has_begun:
                count(500)
            raise


def _template(scope: Scope) -> str:
    """Return the template of the route that a router has found."""
    found = getattr(scope.get("route"), "path", None)
    return found if isinstance(found, str) and found else ROUTE_UNKNOWN
