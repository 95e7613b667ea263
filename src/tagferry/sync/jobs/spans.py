"""The span of a job in the trace of its request."""

from datetime import UTC, datetime

from structlog.contextvars import bind_contextvars

from tagferry import tracing
from tagferry.sync.jobs.model import JobStatus, JobUpdate, SyncJob
from tagferry.tracing import RootSpan


def begin_span(job: SyncJob) -> RootSpan | None:
    """Begin the span of an attempt of a job; None if traces are off. It must be ended."""
    if tracing.tracer is None:
        return None
    started = (job.started_at or datetime.now(UTC)).timestamp()
    # What a later attempt waited for is the pause after a failure, which its record has.
    queued = job.created_at.timestamp() if job.attempts <= 1 else started
    span = tracing.tracer.job(
        "sync job",
        job.trace_context,
        {
            "tagferry.job": job.id,
            "tagferry.source": f"{job.source_region}/{job.namespace}/{job.repository}",
            "tagferry.target": f"{job.target_region}/{job.target_namespace}",
            "tagferry.tag": job.tag,
            "tagferry.attempt": job.attempts,
            "tagferry.request_id": job.request_id,
        },
        queued=(queued, started),
    )
    bind_contextvars(trace_id=span.trace_id)
    return span


def describe_end(span: RootSpan, change: JobUpdate) -> None:
    """Add the result of the attempt."""
    span.set({"tagferry.status": change.status.value, "tagferry.reason": change.reason or ""})
    if change.status in (JobStatus.FAILED, JobStatus.TIMEOUT):
        span.fail(change.reason or change.status.value)
    elif change.attempt is not None:
        span.fail(change.attempt.error)
