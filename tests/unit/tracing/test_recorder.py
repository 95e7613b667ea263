"""Spans are recorded within bounds and without secrets, and continue the traces of callers."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tagferry import bounds, tracing
from tagferry.tracing import Tracer

pytest.importorskip("opentelemetry.sdk.trace")

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tagferry.tracing.recorder import recording

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


class Recorded:
    """The spans that have ended."""

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter

    @property
    def spans(self) -> list[Any]:
        """All spans, in the order of their ends."""
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> Any:
        """The only span of this name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    exporter = InMemorySpanExporter()
    with recording(SimpleSpanProcessor(exporter)):
        yield Recorded(exporter)


@pytest.fixture
def tracer(recorded: Recorded) -> Tracer:
    assert recorded.spans == []
    assert tracing.tracer is not None
    return tracing.tracer


def trace_of(span: Any) -> str:
    return format(span.context.trace_id, "032x")


def test_without_a_collector_nothing_is_recorded():
    assert tracing.tracer is None
    with tracing.span("blob", {"tagferry.digest": "sha256:0"}) as span:
        span.set({"tagferry.outcome": "mounted"})
        span.fail("never")
    assert tracing.context() is None


def test_a_trace_begins_with_a_request_and_has_its_parts(recorded: Recorded, tracer: Tracer):
    request = tracer.request("POST synchronize images", {}, {"url.path": "/v2"})
    with tracing.span("plan"), tracing.span("blob") as blob:
        blob.set({"tagferry.outcome": "mounted"})
    request.end()

    assert recorded.names == ["blob", "plan", "POST synchronize images"]
    blob_span, plan, top = recorded.spans
    assert (blob_span.parent.span_id, plan.parent.span_id) == (plan.context.span_id, top.context.span_id)
    assert top.parent is None
    assert {trace_of(span) for span in recorded.spans} == {request.trace_id}
    assert (blob_span.attributes["tagferry.outcome"], top.attributes["url.path"]) == ("mounted", "/v2")
    assert top.resource.attributes["service.name"] == "tagferry"


def test_the_trace_of_a_caller_is_continued(recorded: Recorded, tracer: Tracer):
    request = tracer.request("GET", {"traceparent": SAMPLED, "tracestate": "vendor=1", "cookie": "x"}, {})
    assert request.trace_id == TRACE
    assert tracing.context() is not None
    stored = str(tracing.context())
    request.end()

    assert recorded.named("GET").parent.span_id == int(PARENT, 16)
    assert stored.startswith(f"00-{TRACE}-")
    assert stored.endswith("-01 vendor=1")


@pytest.mark.parametrize(
    "header", ["", "nonsense", "00-0-0-01", f"00-{'0' * 32}-{PARENT}-01", "\x00" * 55, "a" * 60_000]
)
def test_a_malformed_context_begins_a_new_trace(recorded: Recorded, tracer: Tracer, header: str):
    tracer.request("GET", {"traceparent": header}, {}).end()

    assert recorded.named("GET").parent is None


def test_a_caller_that_does_not_sample_costs_no_spans(recorded: Recorded, tracer: Tracer):
    request = tracer.request("GET", {"traceparent": UNSAMPLED}, {})
    with tracing.span("plan"):
        stored = tracing.context()
    request.end()
    tracer.job("sync job", stored, {}, queued=(1.0, 2.0)).end()

    assert recorded.spans == []
    assert stored is not None
    assert stored.endswith("-00")


@contextmanager
def recording_share(sample_ratio: float) -> Iterator[tuple[Recorded, Tracer]]:
    exporter = InMemorySpanExporter()
    with recording(SimpleSpanProcessor(exporter), sample_ratio=sample_ratio):
        assert tracing.tracer is not None
        yield Recorded(exporter), tracing.tracer
    assert tracing.tracer is None


def test_only_a_share_of_new_traces_is_recorded():
    with recording_share(0.0) as (recorded, tracer):
        tracer.request("GET", {}, {}).end()
        with tracing.span("plan"):
            pass

    assert recorded.spans == []


def test_a_client_that_is_not_authenticated_cannot_have_its_request_recorded():
    with recording_share(0.0) as (recorded, tracer):
        request = tracer.request("GET", {"traceparent": SAMPLED}, {})
        with tracing.span("plan"):
            pass
        request.end()

    assert recorded.spans == []


def test_an_authenticated_client_decides_whether_its_request_is_recorded():
    with recording_share(0.0) as (recorded, tracer):
        request = tracer.request("POST", {"traceparent": SAMPLED}, {})
        with tracing.span("plan"):
            stored = tracing.context()
        assert recorded.spans == []
        request.confirm()
        request.end()
        tracer.job("sync job", stored, {}, queued=(1.0, 2.0)).end()

    assert recorded.names == ["plan", "POST", "queue", "sync job"]
    assert {trace_of(span) for span in recorded.spans} == {TRACE}


@pytest.mark.parametrize(("drawn", "count"), [(0.4, 1), (0.6, 0)])
def test_the_id_of_a_trace_does_not_decide_whether_the_request_of_a_stranger_is_recorded(
    monkeypatch: pytest.MonkeyPatch, drawn: float, count: int
):
    monkeypatch.setattr("random.random", lambda: drawn)
    with recording_share(0.5) as (recorded, tracer):
        # The lowest id is in every share.
        tracer.request("GET", {"traceparent": f"00-{1:032x}-{PARENT}-01"}, {}).end()

    assert len(recorded.spans) == count


async def test_work_that_outlives_a_dropped_request_is_not_recorded():
    go_on = asyncio.Event()

    async def work() -> None:
        await go_on.wait()
        with tracing.span("later"):
            pass

    with recording_share(0.0) as (recorded, tracer):
        request = tracer.request("GET", {"traceparent": SAMPLED}, {})
        working = asyncio.create_task(work())
        await asyncio.sleep(0)
        request.end()
        go_on.set()
        await working

    assert recorded.spans == []


def test_a_job_continues_the_trace_of_its_request_in_another_process(recorded: Recorded, tracer: Tracer):
    request = tracer.request("POST synchronize images", {}, {})
    stored = tracing.context()
    request.end()

    job = tracer.job("sync job", stored, {"tagferry.job": 7}, queued=(100.0, 102.5))
    with tracing.span("blob"):
        pass
    job.end()

    top, queue = recorded.named("POST synchronize images"), recorded.named("queue")
    assert job.trace_id == request.trace_id
    assert {recorded.named(name).parent.span_id for name in ("sync job", "queue")} == {top.context.span_id}
    assert (queue.start_time, queue.end_time) == (100_000_000_000, 102_500_000_000)
    assert recorded.named("blob").parent.span_id == recorded.named("sync job").context.span_id


@pytest.mark.parametrize("stored", [None, "", "nonsense", "\ud800"])
def test_a_job_without_a_context_has_a_trace_of_its_own(recorded: Recorded, tracer: Tracer, stored: str | None):
    job = tracer.job("sync job", stored, {}, queued=(1.0, 0.5))
    job.end()

    assert recorded.named("sync job").parent is None
    assert recorded.named("queue").parent.span_id == recorded.named("sync job").context.span_id


def test_a_job_with_many_blobs_has_a_bounded_number_of_spans(
    recorded: Recorded, tracer: Tracer, monkeypatch: pytest.MonkeyPatch
):
    job = tracer.job("sync job", None, {}, queued=(1.0, 2.0))
    for _ in range(bounds.SPANS + 50):
        with tracing.span("blob"), tracing.span("GET"):
            pass
    with tracing.span("write tag", is_essential=True):
        pass
    job.end()

    assert recorded.names.count("blob") + recorded.names.count("GET") == bounds.SPANS
    assert "write tag" in recorded.names
    assert recorded.named("sync job").attributes["tagferry.spans_left_out"] == bounds.SPANS + 100
    # The next one has spans again.
    another = tracer.job("another", None, {}, queued=(1.0, 2.0))
    with tracing.span("blob"):
        pass
    another.end()
    assert recorded.names[-2:] == ["blob", "another"]


def test_no_secret_and_no_control_character_gets_into_a_span(recorded: Recorded, tracer: Tracer):
    job = tracer.job("sync job", None, {"url.full": "https://user:hunter2x@host/?sig=hunter2x"}, queued=(1.0, 2.0))
    with pytest.raises(ValueError, match="hunter2x"), tracing.span("blob", {"note": "a\x1bb" + "c" * 9999}):
        raise ValueError("Authorization: Bearer hunter2x")
    job.fail("password=hunter2x")
    job.end()

    assert "hunter2x" not in str([(span.attributes, span.status.description, span.events) for span in recorded.spans])
    note = recorded.named("blob").attributes["note"]
    assert note.startswith("a\\x1bb")
    assert len(note) < 600
    assert recorded.named("blob").status.description == "Authorization: ***"


async def test_work_that_is_cancelled_has_not_failed(recorded: Recorded, tracer: Tracer):
    job = tracer.job("sync job", None, {}, queued=(1.0, 2.0))

    async def copy() -> None:
        with tracing.span("blob"):
            await asyncio.Event().wait()

    task = asyncio.create_task(copy())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    job.end()

    blob = recorded.named("blob")
    assert (blob.attributes["tagferry.cancelled"], blob.status.is_ok, blob.status.is_unset) == (True, True, True)


async def test_parts_in_tasks_of_their_own_belong_to_their_request(recorded: Recorded, tracer: Tracer):
    async def request(name: str) -> str:
        span = tracer.request(name, {}, {})

        async def part() -> None:
            with tracing.span(f"part of {name}"):
                await asyncio.sleep(0)

        await asyncio.gather(part(), part())
        span.end()
        return span.trace_id

    ids = dict(zip("ab", await asyncio.gather(*(asyncio.create_task(request(name)) for name in "ab")), strict=True))

    for span in recorded.spans:
        assert trace_of(span) == ids[span.name[-1]]


def test_a_name_from_the_environment_is_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(os.environ, "OTEL_SERVICE_NAME", "images")
    exporter = InMemorySpanExporter()
    with recording(SimpleSpanProcessor(exporter)):
        assert tracing.tracer is not None
        tracing.tracer.request("GET", {}, {}).end()
    (span,) = exporter.get_finished_spans()
    assert span.resource.attributes["service.name"] == "images"
