"""A job's row: how it is read, and how its state changes. No other module writes a job's state."""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any

import structlog
from sqlalchemy import Update, bindparam, update

from tagferry.copy.rewrite import Rewrite
from tagferry.db.columns import UtcDateTime
from tagferry.db.tables import SyncJobRow
from tagferry.metrics import RECORDS_REFUSED
from tagferry.names import Digest, Namespace, RegionId, Repository, Tag
from tagferry.sync.jobs.model import JobStatus, JobUpdate, SyncJob

OPEN = tuple(status.value for status in JobStatus if not status.has_ended)
"""The states of jobs that have not ended, as they stand in a row."""
QUEUED = SyncJobRow.next_attempt_at.is_(None)
"""Jobs that do not wait for the time of their next attempt; the index of the queue holds only these."""
NOW = bindparam("now", callable_=lambda: datetime.now(UTC), type_=UtcDateTime)
"""The time at which a statement is executed, which may have been built long before."""
UNRECORDABLE = "the job's result could not be recorded; the server's log has the reason"
"""The reason of a job whose end the database refuses."""
UNREADABLE = "the job's record is damaged; start the synchronization again"
"""The reason of a job that cannot be run because its record cannot be read."""
_REMEMBERED = 10_000
"""Damaged records that have been logged and are not logged again."""

log = structlog.get_logger(__name__)
_logged: set[int] = set()


def transition(status: JobStatus, **values: Any) -> Update:
    """Let jobs enter a state, and change these columns with it; a job whose state it may not follow stays as it is."""
    entered: dict[str, Any] = {"status": status.value, "updated_at": NOW, "next_attempt_at": None}
    if status is not JobStatus.RUNNING:
        entered["worker_id"] = None
    if status.has_ended:
        entered["ended_at"] = NOW
    allowed = [before.value for before in status.may_follow]
    return _change().where(SyncJobRow.status.in_(allowed)).values(**entered | values)


def recorded(change: JobUpdate, *, worker_id: int) -> tuple[Update, dict[str, Any]]:
    """Record a worker's report about a job that it runs: its progress, its end, or that it has to wait again.

    Returns:
        A statement and its parameters.
    """
    told: dict[str, Any] = {
        name: value
        for name in ("reason", "digest", "bytes_total", "bytes_done", "unsearched")
        if (value := getattr(change, name)) is not None
    }
    if change.rewritten is not None:
        told["rewritten"] = document(change.rewritten)
    if (attempt := change.attempt) is not None:
        told |= {"attempts": attempt.number, "failing_since": attempt.failing_since, "last_error": attempt.error}
        if attempt.next_at is not None:
            told["next_attempt_at"] = attempt.next_at
    parameters = {f"new_{name}": value for name, value in told.items()}
    return _recording(change.status, tuple(told)), {**parameters, "job": change.job_id, "worker": worker_id}


@cache
def _recording(status: JobStatus, told: tuple[str, ...]) -> Update:
    values = {name: bindparam(f"new_{name}", type_=SyncJobRow.__table__.c[name].type) for name in told}
    if status is not JobStatus.RUNNING:
        statement = transition(status, **values)
    else:
        statement = _change().where(SyncJobRow.status == JobStatus.RUNNING.value).values(updated_at=NOW, **values)
    return statement.where(SyncJobRow.id == bindparam("job"), SyncJobRow.worker_id == bindparam("worker"))


def _change() -> Update:
    # No row is held in memory that would have to follow; to find that out costs more than the statement.
    return update(SyncJobRow).execution_options(synchronize_session=False)


def readable(rows: Iterable[SyncJobRow]) -> tuple[list[SyncJob], list[int]]:
    """Return the jobs of these rows, and the ids of those rows that are damaged; each of them is logged once."""
    jobs, damaged = [], []
    for row in rows:
        try:
            jobs.append(to_job(row))
        # Whatever can be wrong with a row, it must not keep the others from being read.
        except Exception as error:
            damaged.append(row.id)
            if row.id not in _logged and len(_logged) < _REMEMBERED:
                _logged.add(row.id)
                RECORDS_REFUSED.labels(kind="job").inc()
                log.warning("skipped the damaged record of a sync job", job=row.id, reason=str(error))
    return jobs, damaged


def status_of(text: str) -> JobStatus:
    """Return the state that a row of an ended job names; an unknown one counts as failed."""
    try:
        return JobStatus(text)
    except ValueError:
        return JobStatus.FAILED


def to_job(row: SyncJobRow) -> SyncJob:
    """A row as the rest of tagferry knows it; raises what reading a damaged row raises."""
    if row.created_at is None or row.updated_at is None:
        raise ValueError("its times cannot be read")
    return SyncJob(
        id=row.id,
        request_id=row.request_id,
        created_at=row.created_at,
        updated_at=row.updated_at,
        domain_id=row.domain_id,
        domain_name=row.domain_name,
        operator_id=row.operator_id,
        operator_name=row.operator_name,
        source_region=RegionId(row.source_region),
        namespace=Namespace(row.namespace),
        repository=Repository(row.repository),
        tag=Tag(row.tag),
        target_region=RegionId(row.target_region),
        target_namespace=Namespace(row.target_namespace),
        override=row.override,
        status=JobStatus(row.status),
        reason=row.reason,
        digest=Digest(row.digest) if row.digest else None,
        bytes_total=row.bytes_total,
        bytes_done=row.bytes_done,
        rewritten=_rewritten(row.rewritten),
        starts=row.starts,
        attempts=row.attempts,
        failing_since=row.failing_since,
        next_attempt_at=row.next_attempt_at,
        last_error=row.last_error,
        is_automatic=row.priority > 0,
        deadline_at=row.deadline_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


def document(rewritten: Rewrite | None) -> dict[str, Any] | None:
    """How it is told in a row that an image differs at the target."""
    if rewritten is None:
        return None
    return {"digests": dict(rewritten.digests), "left_behind": list(rewritten.left_behind)}


def _rewritten(document: dict[str, Any] | None) -> Rewrite | None:
    if document is None:
        return None
    digests = {Digest(old): Digest(new) for old, new in document["digests"].items()}
    return Rewrite(digests=digests, left_behind=tuple(document["left_behind"]))
