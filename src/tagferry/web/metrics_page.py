"""Serve the metrics of this process to Prometheus, on a listener of its own."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from tagferry.metrics import registry
from tagferry.settings import Settings
from tagferry.web.server.serve import Listener


def metrics_listeners(settings: Settings) -> tuple[Listener, ...]:
    """Return the listener for metrics, or none if `metrics_listen` is not set."""
    # Load the library now, not when something has to be counted.
    registry()
    return () if settings.metrics_listen is None else (Listener(app=_metrics, address=settings.metrics_listen),)


async def _metrics(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"  # noqa: S101
    response = _answer(Request(scope))
    await response(scope, receive, send)


def _answer(request: Request) -> Response:
    if request.url.path != "/metrics":
        return PlainTextResponse("not found; metrics are at /metrics\n", status_code=404)
    if request.method not in ("GET", "HEAD"):
        return PlainTextResponse("method not allowed; use GET\n", status_code=405, headers={"Allow": "GET, HEAD"})
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return Response(generate_latest(registry()), headers={"Content-Type": CONTENT_TYPE_LATEST})
