"""Run one job: copy its tag, and record its end or its next attempt."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars, clear_contextvars

from tagferry.coordination.membership import Membership
from tagferry.coordination.worker_rows import worker_name
from tagferry.copy.engine import CopyEngine
from tagferry.copy.outcome import Outcome
from tagferry.copy.preflight import Verdict
from tagferry.copy.progress import Progress
from tagferry.db.batches import error_summary
from tagferry.errors import Expired, TagferryError
from tagferry.regions import Regions
from tagferry.sync.jobs.end_events import log_end
from tagferry.sync.jobs.ends import end_of, reason_of
from tagferry.sync.jobs.messages import JobProgress
from tagferry.sync.jobs.model import Attempt, AttemptRecord, EndReason, JobEnd, JobStatus, JobUpdate, SyncJob
from tagferry.sync.jobs.prefetch import Prefetch
from tagferry.sync.jobs.reasons import describe, failure_reason
from tagferry.sync.jobs.retries import JobRetry
from tagferry.sync.jobs.routes import route_of
from tagferry.sync.jobs.spans import begin_span, describe_end
from tagferry.sync.jobs.store import JobStore

_RETRY_SECONDS = 1.0
_TIMELINE_SECONDS = 2.0
"""Seconds between records of a running attempt's steps."""
_UNTOUCHED = Progress().state

log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class JobRun:
    """A job that runs in this process.

    Attributes:
        prefetch: what was found out about its tag when it was asked for.
        error: the error it failed with, if any.
        is_known: whether its end reflects the state of its regions.
    """

    job: SyncJob
    prefetch: Prefetch | None = None
    progress: Progress = field(default_factory=Progress)
    task: asyncio.Task[None] | None = None
    error: TagferryError | None = None
    is_known: bool = False
    seen: tuple[int, ...] = ()
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=time.monotonic)
    timeline_due: float = field(default_factory=lambda: time.monotonic() + _TIMELINE_SECONDS)
    recorded_events: int = 0

    def has_moved(self) -> bool:
        """Return whether the copy has made progress since the last call."""
        before, self.seen = self.seen, self.progress.state
        return self.seen != (before or _UNTOUCHED)

    def message(self) -> JobProgress:
        """Return the message about the progress now."""
        progress, now = self.progress, self.progress.snapshot()
        rate = round(now.bytes_per_second) if now.bytes_per_second is not None else None
        return JobProgress(
            self.job.id, progress.bytes_done, progress.bytes_total, now.blobs_done, now.blobs_total, rate
        )

    def end(self, status: JobStatus, reason: EndReason | None = None) -> JobEnd:
        """Return how to count the end of the job now; without a reason, that of the state."""
        return end_of(self.job, status, reason, seconds=time.monotonic() - self.began)

    def timeline_if_due(self) -> AttemptRecord | None:
        """Return what this attempt has done so far if that has changed; of short attempts only the end is recorded."""
        now, events = time.monotonic(), len(self.progress.timeline.events)
        if now < self.timeline_due or events == self.recorded_events:
            return None
        self.timeline_due, self.recorded_events = now + _TIMELINE_SECONDS, events
        return self.timeline()

    def timeline(self, attempt: Attempt | None = None, *, has_ended: bool = False) -> AttemptRecord:
        """Return what this attempt has done so far; `attempt` is its failure, if it failed."""
        done = self.progress.timeline
        return AttemptRecord(
            job_id=self.job.id,
            number=self.job.attempts,
            worker=worker_name(),
            started_at=self.job.started_at or self.started_at,
            ended_at=datetime.now(UTC) if has_ended else None,
            error=attempt.error if attempt is not None else None,
            next_at=attempt.next_at if attempt is not None else None,
            events=tuple(done.events),
            omitted=done.omitted,
            uploaded=done.uploaded,
            mounted=done.mounted,
            present=done.present,
        )


class Runner:
    """Runs jobs.

    Args:
        engine: copies tags.
        jobs: the job records.
        membership: this process as a worker.
        regions: every region by its id.
        retry: how jobs are retried after a registry was unavailable.
    """

    def __init__(
        self, *, engine: CopyEngine, jobs: JobStore, membership: Membership, regions: Regions, retry: JobRetry
    ) -> None:
        self._engine = engine
        self._jobs = jobs
        self._membership = membership
        self._regions = regions
        self._retry = retry

    async def run(self, run: JobRun, *, worker_id: int) -> bool:
        """Run a job and record the result; returns whether it has ended, rather than waiting for a retry."""
        job = run.job
        # The task may have been started by a request, whose fields do not belong to the job.
        clear_contextvars()
        bind_contextvars(job=job.id, user=job.operator_name, request_id=job.request_id)
        span = begin_span(job)
        try:
            change = await self._result(run)
            await self._record(change, worker_id)
            if span is not None:
                describe_end(span, change)
        finally:
            if span is not None:
                span.end()
        if change.status.has_ended:
            log_end(job, change.status, change.reason or "", error=run.error, copied=run.progress.timeline)
        return change.status.has_ended

    async def _result(self, run: JobRun) -> JobUpdate:
        try:
            return await self._copy(run)
        except Exception as error:
            log.exception("a sync job failed unexpectedly", tag=run.job.tag)
            reason = f"internal error ({type(error).__name__}); see the server's log"
            return JobUpdate(run.job.id, JobStatus.FAILED, reason, end=run.end(JobStatus.FAILED, EndReason.INTERNAL))

    async def _record(self, change: JobUpdate, worker_id: int) -> None:
        """Record the result, retrying until this worker is stopped; another worker then finds the tag up to date."""
        while True:
            try:
                return await self._jobs.end(change, worker_id=worker_id)
            except Exception as error:
                log.warning("could not record the end of a sync job yet", reason=error_summary(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _copy(self, run: JobRun) -> JobUpdate:
        job, prefetch = run.job, run.prefetch
        try:
            async with asyncio.timeout(_seconds_left(job)) as deadline:
                outcome = await self._engine.copy(
                    route_of(self._regions, job),
                    job.tag,
                    override=job.override,
                    finding=prefetch.finding if prefetch else None,
                    plan=prefetch.plan if prefetch else None,
                    progress=run.progress,
                    before_tag=self._require_lease,
                    # Content that the preflight check found missing may not be part of the tag's own manifest.
                    thorough=True,
                    is_last=partial(self._retry.is_over, job),
                )
        except TimeoutError:
            if not deadline.expired():
                raise
            last = f"; the last error was: {job.last_error}" if job.failures else ""
            return _ended(run, JobStatus.TIMEOUT, f"the request's deadline passed{last}")
        except TagferryError as error:
            run.error, run.is_known = error, True
            attempt = self._retry.failed(job, error, bytes_done=run.progress.bytes_done)
            if attempt is not None and attempt.next_at is not None:
                seconds = round((attempt.next_at - attempt.failed_at).total_seconds(), 1)
                log.warning(
                    "scheduled a retry of a tag",
                    tag=job.tag,
                    failures=attempt.number,
                    seconds=seconds,
                    reason=attempt.error,
                )
                return _changed(run, JobStatus.WAITING, attempt=attempt)
            status = JobStatus.TIMEOUT if isinstance(error, Expired) else JobStatus.FAILED
            return _ended(run, status, failure_reason(error, attempt), attempt=attempt, cause=reason_of(error))
        run.is_known = True
        if outcome.verdict is Verdict.COPY and (rewritten := outcome.rewritten) is not None:
            log.info(
                "rewrote an image for its target region",
                tag=job.tag,
                region=job.target_region,
                digests=dict(rewritten.digests),
                left_behind=list(rewritten.left_behind),
            )
        status, reason = describe(outcome.verdict, outcome.rewritten, outcome.gaps)
        return _ended(run, status, reason, outcome)

    async def _require_lease(self) -> None:
        """Block the tag write if this worker no longer holds its lease; its jobs are then about to be cancelled."""
        if not await self._membership.holds_lease():
            await asyncio.get_running_loop().create_future()


def _seconds_left(job: SyncJob) -> float | None:
    return None if job.deadline_at is None else (job.deadline_at - datetime.now(UTC)).total_seconds()


def _ended(
    run: JobRun,
    status: JobStatus,
    reason: str,
    outcome: Outcome | None = None,
    attempt: Attempt | None = None,
    cause: EndReason | None = None,
) -> JobUpdate:
    end = run.end(status, cause)
    if outcome is None:
        return _changed(run, status, reason=reason, attempt=attempt, end=end)
    return _changed(
        run,
        status,
        reason=reason,
        digest=outcome.digest,
        rewritten=outcome.rewritten,
        search_error=outcome.gaps.unfinished if status is JobStatus.SUCCESS else None,
        end=end,
    )


def _changed(run: JobRun, status: JobStatus, *, attempt: Attempt | None = None, **changes: Any) -> JobUpdate:
    progress = run.progress
    return JobUpdate(
        run.job.id,
        status,
        bytes_done=progress.bytes_done,
        bytes_total=progress.bytes_total,
        attempt=attempt,
        timeline=run.timeline(attempt, has_ended=True),
        **changes,
    )
