"""A synchronization is one trace, from the request over the queue to the tag in another process."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tagferry.names import Tag
from tests.support.deployment import eventually
from tests.support.images import image
from tests.support.postgres import PostgresServer
from tests.support.trace_collector import CollectedSpan, TraceCollector, trace_collector
from tests.support.traced_processes import SOUTH, two_processes

pytestmark = pytest.mark.long

pytest.importorskip("opentelemetry.sdk.trace")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[TraceCollector]:
    # Spans are sent soon.
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    with trace_collector() as running:
        yield running


def below(collector: TraceCollector, top: CollectedSpan) -> list[CollectedSpan]:
    """Return the spans whose parent is this one."""
    return [span for span in collector.spans if span.parent == top.id]


async def test_one_synchronization_through_two_processes_is_one_connected_trace(
    tmp_path: Path, collector: TraceCollector, postgres: PostgresServer
):
    async with two_processes(tmp_path, collector.url, postgres, {Tag("v1"): image(b"layer")}) as programs:
        body = {"imageTag": ["v1"], "remoteNamespace": "team", "remoteRegionId": SOUTH, "override": True}
        await asyncio.to_thread(programs.request, "team", "app", body)

        async def is_complete() -> bool:
            return bool(collector.named("sync job") and collector.named("POST synchronize images"))

        await eventually(is_complete)

    (request,) = collector.named("POST synchronize images")
    (job,) = collector.named("sync job")
    (queue,) = collector.named("queue")
    spans = [span for span in collector.spans if span.trace == request.trace]
    assert request.process != job.process
    assert (request.parent, job.parent, queue.parent) == ("", request.id, request.id)
    assert request.begin <= queue.begin <= queue.end
    # Every span of the trace is connected to the request.
    ids = {span.id for span in spans}
    assert [span for span in spans if span is not request and span.parent not in ids] == []
    parts = {span.name for span in below(collector, job)}
    assert parts >= {"plan", "blob", "verify", "write tag"}
    blobs = [span for span in spans if span.name == "blob"]
    assert {span.attributes["tagferry.outcome"] for span in blobs} == {"uploaded"}
    assert len(blobs) == 2
    (tag,) = [span for span in spans if span.name == "write tag"]
    ((method, status),) = [(span.name, span.attributes["http.response.status_code"]) for span in below(collector, tag)]
    assert (method, status) == ("PUT", 201)
    assert job.attributes["tagferry.status"] == "success"
    # The log names the trace in both processes.
    logs = [program.log.read_text() for program in programs.programs]
    assert all(f'"trace_id": "{request.trace}"' in log for log in logs)
