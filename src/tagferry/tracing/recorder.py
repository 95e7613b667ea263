"""Record spans with OpenTelemetry, and send them to a collector by OTLP over HTTP.

Only this module imports OpenTelemetry, and only `tagferry.app` imports this module, if traces are on.
"""

import asyncio
import os
import random
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
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
class _Part:
    """State that the spans of a request or job in this process share.

    Attributes:
        left: the number of spans that it may still have.
        left_out: the number of those that were left out.
        held: the spans that have ended while it is open whether they are recorded; None once it is decided.
        is_dropped: whether its spans are dropped.
    """

    left: int = bounds.SPANS
    left_out: int = 0
    held: list[Any] | None = None
    is_dropped: bool = False


_part: ContextVar[_Part | None] = ContextVar("part of a trace", default=None)


class _Gate(SpanProcessor):  # type: ignore[misc]  # its types are not loaded
    """Passes on the spans that have ended, but holds back those of which it is open whether they are recorded.

    Args:
        processor: gets the spans.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def on_end(self, span: Any) -> None:
        """Pass on a span, unless its request holds or drops its spans."""
        part = _part.get()
        if part is not None and part.held is not None:
            part.held.append(span)
        elif part is None or not part.is_dropped:
            self._processor.on_end(span)

    def release(self, part: _Part) -> None:
        """Pass on the spans that were held."""
        held, part.held = part.held or [], None
        for span in held:
            self._processor.on_end(span)


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
    """The span of a request or job, current until it ends.

    Args:
        span: the span.
        gate: gets the spans below it.
        is_confirmed: whether they are recorded in any case.
    """

    __slots__ = ("_gate", "_is_confirmed", "_part", "_tokens")

    def __init__(self, span: Any, gate: _Gate, *, is_confirmed: bool = True) -> None:
        super().__init__(span)
        self._gate = gate
        self._is_confirmed = is_confirmed
        self._part = _Part(held=None if is_confirmed else [])
        self._tokens = contexts.attach(trace.set_span_in_context(span)), _part.set(self._part)

    @property
    def trace_id(self) -> str:
        return format(self._span.get_span_context().trace_id, "032x")

    def confirm(self) -> None:
        self._is_confirmed = True

    def end(self) -> None:
        if self._part.left_out:
            self._span.set_attribute("tagferry.spans_left_out", self._part.left_out)
        context, part = self._tokens
        contexts.detach(context)
        _part.reset(part)
        if self._is_confirmed:
            self._gate.release(self._part)
            self._span.end()
        else:
            # What does not end is not recorded.
            self._part.held, self._part.is_dropped = None, True


class Recorder:
    """Records spans.

    Args:
        provider: makes the spans.
        gate: gets the spans that have ended.
        sample_ratio: as for `recording`.
        propagates: whether requests to registries carry the context of their trace.
    """

    def __init__(self, provider: Any, gate: _Gate, *, sample_ratio: float, propagates: bool = False) -> None:
        self._tracer = provider.get_tracer("tagferry", __version__)
        self._gate = gate
        self._sample_ratio = sample_ratio
        self._propagator = TraceContextTextMapPropagator()
        self.propagates = propagates

    def request(self, name: str, headers: Mapping[str, str], attributes: Attributes) -> RootSpan:
        """Implement `Tracer.request`."""
        carrier = {name: headers[name] for name in (_PARENT, _STATE) if name in headers}
        parent = self._propagator.extract(carrier, contexts.Context())
        span = self._tracer.start_span(name, parent, kind=trace.SpanKind.SERVER, attributes=_clean(attributes))
        is_requested = trace.get_current_span(parent).get_span_context().trace_flags.sampled
        # At random, since the client has chosen the trace's id.
        is_sampled = not is_requested or random.random() < self._sample_ratio  # noqa: S311 - no secret
        return _Root(span, self._gate, is_confirmed=is_sampled)

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
        return _Root(span, self._gate)

    def span(
        self, name: str, attributes: Attributes, *, is_client: bool = False, is_essential: bool = False
    ) -> AbstractContextManager[Span]:
        """Implement `Tracer.span`."""
        if not trace.get_current_span().is_recording():
            return NOTHING
        part = _part.get()
        if part is not None and not is_essential:
            if part.left <= 0:
                part.left_out += 1
                return NOTHING
            part.left -= 1
        return self._child(name, attributes, trace.SpanKind.CLIENT if is_client else trace.SpanKind.INTERNAL)

    @contextmanager
    def _child(self, name: str, attributes: Attributes, kind: Any) -> Iterator[Span]:
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
        sample_ratio: the share of the traces that begin here and are recorded. An authenticated client decides itself.
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
    gate = _Gate(processor)
    provider.add_span_processor(gate)
    tracing.tracer = Recorder(provider, gate, sample_ratio=sample_ratio, propagates=propagates)
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
