"""Reading a job's row and changing its state. No other module writes a job's state."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Connection, Row, String, Update, bindparam, literal_column, update

from tagferry.copy.rewrite import Rewrite
from tagferry.db.columns import UtcDateTime, free_text
from tagferry.db.json_rows import json_rows
from tagferry.db.tables import SyncJobRow
from tagferry.metrics import RECORDS_REFUSED
from tagferry.names import Digest, Namespace, RegionId, Repository, Tag
from tagferry.sync.jobs.model import JobStatus, JobUpdate, SyncJob

_TABLE: Any = SyncJobRow.__table__
JOB_COLUMNS = tuple(_TABLE.columns)
"""The columns that `parse_rows` needs. Their rows take a fraction of the time of objects of the class."""
OPEN = tuple(status.value for status in JobStatus if not status.has_ended)
"""The stored states of jobs that have not ended."""
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
_NAMES = 1000
"""Names of each kind that are remembered as checked."""

log = structlog.get_logger(__name__)
_logged: set[int] = set()
# Many jobs have the same names, and checking a name is most of the time of reading a job.
_region = lru_cache(_NAMES)(RegionId)
_namespace = lru_cache(_NAMES)(Namespace)
_repository = lru_cache(_NAMES)(Repository)


def is_open(row: type[SyncJobRow] = SyncJobRow) -> ColumnElement[bool]:
    """Return the condition that a job has not ended. As literals, so that SQLite can use the indexes of open jobs."""
    return row.status.in_(_literals(OPEN))


def transition(status: JobStatus, **values: Any) -> Update:
    """Return an update that moves jobs to a state and sets these columns; jobs in other states are left unchanged."""
    # No session holds these rows in memory, and synchronizing it would cost more than the statement.
    statement = update(SyncJobRow).execution_options(synchronize_session=False)
    return statement.where(SyncJobRow.status.in_(_may_precede(status))).values(**_entered(status) | values)


def write_updates(connection: Connection, changes: Iterable[JobUpdate], *, worker_id: int) -> list[JobUpdate]:
    """Write a worker's reports on jobs that it runs: progress, the end, or a return to waiting.

    Returns:
        The reports on jobs that were changed. Those that are no longer this worker's are left unchanged.
    """
    # Reports that change the same columns share a statement. No report changes a job that another one has ended.
    alike: dict[tuple[JobStatus, tuple[str, ...]], dict[int, tuple[JobUpdate, dict[str, Any]]]] = defaultdict(dict)
    for change in changes:
        values = _reported(change)
        alike[change.status, tuple(values)].setdefault(change.job_id, (change, {"id": change.job_id, **values}))
    written: list[JobUpdate] = []
    for (status, names), reports in alike.items():
        statement = _update(connection.dialect.name, status, names)
        # In the order of ids, so that two transactions lock their jobs in the same order.
        rows = [reports[job_id][1] for job_id in sorted(reports)]
        changed = connection.scalars(statement, {"reports": rows, "worker": worker_id})
        written += [reports[job_id][0] for job_id in changed]
    return written


def _reported(change: JobUpdate) -> dict[str, Any]:
    """Return the columns that a report changes."""
    values: dict[str, Any] = {
        "reason": free_text(change.reason),
        "digest": change.digest,
        "bytes_total": change.bytes_total,
        "bytes_done": change.bytes_done,
        "search_error": free_text(change.search_error),
        "rewritten": document(change.rewritten),
    }
    if (attempt := change.attempt) is not None:
        values |= {
            "failures": attempt.number,
            "failing_since": attempt.failing_since,
            "last_error": free_text(attempt.error),
            "next_attempt_at": attempt.next_at,
        }
    return {name: value for name, value in values.items() if value is not None}


@cache
def _update(dialect: str, status: JobStatus, names: tuple[str, ...]) -> Update:
    """Build an update of the jobs of one worker that sets these columns to the values of the reports."""
    columns = _TABLE.c
    given = json_rows("reports", {name: columns[name].type for name in ("id", *names)}, dialect=dialect)
    entered = {"updated_at": NOW} if status is JobStatus.RUNNING else _entered(status)
    allowed = [status.value] if status is JobStatus.RUNNING else _may_precede(status)
    return (
        update(_TABLE)
        .values(entered | {name: given[name] for name in names})
        .where(columns.id == given["id"], columns.worker_id == bindparam("worker"))
        # As an expression, so that the jobs are found by their ids rather than by an index of states.
        .where(columns.status.concat(literal_column("''", String())).in_(_literals(allowed)))
        .returning(columns.id)
    )


def _entered(status: JobStatus) -> dict[str, Any]:
    """Return the columns that are set when a job enters a state."""
    entered: dict[str, Any] = {"status": status.value, "updated_at": NOW, "next_attempt_at": None}
    if status is not JobStatus.RUNNING:
        entered["worker_id"] = None
    if status.has_ended:
        entered["ended_at"] = NOW
    return entered


def _literals(texts: Iterable[str]) -> list[ColumnElement[str]]:
    return [literal_column(f"'{text}'", String()) for text in texts]


def _may_precede(status: JobStatus) -> list[str]:
    return [before.value for before in status.may_follow]


def parse_rows(rows: Iterable[SyncJobRow | Row[*tuple[Any, ...]]]) -> tuple[list[SyncJob], list[int]]:
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


def to_job(row: SyncJobRow | Row[*tuple[Any, ...]]) -> SyncJob:
    """Convert a row, with or without the ORM, to a job; raises an exception if the row is damaged."""
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
        source_region=_region(row.source_region),
        namespace=_namespace(row.namespace),
        repository=_repository(row.repository),
        tag=Tag(row.tag),
        target_region=_region(row.target_region),
        target_namespace=_namespace(row.target_namespace),
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
