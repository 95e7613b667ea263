"""A collector of traces on loopback, which accepts OTLP over HTTP and keeps the spans in memory."""

import gzip
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class CollectedSpan:
    """A span.

    Attributes:
        id: 16 hexadecimal digits.
        parent: the id of its parent; empty for the first span of a trace.
        kind: such as `SERVER`.
        begin: when it began, in seconds since the epoch.
        end: when it ended.
        error: why it failed; None if it did not.
        process: the process that recorded it.
    """

    name: str
    trace: str
    id: str
    parent: str
    kind: str
    begin: float
    end: float
    attributes: Mapping[str, Any]
    error: str | None
    process: str


@dataclass
class TraceCollector:
    """A running collector.

    Attributes:
        spans: all spans so far.
        headers: those of the last request.
        status: what it answers; with another status than 200, spans are dropped.
    """

    url: str = ""
    spans: list[CollectedSpan] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    requests: int = 0

    def named(self, name: str) -> list[CollectedSpan]:
        """Return the spans of this name."""
        return [span for span in self.spans if span.name == name]

    def unconnected(self) -> list[CollectedSpan]:
        """Return the spans whose parent was not collected, apart from the first spans of traces."""
        known = {span.id for span in self.spans}
        return [span for span in self.spans if span.parent and span.parent not in known]


def spans_of(content: bytes) -> Iterator[CollectedSpan]:
    """Parse the body of an export request."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

    for resource in ExportTraceServiceRequest.FromString(content).resource_spans:
        process = {one.key: _value(one.value) for one in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield CollectedSpan(
                    name=span.name,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    begin=span.start_time_unix_nano / 1e9,
                    end=span.end_time_unix_nano / 1e9,
                    attributes={one.key: _value(one.value) for one in span.attributes},
                    error=span.status.message if span.status.code == Status.STATUS_CODE_ERROR else None,
                    process=process.get("service.instance.id", ""),
                )


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


@contextmanager
def trace_collector() -> Iterator[TraceCollector]:
    """Run a collector, in threads of its own."""
    collector = TraceCollector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.requests += 1
            collector.headers = {name.lower(): value for name, value in self.headers.items()}
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            elif self.headers.get("Content-Encoding") == "deflate":
                body = zlib.decompress(body)
            if self.path == "/v1/traces" and collector.status == 200:
                collector.spans += spans_of(body)
            self.send_response(collector.status if self.path == "/v1/traces" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
