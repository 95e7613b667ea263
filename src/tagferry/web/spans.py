"""The span of a request, with which a trace begins, or continues that of its client."""

import re

import structlog
from starlette.types import Scope

from tagferry import bounds
from tagferry.names import RegionId
from tagferry.tracing import RootSpan, Tracer
from tagferry.web.operations import operation_of

_PROBES = frozenset({"/healthz", "/readyz"})
_OF_REGISTRY = re.compile(r"/v2/.+/(manifests|blobs/uploads|blobs|tags|referrers)(?:/.*)?", re.DOTALL)
_READ = "read"


def begin_span(tracer: Tracer, scope: Scope, region: RegionId) -> RootSpan | None:
    """Begin the span of a request; None for probes. It must be ended."""
    method, path = scope["method"], scope["path"][: bounds.AUDITED_PATH_CHARACTERS]
    if path in _PROBES:
        return None
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    span = tracer.request(
        f"{method} {_kind(method, path)}",
        headers,
        {
            "http.request.method": method,
            "url.path": path,
            "tagferry.region": region,
            "tagferry.request_id": scope["state"]["request_id"],
        },
    )
    structlog.contextvars.bind_contextvars(trace_id=span.trace_id)
    return span


def end_span(span: RootSpan, *, status: int, user: str) -> None:
    """End the span of a request.

    Args:
        span: the span.
        status: the status of the response; 0 if the client left before it began.
        user: the name of the authenticated caller; empty if there is none.
    """
    span.set({"http.response.status_code": status} if status else {"tagferry.client_left": True})
    if user:
        span.set({"user.name": user})
        span.confirm()
    if status >= 500:
        span.fail(f"answered {status}")
    span.end()


def _kind(method: str, path: str) -> str:
    """Return what a request asks for, without names: there must not be many different names of spans."""
    words = operation_of(method, path).words
    if words and words != _READ:
        return words
    if path.startswith("/v2/manage/"):
        return "/v2/manage"
    if (found := _OF_REGISTRY.fullmatch(path)) is not None:
        return f"/v2/{{name}}/{found[1]}"
    return "/" + path.split("/", 2)[1][:20] if path.startswith(("/v2", "/v3", "/console")) else "/"
