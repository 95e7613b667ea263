"""Protection of browsers: headers of every page, and no changes on behalf of other sites."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagferry.registry.api.asgi import origin
from tagferry.web.console.failures import Failures
from tagferry.web.console.translation import translatable

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_READING = frozenset({"GET", "HEAD"})
_FOREIGN = translatable("the request came from another site; open the console itself, and try again there")
_STEP = translatable("Open the console by its own address.")


class Protection:
    """Middleware that refuses changes which another site or address has initiated, and sets the headers of pages.

    Browsers say where a request comes from in `Sec-Fetch-Site`; they omit it for addresses without TLS, other than
    loopback, where `Origin` says so.

    Args:
        app: the application behind it.
        failures: renders errors.
        public_url: the address of this region for clients, if one is configured.
    """

    def __init__(self, app: ASGIApp, failures: Failures, public_url: str | None) -> None:
        self._app = app
        self._failures = failures
        self._public_origin = _origin(public_url or "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["method"] in _READING or self._is_own(scope):
            await self._app(scope, receive, send_protected)
            return
        refused = self._failures.of_status(403, _FOREIGN, scope, step=_STEP)
        await refused(scope, receive, send_protected)

    def _is_own(self, scope: Scope) -> bool:
        """Return whether a page of this console has initiated a request."""
        headers = Headers(scope=scope)
        sites, origins = headers.getlist("sec-fetch-site"), headers.getlist("origin")
        if sites:
            return sites == ["same-origin"]
        own = _origin(origin(scope["scheme"], headers.get("host", "")) or "")
        return len(origins) == 1 and _origin(origins[0]) in {own, self._public_origin} - {None}


def _origin(url: str) -> tuple[str, str, int | None] | None:
    """Return the scheme, host and port of a URL; None if it has none."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname, port) if parts.scheme in ("http", "https") and parts.hostname else None
