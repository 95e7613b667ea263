"""The ends of jobs: who is notified of them, and how they are counted.

Each end is counted by the process that records it, once its transaction has been committed, so that the sums of all
processes are what the database has.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime

from sqlalchemy import event
from sqlalchemy.orm import Session

from tagferry.errors import (
    Conflict,
    Corrupt,
    Denied,
    Expired,
    Invalid,
    NotFound,
    Refused,
    StorageUnavailable,
    TagferryError,
    Unauthenticated,
    Unavailable,
    Unsupported,
    Untrusted,
)
from tagferry.metrics import JOB_QUEUE_SECONDS, JOB_SECONDS, JOBS_ENDED, REPOSITORY_JOBS_ENDED
from tagferry.sync.jobs.end_events import Ended
from tagferry.sync.jobs.model import EndReason, JobEnd, JobStatus, NewJob, SyncJob, SyncRequest

# Subclasses before their base classes.
_BY_ERROR: tuple[tuple[type[TagferryError] | tuple[type[TagferryError], ...], EndReason], ...] = (
    (StorageUnavailable, EndReason.STORAGE),
    (Untrusted, EndReason.UNTRUSTED),
    (Expired, EndReason.DEADLINE),
    (Unavailable, EndReason.UNAVAILABLE),
    ((Refused, Denied, Unauthenticated), EndReason.DENIED),
    (NotFound, EndReason.NOT_FOUND),
    (Conflict, EndReason.CONFLICT),
    (Unsupported, EndReason.UNSUPPORTED),
    (Corrupt, EndReason.CORRUPT),
    (Invalid, EndReason.INVALID),
)
_BY_STATUS = {
    JobStatus.SUCCESS: EndReason.NONE,
    JobStatus.EXISTED: EndReason.CONFLICT,
    JobStatus.TIMEOUT: EndReason.DEADLINE,
    JobStatus.CANCEL: EndReason.CANCELLED,
    JobStatus.FAILED: EndReason.NOT_FOUND,
}
"""The reasons of the states in which a job ends without an error; it fails then because the tag does not exist."""


def reason_of(error: TagferryError) -> EndReason:
    """Return the reason of a job that ends because of an error."""
    if isinstance(error, Unavailable) and error.unresponsive is not None:
        return EndReason.UNRESPONSIVE
    return next((reason for kind, reason in _BY_ERROR if isinstance(error, kind)), EndReason.INTERNAL)


def end_of(job: SyncJob, status: JobStatus, reason: EndReason | None, *, seconds: float) -> JobEnd:
    """Return the end of a job that ran here for so many seconds; without a reason, that of its state."""
    name = f"{job.namespace}/{job.repository}"
    cause = reason or _BY_STATUS[status]
    return JobEnd(job.id, job.source_region, job.target_region, name, status, cause, seconds)


def ends_of(rows: Iterable[Ended], status: JobStatus, reason: EndReason | None = None) -> list[JobEnd]:
    """Return the ends of the jobs in these rows of `end_events.ENDED`, in the order of their ids."""
    cause = reason or _BY_STATUS[status]
    return [
        JobEnd(row.id, row.source_region, row.target_region, f"{row.namespace}/{row.repository}", status, cause)
        for row in sorted(rows, key=lambda row: row.id)
    ]


def ends_at_once(request: SyncRequest, new_jobs: Iterable[NewJob]) -> list[JobEnd]:
    """Return the ends of the new jobs that are recorded as ended, because there is nothing to do."""
    name = f"{request.namespace}/{request.repository}"
    return [
        JobEnd(0, request.source_region, request.target_region, name, new_job.status, _BY_STATUS[new_job.status])
        for new_job in new_jobs
        if new_job.status.has_ended
    ]


def count_on_commit(session: Session, ends: Collection[JobEnd]) -> None:
    """Count ends once the session has been committed."""
    if ends:
        event.listen(session, "after_commit", lambda _session: _count(ends), once=True)


def count_start(job: SyncJob) -> None:
    """Count a job that a worker has claimed."""
    if job.attempts == 1:
        # The clocks of two machines may differ.
        waited = max(0.0, (datetime.now(UTC) - job.created_at).total_seconds())
        JOB_QUEUE_SECONDS.labels(target_region=job.target_region).observe(waited)


def _count(ends: Iterable[JobEnd]) -> None:
    for end in ends:
        JOBS_ENDED.at((end.source_region, end.target_region, end.status.value, end.reason.value)).inc()
        if REPOSITORY_JOBS_ENDED.is_enabled:
            REPOSITORY_JOBS_ENDED.at((end.repository, end.target_region, end.status.value)).inc()
        if end.seconds is not None:
            JOB_SECONDS.at((end.target_region, end.status.value)).observe(end.seconds)
