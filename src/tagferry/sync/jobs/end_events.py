"""One log event at the end of each job."""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import structlog
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.copy.timeline import CopyTimeline
from tagferry.db.tables import SyncJobRow
from tagferry.errors import TagferryError, is_by_caller
from tagferry.sync.jobs.model import JobStatus, NewJob, SyncRequest

LOGGER = "tagferry.jobs"
EVENT = "sync job ended"
_EXPECTED = frozenset({JobStatus.SUCCESS, JobStatus.EXISTED, JobStatus.CANCEL})

ENDED = (
    SyncJobRow.id,
    SyncJobRow.request_id,
    SyncJobRow.rule_id,
    SyncJobRow.operator_name,
    SyncJobRow.source_region,
    SyncJobRow.namespace,
    SyncJobRow.repository,
    SyncJobRow.tag,
    SyncJobRow.target_region,
    SyncJobRow.target_namespace,
    SyncJobRow.status,
    SyncJobRow.reason,
    SyncJobRow.created_at,
    SyncJobRow.started_at,
    SyncJobRow.attempts,
)
"""The columns of a job that its event shows."""

log = structlog.get_logger(LOGGER)


class Route(Protocol):
    """The source and the target of a request or of its job."""

    @property
    def rule_id(self) -> int | None: ...
    @property
    def source_region(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def repository(self) -> str: ...
    @property
    def target_region(self) -> str: ...
    @property
    def target_namespace(self) -> str: ...


class Ended(Route, Protocol):
    """A job, or the columns `ENDED` of its row."""

    @property
    def id(self) -> int: ...
    @property
    def request_id(self) -> str: ...
    @property
    def operator_name(self) -> str: ...
    @property
    def tag(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def started_at(self) -> datetime | None: ...
    @property
    def attempts(self) -> int: ...


def log_end(
    job: Ended,
    status: JobStatus,
    reason: str,
    *,
    error: TagferryError | None = None,
    copied: CopyTimeline | None = None,
) -> None:
    """Log that a job has ended: as a warning if an operator may have to act, but not if its user caused the failure.

    Args:
        job: the job.
        status: its last status.
        reason: why it has this status.
        error: the error it failed with, if any.
        copied: what its last attempt did.
    """
    now = datetime.now(UTC)
    fields = _fields(
        job,
        job=job.id,
        tag=job.tag,
        status=status,
        reason=reason,
        queued_seconds=_seconds(job.created_at, job.started_at or now),
        running_seconds=_seconds(job.started_at, now),
        attempts=job.attempts,
        user=job.operator_name,
        request_id=job.request_id,
    )
    if copied is not None:
        fields["bytes_moved"] = copied.uploaded.size
        fields["bytes_mounted"] = copied.mounted.size
        fields["bytes_present"] = copied.present.size
    is_expected = status in _EXPECTED or (error is not None and is_by_caller(error))
    level: Literal["info", "warning"] = "info" if is_expected else "warning"
    getattr(log, level)(EVENT, **fields)


def log_ends_after_commit(session: AsyncSession, rows: Iterable[Any]) -> list[Any]:
    """Log that the jobs of these rows, with the columns `ENDED`, have ended, once the transaction is committed.

    Returns:
        The rows.
    """
    ended = list(rows)

    def log_all(_session: object) -> None:
        for row in ended:
            log_end(row, JobStatus(row.status), row.reason)

    if ended:
        event.listen(session.sync_session, "after_commit", log_all, once=True)
    return ended


def log_settled(request: SyncRequest, jobs: Iterable[tuple[int, NewJob]]) -> None:
    """Log the jobs that ended as they were recorded, because there was nothing to copy.

    A request may have hundreds of tags that are up to date, so these are only logged at the level `debug`.
    """
    shows_all = logging.getLogger(LOGGER).isEnabledFor(logging.DEBUG)
    for job_id, new_job in jobs:
        if not new_job.status.has_ended or (new_job.status.is_success and not shows_all):
            continue
        fields = _fields(
            request,
            job=job_id,
            tag=new_job.tag,
            status=new_job.status,
            reason=new_job.reason,
            queued_seconds=0.0,
            running_seconds=0.0,
            attempts=0,
            user=request.caller.name,
            request_id=request.id,
        )
        (log.debug if new_job.status.is_success else log.info)(EVENT, **fields)


def _fields(
    route: Route,
    *,
    job: int,
    tag: str,
    status: JobStatus,
    reason: str,
    queued_seconds: float,
    running_seconds: float,
    attempts: int,
    user: str,
    request_id: str,
) -> dict[str, Any]:
    """Return the fields that every end of a job has."""
    fields: dict[str, Any] = {
        "job": job,
        "source": f"{route.source_region}/{route.namespace}/{route.repository}",
        "target": f"{route.target_region}/{route.target_namespace}",
        "tag": tag,
        "status": status.value,
        "reason": reason,
        "queued_seconds": queued_seconds,
        "running_seconds": running_seconds,
        "attempts": attempts,
        "user": user,
        "request_id": request_id,
    }
    return fields if route.rule_id is None else {**fields, "rule": route.rule_id}


def _seconds(begin: datetime | None, end: datetime) -> float:
    """Return the seconds between two times; 0 if the first one is unknown, as in a damaged record."""
    return 0.0 if begin is None else round((end - begin).total_seconds(), 3)
