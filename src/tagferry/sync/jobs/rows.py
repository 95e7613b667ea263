"""Reading a job's row and changing its state. No other module writes a job's state."""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any

import structlog
from sqlalchemy import ColumnElement, String, Update, bindparam, literal_column, update

from tagferry.copy.rewrite import Rewrite
from tagferry.db.columns import UtcDateTime
from tagferry.db.tables import SyncJobRow
from tagferry.metrics import RECORDS_REFUSED
from tagferry.names import Digest, Namespace, RegionId, Repository, Tag
from tagferry.sync.jobs.model import JobStatus, JobUpdate, SyncJob

OPEN = tuple(status.value for status in JobStatus if not status.has_ended)
"""The stored states of jobs that have not ended."""
_OPEN_LITERALS = tuple(literal_column(f"'{status}'", String()) for status in OPEN)
QUEUED = SyncJobRow.next_attempt_at.is_(None)
"""Jobs that do not wait for a retry time; the queue's index covers only these."""
NOW = bindparam("now", callable_=lambda: datetime.now(UTC), type_=UtcDateTime)
"""The time when the statement is executed; statements are built once and reused."""
UNRECORDABLE = "the job's result could not be recorded; the server's log has the reason"
"""The reason of a job whose result the database refuses."""
UNREADABLE = "the job's record is damaged; start the synchronization again"
"""The reason of a job that cannot run because its record cannot be read."""
_REMEMBERED = 10_000
"""Damaged records that are remembered, so that each is logged once."""

log = structlog.get_logger(__name__)
_logged: set[int] = set()


def is_open(row: type[SyncJobRow] = SyncJobRow) -> ColumnElement[bool]:
    """Return the condition that a job has not ended. As literals, so that SQLite can use the indexes of open jobs."""
    return row.status.in_(_OPEN_LITERALS)


def transition(status: JobStatus, **values: Any) -> Update:
    """Return an update that moves jobs to a state and sets these columns; jobs in other states are left unchanged."""
    entered: dict[str, Any] = {"status": status.value, "updated_at": NOW, "next_attempt_at": None}
    if status is not JobStatus.RUNNING:
        entered["worker_id"] = None
    if status.has_ended:
        entered["ended_at"] = NOW
    allowed = [before.value for before in status.may_follow]
    return _change().where(SyncJobRow.status.in_(allowed)).values(**entered | values)


def report_update(change: JobUpdate, *, worker_id: int) -> tuple[Update, dict[str, Any]]:
    """Build the update for a worker's report on a job it runs: progress, the end, or a return to waiting.

    Returns:
        A statement and its parameters.
    """
    values: dict[str, Any] = {
        name: value
        for name in ("reason", "digest", "bytes_total", "bytes_done", "search_error")
        if (value := getattr(change, name)) is not None
    }
    if change.rewritten is not None:
        values["rewritten"] = document(change.rewritten)
    if (attempt := change.attempt) is not None:
        values |= {"failures": attempt.number, "failing_since": attempt.failing_since, "last_error": attempt.error}
        if attempt.next_at is not None:
            values["next_attempt_at"] = attempt.next_at
    parameters = {f"new_{name}": value for name, value in values.items()}
    return _report_statement(change.status, tuple(values)), {**parameters, "job": change.job_id, "worker": worker_id}


@cache
def _report_statement(status: JobStatus, names: tuple[str, ...]) -> Update:
    values = {name: bindparam(f"new_{name}", type_=SyncJobRow.__table__.c[name].type) for name in names}
    if status is not JobStatus.RUNNING:
        statement = transition(status, **values)
    else:
        statement = _change().where(SyncJobRow.status == JobStatus.RUNNING.value).values(updated_at=NOW, **values)
    return statement.where(SyncJobRow.id == bindparam("job"), SyncJobRow.worker_id == bindparam("worker"))


def _change() -> Update:
    # No session holds these rows in memory, and synchronizing it would cost more than the statement.
    return update(SyncJobRow).execution_options(synchronize_session=False)


def parse_rows(rows: Iterable[SyncJobRow]) -> tuple[list[SyncJob], list[int]]:
    """Return the jobs of these rows and the ids of damaged rows; each damaged row is logged once."""
    jobs, damaged = [], []
    for row in rows:
        try:
            jobs.append(to_job(row))
        # A damaged row must not prevent the others from being read.
        except Exception as error:
            damaged.append(row.id)
            if row.id not in _logged and len(_logged) < _REMEMBERED:
                _logged.add(row.id)
                RECORDS_REFUSED.labels(kind="job").inc()
                log.warning("skipped the damaged record of a sync job", job=row.id, reason=str(error))
    return jobs, damaged


def status_of(text: str) -> JobStatus:
    """Return the stored state of an ended job; an unknown state counts as failed."""
    try:
        return JobStatus(text)
    except ValueError:
        return JobStatus.FAILED


def to_job(row: SyncJobRow) -> SyncJob:
    """Convert a row to a job; raises an exception if the row is damaged."""
    if row.created_at is None or row.updated_at is None:
        raise ValueError("created_at or updated_at cannot be read")
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
        attempts=row.attempts,
        failures=row.failures,
        failing_since=row.failing_since,
        next_attempt_at=row.next_attempt_at,
        last_error=row.last_error,
        is_automatic=row.priority > 0,
        rule_id=row.rule_id,
        queued_behind=row.queued_behind,
        blocked_by=row.blocked_by,
        deadline_at=row.deadline_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        trace_context=row.trace_context,
    )


def document(rewritten: Rewrite | None) -> dict[str, Any] | None:
    """Return the JSON form of a rewrite."""
    if rewritten is None:
        return None
    return {"digests": dict(rewritten.digests), "left_behind": list(rewritten.left_behind)}


def _rewritten(document: dict[str, Any] | None) -> Rewrite | None:
    if document is None:
        return None
    digests = {Digest(old): Digest(new) for old, new in document["digests"].items()}
    return Rewrite(digests=digests, left_behind=tuple(document["left_behind"]))
