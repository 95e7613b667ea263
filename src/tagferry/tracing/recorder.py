"""Record spans with OpenTelemetry, and send them to a collector by OTLP over HTTP.

Only this module imports OpenTelemetry, and only `tagferry.app` imports this module, if traces are on.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tagferry import __version__, bounds, tracing
from tagferry.printable import printable
from tagferry.redaction import redacted
from tagferry.tracing import NOTHING, Attributes, RootSpan, Span

_NANOSECONDS = 1_000_000_000
_PARENT, _STATE = "traceparent", "tracestate"
_VALUE_CHARACTERS = 500


@dataclass(slots=True)
class _Budget:
    """The spans that a request or job may still have, and the number of those that were left out."""

    left: int = bounds.SPANS
    left_out: int = 0


_budget: ContextVar[_Budget | None] = ContextVar("span budget", default=None)


class _Recording:
    """A recorded span."""

    __slots__ = ("_span",)

    def __init__(self, span: Any) -> None:
        self._span = span

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(_clean(attributes))

    def fail(self, reason: str) -> None:
        self._span.set_status(trace.StatusCode.ERROR, redacted(printable(reason, _VALUE_CHARACTERS)))


class _Root(_Recording):
    """The span of a request or job, current until it ends."""

    __slots__ = ("_budget", "_tokens")

    def __init__(self, span: Any) -> None:
        super().__init__(span)
        self._budget = _Budget()
        self._tokens = contexts.attach(trace.set_span_in_context(span)), _budget.set(self._budget)

    @property
    def trace_id(self) -> str:
        return format(self._span.get_span_context().trace_id, "032x")

    def end(self) -> None:
        if self._budget.left_out:
            self._span.set_attribute("tagferry.spans_left_out", self._budget.left_out)
        context, budget = self._tokens
        contexts.detach(context)
        _budget.reset(budget)
        self._span.end()


class Recorder:
    """Records spans.

    Args:
        provider: makes the spans.
        propagates: whether requests to registries carry the context of their trace.
    """

    def __init__(self, provider: Any, *, propagates: bool = False) -> None:
        self._tracer = provider.get_tracer("tagferry", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self.propagates = propagates

    def request(self, name: str, headers: Mapping[str, str], attributes: Attributes) -> RootSpan:
        """Implement `Tracer.request`."""
        carrier = {name: headers[name] for name in (_PARENT, _STATE) if name in headers}
        parent = self._propagator.extract(carrier, contexts.Context())
        return _Root(self._tracer.start_span(name, parent, kind=trace.SpanKind.SERVER, attributes=_clean(attributes)))

    def job(self, name: str, context: str | None, attributes: Attributes, *, queued: tuple[float, float]) -> RootSpan:
        """Implement `Tracer.job`."""
        carrier = dict(zip((_PARENT, _STATE), (context or "").split(" ", 1), strict=False))
        parent = self._propagator.extract(carrier, contexts.Context())
        span = self._tracer.start_span(name, parent, kind=trace.SpanKind.CONSUMER, attributes=_clean(attributes))
        # Without a request, the wait belongs to the job itself.
        has_parent = trace.get_current_span(parent).get_span_context().is_valid
        above = parent if has_parent else trace.set_span_in_context(span, contexts.Context())
        begin, end = (int(time * _NANOSECONDS) for time in queued)
        self._tracer.start_span("queue", above, attributes=_clean(attributes), start_time=begin).end(max(begin, end))
        return _Root(span)

    def span(
        self, name: str, attributes: Attributes, *, is_client: bool = False, is_essential: bool = False
    ) -> AbstractContextManager[Span]:
        """Implement `Tracer.span`."""
        if not trace.get_current_span().is_recording():
            return NOTHING
        budget = _budget.get()
        if budget is not None and not is_essential:
            if budget.left <= 0:
                budget.left_out += 1
                return NOTHING
            budget.left -= 1
        return self._part(name, attributes, trace.SpanKind.CLIENT if is_client else trace.SpanKind.INTERNAL)

    @contextmanager
    def _part(self, name: str, attributes: Attributes, kind: Any) -> Iterator[Span]:
        span = self._tracer.start_span(name, kind=kind, attributes=_clean(attributes))
        token = contexts.attach(trace.set_span_in_context(span))
        recording = _Recording(span)
        try:
            yield recording
        except asyncio.CancelledError:
            recording.set({"tagferry.cancelled": True})
            raise
        except Exception as error:
            recording.fail(str(error) or type(error).__name__)
            raise
        finally:
            contexts.detach(token)
            span.end()

    def context(self) -> str | None:
        """Implement `Tracer.context`."""
        carrier = self.headers()
        if _PARENT not in carrier:
            return None
        text = f"{carrier[_PARENT]} {carrier.get(_STATE, '')}".rstrip()
        return text if len(text) <= bounds.TRACE_CONTEXT_CHARACTERS else carrier[_PARENT]

    def headers(self) -> dict[str, str]:
        """Implement `Tracer.headers`."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier


@contextmanager
def recording(
    processor: Any, *, sample_ratio: float = 1.0, propagates: bool = False, **resource: str
) -> Iterator[None]:
    """Record the spans of this process while the context is open.

    Args:
        processor: gets the spans that have ended; OpenTelemetry's `SpanProcessor`. The caller shuts it down.
        sample_ratio: the share of the traces that begin here and are recorded. The caller of a request decides itself.
        propagates: whether requests to registries carry the context of their trace.
        resource: describes this process.
    """
    described: dict[str, Any] = {"service.version": __version__, **resource}
    if "OTEL_SERVICE_NAME" not in os.environ and "service.name=" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        described["service.name"] = "tagferry"
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
        resource=Resource.create(described),
        span_limits=SpanLimits(max_span_attribute_length=_VALUE_CHARACTERS),
        # The process has its own way to end them.
        shutdown_on_exit=False,
    )
    provider.add_span_processor(processor)
    tracing.tracer = Recorder(provider, propagates=propagates)
    try:
        yield
    finally:
        tracing.tracer = None


def _clean(attributes: Attributes) -> dict[str, Any]:
    """Return attributes without secrets and without control characters, since strangers choose names and paths."""
    return {
        name: redacted(printable(value, _VALUE_CHARACTERS)) if isinstance(value, str) else value
        for name, value in attributes.items()
    }
