"""The steps of jobs' attempts: written with the progress and the ends of jobs, read for one job."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Delete, Insert, bindparam, delete, select, true
from sqlalchemy.dialects import postgresql, sqlite

from tagferry import bounds
from tagferry.copy.timeline import Amount, Event, Step
from tagferry.db.columns import free_text
from tagferry.db.engine import Database
from tagferry.db.json_rows import json_rows
from tagferry.db.tables import SyncJobAttemptRow
from tagferry.oci.images import BlobOutcome
from tagferry.sync.jobs.model import AttemptRecord


def write_attempts(connection: Connection, records: Sequence[AttemptRecord]) -> None:
    """Record attempts, or what those that are recorded have done since; the oldest but the first are dropped.

    Args:
        connection: the connection whose transaction records them.
        records: the attempts, each one once.
    """
    if not records:
        return
    connection.execute(_WRITE[connection.dialect.name], {"attempts": [_values(record) for record in records]})
    old = [{"old_job": one.job_id, "old": one.number - bounds.TIMELINE_ATTEMPTS + 1} for one in records]
    if old := [one for one in old if one["old"] > 1]:
        connection.execute(_DROP, old)


async def attempts_of(database: Database, job_id: int) -> list[AttemptRecord]:
    """Return the recorded attempts of a job, oldest first."""
    rows = select(SyncJobAttemptRow).where(SyncJobAttemptRow.job_id == job_id).order_by(SyncJobAttemptRow.attempt)
    async with database.read() as session:
        return [_record(row) for row in await session.scalars(rows)]


def _values(record: AttemptRecord) -> dict[str, Any]:
    begin = record.started_at.timestamp()
    return {
        "job_id": record.job_id,
        "attempt": record.number,
        "worker": record.worker,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "error": free_text(record.error),
        "next_attempt_at": record.next_at,
        "blobs_uploaded": record.uploaded.blobs,
        "bytes_uploaded": record.uploaded.size,
        "blobs_mounted": record.mounted.blobs,
        "bytes_mounted": record.mounted.size,
        "blobs_present": record.present.blobs,
        "bytes_present": record.present.size,
        "blobs_omitted": record.omitted,
        "events": [_shortened(event, begin) for event in record.events],
    }


def _shortened(event: Event, begin: float) -> list[Any]:
    """Return an event as a list without the empty values at its end; its time in milliseconds after the start."""
    outcome = event.outcome.value if event.outcome is not None else ""
    found: list[Any] = [
        round((event.at - begin) * 1000),
        event.step.value,
        event.digest,
        event.size,
        event.blobs,
        outcome,
        event.source,
    ]
    while not found[-1]:
        found.pop()
    return found


def _record(row: SyncJobAttemptRow) -> AttemptRecord:
    return AttemptRecord(
        job_id=row.job_id,
        number=row.attempt,
        worker=row.worker,
        started_at=row.started_at,
        ended_at=row.ended_at,
        error=row.error,
        next_at=row.next_attempt_at,
        events=tuple(_events(row.events, row.started_at.timestamp() if row.started_at is not None else 0)),
        omitted=row.blobs_omitted,
        uploaded=Amount(row.blobs_uploaded, row.bytes_uploaded),
        mounted=Amount(row.blobs_mounted, row.bytes_mounted),
        present=Amount(row.blobs_present, row.bytes_present),
    )


def _events(document: Any, begin: float) -> Iterable[Event]:
    for entry in document if isinstance(document, list) else ():
        # What is damaged, or of a later version, is left out.
        try:
            fields: list[Any] = [*entry, *_EMPTY[len(entry) :]]
            after, step, digest, size, blobs, outcome, source = fields
            at = begin + after / 1000
            yield Event(at, Step(step), digest, size, blobs, BlobOutcome(outcome) if outcome else None, source)
        except (TypeError, ValueError):
            continue


_EMPTY = (0, "", "", 0, 0, "", "")


_TABLE: Any = SyncJobAttemptRow.__table__


def _write(dialect: Any) -> Insert:
    """Build a statement that writes all rows at once."""
    columns = {column.name: column.type for column in _TABLE.c}
    given = json_rows("attempts", columns, dialect=dialect.__name__.rpartition(".")[2])
    # SQLite would read the conflict clause of a SELECT without conditions as that of a join.
    statement = dialect.insert(_TABLE).from_select(list(given), select(*given.values()).where(true()))
    changed = {column.name: statement.excluded[column.name] for column in _TABLE.c if not column.primary_key}
    written: Insert = statement.on_conflict_do_update(index_elements=["job_id", "attempt"], set_=changed)
    return written


_WRITE = {"sqlite": _write(sqlite), "postgresql": _write(postgresql)}
_DROP: Delete = delete(_TABLE).where(
    _TABLE.c.job_id == bindparam("old_job"), _TABLE.c.attempt > 1, _TABLE.c.attempt <= bindparam("old")
)
