"""Traces of requests and jobs, if the configuration names a collector (`[tracing]`).

Without one, OpenTelemetry's SDK is not imported, and a span costs a comparison. A trace begins with a request, and
continues in the process that runs its jobs: its context is recorded with each job.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

Attributes = Mapping[str, str | int | float | bool]


class Span(Protocol):
    """A piece of work with its begin, end and attributes."""

    def set(self, attributes: Attributes) -> None:
        """Add attributes."""
        ...

    def fail(self, reason: str) -> None:
        """Mark the work as failed."""
        ...


class RootSpan(Span, Protocol):
    """The span of a request or a job in this process. It is the current span until it ends."""

    @property
    def trace_id(self) -> str:
        """The id of its trace, 32 hexadecimal digits."""
        ...

    def confirm(self) -> None:
        """Accept that a client decides whether its trace is recorded, since the client is authenticated."""
        ...

    def end(self) -> None:
        """End the work."""
        ...


class Tracer(Protocol):
    """Records spans."""

    @property
    def propagates(self) -> bool:
        """True if requests to registries carry the context of their trace."""
        ...

    def request(self, name: str, headers: Mapping[str, str], attributes: Attributes) -> RootSpan:
        """Begin the span of a request; its trace is the one that the headers name, if any (W3C Trace Context).

        If only the headers ask for the recording, the spans are held back, and dropped at its end unless the span was
        confirmed: a client that is not authenticated must not cause the cost of a trace.
        """
        ...

    def job(self, name: str, context: str | None, attributes: Attributes, *, queued: tuple[float, float]) -> RootSpan:
        """Begin the span of a job, and record its wait in the queue.

        Args:
            name: the name.
            context: the context recorded with the job; None if it has none.
            attributes: the attributes.
            queued: when it was queued and when it was started, in seconds since the epoch.
        """
        ...

    def span(
        self, name: str, attributes: Attributes, *, is_client: bool = False, is_essential: bool = False
    ) -> AbstractContextManager[Span]:
        """Return a part of the current span; nothing is recorded if that is not recorded, or has too many parts."""
        ...

    def context(self) -> str | None:
        """Return the context of the current span in the form that is recorded with a job."""
        ...

    def headers(self) -> dict[str, str]:
        """Return the headers that carry the context of the current span."""
        ...


class _Nothing:
    """A span that is not recorded."""

    def __enter__(self) -> "_Nothing":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def set(self, attributes: Attributes) -> None:
        """Drop the attributes."""

    def fail(self, reason: str) -> None:
        """Drop the reason."""


NOTHING: _Nothing = _Nothing()
"""A span that is not recorded."""

tracer: Tracer | None = None
"""Records spans in this process; None if traces are off."""

_NO_ATTRIBUTES: Attributes = {}


def span(
    name: str, attributes: Attributes = _NO_ATTRIBUTES, *, is_essential: bool = False
) -> AbstractContextManager[Span]:
    """Return a span for a part of the current request or job; it costs almost nothing if traces are off.

    Args:
        name: a short constant phrase.
        attributes: what is known at the begin.
        is_essential: whether it is recorded however many spans the request or job has.
    """
    return NOTHING if tracer is None else tracer.span(name, attributes, is_essential=is_essential)


def context() -> str | None:
    """Return the context of the current trace, to be recorded with a job; None if there is none."""
    return None if tracer is None else tracer.context()
