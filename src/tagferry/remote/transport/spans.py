"""The span of one request to a registry."""

from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from tagferry.remote.transport.call import Call
from tagferry.tracing import Span, Tracer


def request_span(tracer: Tracer, registry: str, call: Call, url: str) -> AbstractContextManager[Span]:
    """Return the span of a request; without the query of its URL, which may be signed.

    Args:
        tracer: records it.
        registry: the registry's name.
        call: the request.
        url: where it is sent.
    """
    parts = urlsplit(url)
    attributes = {
        "http.request.method": call.method,
        "server.address": parts.hostname or "",
        "url.path": parts.path,
        "tagferry.registry": registry,
        "tagferry.task": call.task,
    }
    return tracer.span(call.method, attributes, is_client=True)


def describe_response(span: Span, status: int) -> None:
    """Add the status of the response; a failure of the server fails the span."""
    span.set({"http.response.status_code": status})
    if status >= 500:
        span.fail(f"the registry answered {status}")
