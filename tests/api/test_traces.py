"""Requests and jobs are traced if the configuration names a collector, and nothing depends on the collector."""

import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from sqlalchemy import text
from structlog.testing import capture_logs

from tagferry import tracing
from tagferry.names import Tag
from tests.support.deployment import NORTH, RELEASE, Deployment, deployed, name_in
from tests.support.images import image, push
from tests.support.trace_collector import TraceCollector, trace_collector

pytest.importorskip("opentelemetry.sdk.trace")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

APP = name_in("team")
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector() -> Iterator[TraceCollector]:
    with trace_collector() as running:
        yield running


@asynccontextmanager
async def traced(folder: Path, collector: TraceCollector, **settings: object) -> AsyncIterator[Deployment]:
    """Run tagferry with a collector; when the context has exited, the collector has all spans."""
    async with deployed(folder / "data", tracing={"endpoint": collector.url, **settings}) as ferry:
        yield ferry


async def synchronize(ferry: Deployment) -> int:
    """Synchronize a tag; returns the id of its job."""
    await push(ferry.store(NORTH), APP, image(), Tag("v1"))
    (job,) = await ferry.start_sync(APP, [Tag("v1")], RELEASE)
    await ferry.ended_jobs(APP, [job])
    return job


async def test_the_context_is_recorded_with_the_job(tmp_path: Path, collector: TraceCollector):
    async with traced(tmp_path, collector) as ferry:
        job_id = await synchronize(ferry)
        async with ferry.app.accounts.database.read() as session:
            statement = text("SELECT trace_context FROM sync_jobs WHERE id = :id")
            stored = str(await session.scalar(statement, {"id": job_id}))
    (request,) = collector.named("POST synchronize images")
    (job,) = collector.named("sync job")
    assert stored.startswith(f"00-{request.trace}-")
    assert (job.trace, job.attributes["tagferry.job"]) == (request.trace, job_id)
    assert (request.attributes["user.name"], request.attributes["http.response.status_code"]) == ("admin", 202)
    # The parent of the recorded span is a span of the request.
    assert collector.unconnected() == []


async def test_without_a_collector_a_job_has_no_context(ferry: Deployment):
    await synchronize(ferry)
    async with ferry.app.accounts.database.read() as session:
        assert await session.scalar(text("SELECT trace_context FROM sync_jobs")) is None
    assert tracing.tracer is None


async def test_the_trace_of_a_client_is_continued_and_probes_have_none(tmp_path: Path, collector: TraceCollector):
    async with traced(tmp_path, collector) as ferry:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        for path in ("/readyz", "/v2/team/app/manifests/v1", "/v2/manage/namespaces", "/v2/"):
            await ferry.http("GET", path, headers=headers)
    found = [(span.name, span.kind, span.parent) for span in collector.spans if span.trace == TRACE]
    assert sorted(found) == [
        ("GET /v2", "SERVER", PARENT),
        ("GET /v2/manage", "SERVER", PARENT),
        ("GET /v2/{name}/manifests", "SERVER", PARENT),
    ]


async def test_only_an_authenticated_client_decides_that_its_request_is_recorded(
    tmp_path: Path, collector: TraceCollector
):
    sampled = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    async with traced(tmp_path, collector, sample_ratio=0.0) as ferry:
        password = encoded("admin", "wrong")
        for headers in ({}, {"X-Auth-Token": "forged"}, {"Authorization": f"Basic {password}"}):
            await ferry.http("GET", "/v2/manage/namespaces", headers={**sampled, **headers})
            await ferry.http("GET", "/v2/team/app/manifests/v1", headers={**sampled, **headers})
        token = await ferry.token()
        await ferry.http("GET", "/v2/manage/namespaces", headers={"X-Auth-Token": token})
        await ferry.http("GET", "/v2/manage/namespaces", headers={**sampled, "X-Auth-Token": token})
        password = encoded(ferry.admin.name, ferry.admin.password)
        await ferry.http("GET", "/v2/", headers={**sampled, "Authorization": f"Basic {password}"})

    found = [(span.name, span.trace, span.attributes.get("user.name")) for span in collector.spans]
    assert sorted(found) == [("GET /v2", TRACE, "admin"), ("GET /v2/manage", TRACE, "admin")]


def encoded(name: str, password: str) -> str:
    return base64.b64encode(f"{name}:{password}".encode()).decode()


async def test_the_lines_of_a_request_name_its_trace(tmp_path: Path, collector: TraceCollector):
    async with traced(tmp_path, collector) as ferry:
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
            await ferry.http("GET", "/v2/manage/namespaces", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert [line["trace_id"] for line in lines if line["event"] == "request ended"] == [TRACE]


async def test_headers_for_the_collector_come_from_a_file(tmp_path: Path, collector: TraceCollector):
    file = tmp_path / "headers"
    file.write_text("# for the collector\nAuthorization=Bearer secret=of the collector\n\nx-tenant = images\n")
    async with traced(tmp_path, collector, headers_file=file) as ferry:
        await ferry.http("GET", "/v2/manage/namespaces")
    assert collector.headers["authorization"] == "Bearer secret=of the collector"
    assert collector.headers["x-tenant"] == "images"


async def test_a_collector_that_refuses_spans_is_logged_and_delays_nothing(tmp_path: Path, collector: TraceCollector):
    collector.status = 400
    with capture_logs() as lines:
        async with traced(tmp_path, collector) as ferry:
            await synchronize(ferry)
    assert (collector.requests > 0, collector.spans) == (True, [])
    logged = [line for line in lines if line["event"] == "could not send traces"]
    assert [line["endpoint"] for line in logged] == [f"{collector.url}/v1/traces"]


async def test_no_span_has_a_secret(tmp_path: Path, collector: TraceCollector):
    async with traced(tmp_path, collector) as ferry:
        token = await ferry.token()
        await ferry.http("GET", f"/v2/manage/namespaces?token={token}", headers={"X-Auth-Token": token})
        await synchronize(ferry)
    shown = str(collector.spans)
    for secret in (token, ferry.admin.password, ferry.admin.key.secret_key):
        assert secret not in shown
