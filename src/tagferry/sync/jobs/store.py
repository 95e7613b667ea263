"""The records of sync jobs: create, join, update, retry and end them."""

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import Connection, Row, bindparam, case, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from tagferry.concurrency import LatestResult
from tagferry.coordination.pubsub import MessageBus
from tagferry.db.batches import write_bisecting
from tagferry.db.columns import UtcDateTime
from tagferry.db.engine import Database
from tagferry.db.pruning import prune
from tagferry.db.tables import SyncJobRow
from tagferry.names import Tag
from tagferry.sync.jobs.attempts import write_attempts
from tagferry.sync.jobs.end_events import log_settled
from tagferry.sync.jobs.ending import EARLIER, ROUTE, UNBLOCK, end_jobs, publish_ends
from tagferry.sync.jobs.ends import count_on_commit, ends_at_once
from tagferry.sync.jobs.insert import insert_jobs, next_fair_position, require_organizations
from tagferry.sync.jobs.messages import JOBS_CANCELLED, JOBS_PROGRESSED, JOBS_READY, JobProgress
from tagferry.sync.jobs.model import EndReason, JobHandle, JobStatus, JobUpdate, NewJob, SyncRequest
from tagferry.sync.jobs.rows import (
    OPEN,
    QUEUED,
    UNRECORDABLE,
    is_open,
    status_of,
    write_updates,
)

Claim = Callable[[AsyncSession], Awaitable[Collection[int]]]
"""Claims jobs within a transaction; returns their ids."""

_Run = tuple[int, int]
"""The ids of a job and of the worker that runs it."""

_IDS_PER_QUERY = 1000
_RESUMED_PER_TRANSACTION = 1000
"""Jobs that one transaction queues; it must not block other writers for long."""

log = structlog.get_logger(__name__)


class JobStore:
    """The recorded sync jobs. Ends that are reported at the same time share one transaction."""

    def __init__(self, database: Database, bus: MessageBus) -> None:
        self._database = database
        self._bus = bus
        self._ending: dict[_Run, JobUpdate] = {}
        self._written = LatestResult(self._write_ends)
        self._unreportable: set[int] = set()

    async def open_jobs(self, request: SyncRequest) -> dict[Tag, JobHandle]:
        """Return the latest open job of each of the request's tags on the same route, whatever its override."""
        return _handles(await self._database.rows(_OPEN_JOBS, _route_parameters(request)))

    async def create(
        self,
        request: SyncRequest,
        new_jobs: Sequence[NewJob],
        *,
        max_concurrent_requests_per_user: int,
        claim: Claim | None = None,
        trace_context: str | None = None,
    ) -> dict[Tag, JobHandle]:
        """Record a job for each tag in one transaction, or join a job that another process has recorded meanwhile.

        If an open job on the same route has a different override, the new job waits for it to end. A worker of this
        process can `claim` jobs in the same transaction. The jobs continue the trace of `trace_context`.

        Raises:
            Throttled: the caller has reached the limit of active requests.
            NotFound: an organization was deleted after the caller was authorized.
        """
        if not new_jobs:
            return {}
        async with self._database.write() as session:
            # In one call, and without the overhead of the ORM for each statement.
            places, work = await session.run_sync(
                self._join_or_insert,
                request,
                new_jobs,
                limit=max_concurrent_requests_per_user,
                trace_context=trace_context,
            )
            claimed = await claim(session) if work and claim is not None else ()
            for new_job in work:
                if places[new_job.tag].id in claimed:
                    places[new_job.tag] = replace(places[new_job.tag], status=JobStatus.RUNNING)
            if any(places[new_job.tag].id not in claimed for new_job in work):
                await self._bus.publish(session, JOBS_READY, [1])
        own = ((places[new_job.tag], new_job) for new_job in new_jobs)
        log_settled(request, ((place.id, new_job) for place, new_job in own if not place.is_joined))
        return places

    async def end(self, change: JobUpdate, *, worker_id: int) -> None:
        """Record the end of a job of this worker, or its return to waiting; the record is durable when this returns.

        A job that another worker has taken over, or that was cancelled, is left unchanged. A result that the database
        refuses is recorded as a failure.

        Raises:
            Exception: the database is unavailable; repeat the call later.
        """
        self._ending[change.job_id, worker_id] = change
        # The ends that are reported until it begins share its transaction.
        await self._written.result()

    async def report(
        self, changes: Sequence[JobUpdate], *, worker_id: int, progress: Sequence[JobProgress] = ()
    ) -> list[int]:
        """Record the progress of this worker's jobs; returns the jobs that it no longer owns.

        Args:
            changes: the progress to record.
            worker_id: the worker.
            progress: messages about it, which are sent in the same transaction.
        """
        lost: list[int] = []

        async def write(part: list[JobUpdate]) -> None:
            async with self._database.write() as session:
                recorded = await session.run_sync(_write_reports, part, worker_id)
                reported = {change.job_id for change in recorded}
                await self._bus.publish(session, JOBS_PROGRESSED, [one for one in progress if one.job_id in reported])
            lost.extend(change.job_id for change in part if change.job_id not in reported)

        wanted = [change for change in changes if change.job_id not in self._unreportable]
        batch = await write_bisecting(wanted, write, kind="job progress")
        for change, reason in batch.refused:
            self._unreportable.add(change.job_id)
            log.error("could not record the progress of a sync job", job=change.job_id, reason=reason)
        if batch.error is not None:
            raise batch.error
        return lost

    async def cancel(self, jobs: Collection[int], *, reason: str) -> list[int]:
        """Cancel those of these jobs that are open; returns their ids. Their workers are notified."""
        async with self._database.write() as session:
            cancelled = await end_jobs(session, self._bus, JobStatus.CANCEL, SyncJobRow.id.in_(jobs), reason=reason)
            await self._bus.publish(session, JOBS_CANCELLED, cancelled)
        return cancelled

    async def expire(self) -> list[int]:
        """End the waiting jobs whose deadline has passed; returns their ids."""
        now = datetime.now(UTC)
        # Retries are scheduled before the deadline, so a job that waits for its retry is queued before it expires.
        due = (SyncJobRow.status == JobStatus.WAITING.value, QUEUED, SyncJobRow.deadline_at < now)
        async with self._database.read() as session:
            if await session.scalar(select(SyncJobRow.id).where(*due).limit(1)) is None:
                return []
        async with self._database.write() as session:
            return await end_jobs(session, self._bus, JobStatus.TIMEOUT, *due, reason=_EXPIRED)

    async def resume(self) -> float | None:
        """Queue the jobs whose next attempt is due, up to the limit of one transaction.

        Returns:
            Seconds until more jobs are due; None if no job waits for a retry.
        """
        now = datetime.now(UTC)
        async with self._database.read() as session:
            first = await session.scalar(_NEXT_ATTEMPT)
        if first is None or first > now:
            return None if first is None else (first - now).total_seconds()
        async with self._database.write() as session:
            positions = await self._fair_positions(session, now)
            if positions:
                resumed = [
                    {"job": job_id, "new_fair_position": fair_position, "due_at": now}
                    for job_id, fair_position in positions.items()
                ]
                await (await session.connection()).execute(_RESUMED, resumed)
                await self._bus.publish(session, JOBS_READY, [1])
        return 0.0

    async def retry_now(self, jobs: Collection[int]) -> None:
        """Queue those of these jobs that wait for their next attempt."""
        if not jobs:
            return
        async with self._database.write() as session:
            await session.execute(
                update(SyncJobRow)
                .where(SyncJobRow.id.in_(jobs), SyncJobRow.next_attempt_at.is_not(None))
                .values(next_attempt_at=None)
                .execution_options(synchronize_session=False)
            )
            await self._bus.publish(session, JOBS_READY, [1])

    async def unblock(self) -> list[int]:
        """Unblock the jobs whose predecessor has ended; returns the ids of those that can run.

        `publish_ends` misses a job that is recorded at the moment its predecessor ends.
        """
        is_blocked = select(EARLIER.id).where(EARLIER.id == SyncJobRow.blocked_by, is_open(EARLIER)).exists()
        free = (SyncJobRow.blocked_by.is_not(None), ~is_blocked)
        async with self._database.read() as session:
            if await session.scalar(select(SyncJobRow.id).where(*free).limit(1)) is None:
                return []
        async with self._database.write() as session:
            moved = await session.execute(UNBLOCK.where(*free))
            freed = sorted(job_id for job_id, blocked_by in moved if blocked_by is None)
            await self._bus.publish(session, JOBS_READY, [1])
            return freed

    async def ends(self, jobs: Collection[int]) -> dict[int, JobStatus]:
        """Return the final states of those of these jobs that have ended."""
        wanted = list(jobs)
        found: dict[int, JobStatus] = {}
        for start in range(0, len(wanted), _IDS_PER_QUERY):
            rows = await self._database.rows(_ENDS, {"jobs": wanted[start : start + _IDS_PER_QUERY]})
            found |= {job_id: status_of(status) for job_id, status in rows}
        return found

    async def prune(self, *, ended_before: datetime) -> int:
        """Delete the records of jobs that ended before this time; returns how many."""
        return await prune(self._database, SyncJobRow.ended_at, ended_before)

    async def _fair_positions(self, session: AsyncSession, now: datetime) -> dict[int, int]:
        """Return the fair positions of the jobs whose next attempt is due.

        Jobs whose position has been served meanwhile get the positions that are served now, one job of each
        organization per position.
        """
        due = sorted((await session.execute(_DUE, {"due_at": now})).all(), key=lambda row: (row[4], row[0]))
        served = {
            priority: await session.scalar(_SERVED, {"priority": priority}) or 0 for priority in {row[3] for row in due}
        }
        positions: dict[int, int] = {}
        before: Counter[tuple[str, str, int]] = Counter()
        for job_id, region, namespace, priority, fair_position in due:
            line = (region, namespace, priority)
            positions[job_id] = max(fair_position, served[priority] + before[line])
            before[line] += 1
        return positions

    def _join_or_insert(
        self,
        session: Session,
        request: SyncRequest,
        new_jobs: Sequence[NewJob],
        *,
        limit: int,
        trace_context: str | None,
    ) -> tuple[dict[Tag, JobHandle], list[NewJob]]:
        """Join the open jobs, and insert the other ones; returns all of them, and the inserted ones with work to do."""
        connection = session.connection()
        self._lock_route(connection, request)
        require_organizations(connection, request)
        open_jobs = _handles(connection.execute(_OPEN_JOBS, _route_parameters(request)))
        joined = {tag: place for tag, place in open_jobs.items() if place.override == request.override}
        wanted = [new_job for new_job in new_jobs if new_job.tag not in joined]
        work = [new_job for new_job in wanted if not new_job.status.has_ended]
        fair_position = next_fair_position(connection, request, limit=limit) if work else 0
        created = insert_jobs(
            connection, request, wanted, open_jobs, fair_position=fair_position, trace_context=trace_context
        )
        count_on_commit(session, ends_at_once(request, wanted))
        places = {new_job.tag: joined[new_job.tag] for new_job in new_jobs if new_job.tag in joined}
        for new_job in wanted:
            places[new_job.tag] = JobHandle(created[new_job.tag], status=new_job.status, override=request.override)
        return places, work

    def _lock_route(self, connection: Connection, request: SyncRequest) -> None:
        """Serialize the creation of jobs on this route across processes; SQLite has only one writer anyway."""
        if self._database.is_shared:
            source = f"{request.source_region}/{request.namespace}/{request.repository}"
            key = f"{source} {request.target_region}/{request.target_namespace}"
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 5))"), {"key": key})

    async def _write_ends(self) -> None:
        """Record the pending ends; those that the database refuses become failures, so that no job gets stuck."""
        pending, self._ending = self._ending, {}
        try:
            batch = await write_bisecting(pending.items(), self._record_ends, kind="job end")
            self._unreportable.difference_update(job_id for (job_id, _), _ in batch.written)
            _remove(pending, batch.written)
            for (run, change), reason in batch.refused:
                log.error("recorded a sync job as failed because its end was refused", job=change.job_id, reason=reason)
                end = change.end and replace(change.end, status=JobStatus.FAILED, reason=EndReason.RECORD)
                pending[run] = JobUpdate(change.job_id, JobStatus.FAILED, UNRECORDABLE, end=end)
            if batch.refused and batch.error is None:
                batch = await write_bisecting(pending.items(), self._record_ends, kind="job")
                if batch.error is not None:
                    _remove(pending, batch.written)
            if batch.error is not None:
                raise batch.error
            pending = {}
        finally:
            self._ending = pending | self._ending

    async def _record_ends(self, entries: Sequence[tuple[_Run, JobUpdate]]) -> None:
        by_worker: dict[int, list[JobUpdate]] = defaultdict(list)
        for (_, worker_id), change in entries:
            by_worker[worker_id].append(change)
        async with self._database.write() as session:
            recorded = []
            for worker_id, changes in by_worker.items():
                recorded += await session.run_sync(_write_reports, changes, worker_id)
            ended = [change for change in recorded if change.status.has_ended]
            ends = [change.end for change in ended if change.end is not None]
            await publish_ends(session, self._bus, [change.job_id for change in ended], ends)


def _remove(pending: dict[_Run, JobUpdate], written: Iterable[tuple[_Run, JobUpdate]]) -> None:
    for run, _ in written:
        del pending[run]


def _write_reports(session: Session, changes: Iterable[JobUpdate], worker_id: int) -> list[JobUpdate]:
    """Write a worker's reports with the steps of the attempts; returns those on jobs that were changed."""
    connection = session.connection()
    written = write_updates(connection, changes, worker_id=worker_id)
    write_attempts(connection, [change.timeline for change in written if change.timeline is not None])
    return written


# Statements that every request executes are built once.
_OPEN_JOBS = (
    select(SyncJobRow.tag, SyncJobRow.id, SyncJobRow.status, SyncJobRow.override)
    .where(*(getattr(SyncJobRow, name) == bindparam(name) for name in ROUTE))
    .where(is_open(), SyncJobRow.tag.in_(bindparam("tags", expanding=True)))
    # As an expression, because SQLite would follow an index of ids through all jobs of the repository.
    .order_by(SyncJobRow.id + 0)
)
_EXPIRED = case(
    (SyncJobRow.failures == 0, "timed out while queued"),
    else_="timed out before the next attempt; the last error was: " + SyncJobRow.last_error,
)
_NEXT_ATTEMPT = select(func.min(SyncJobRow.next_attempt_at)).where(SyncJobRow.next_attempt_at.is_not(None))
_DUE = (
    select(SyncJobRow.id, SyncJobRow.source_region, SyncJobRow.namespace, SyncJobRow.priority, SyncJobRow.fair_position)
    .where(SyncJobRow.next_attempt_at <= bindparam("due_at", type_=UtcDateTime))
    .order_by(SyncJobRow.next_attempt_at)
    .limit(_RESUMED_PER_TRANSACTION)
)
_SERVED = select(func.min(SyncJobRow.fair_position)).where(
    SyncJobRow.status == JobStatus.WAITING.value, QUEUED, SyncJobRow.priority == bindparam("priority")
)
# If two processes do this at once, the second one skips jobs that have been postponed again meanwhile.
_RESUMED = (
    update(SyncJobRow)
    .where(SyncJobRow.id == bindparam("job"), SyncJobRow.next_attempt_at <= bindparam("due_at", type_=UtcDateTime))
    .values(next_attempt_at=None, fair_position=bindparam("new_fair_position"))
    .execution_options(synchronize_session=False)
)
_ENDS = select(SyncJobRow.id, SyncJobRow.status).where(
    SyncJobRow.id.in_(bindparam("jobs", expanding=True)), SyncJobRow.status.not_in(OPEN)
)


def _route_parameters(request: SyncRequest) -> dict[str, Any]:
    return {**{name: getattr(request, name) for name in ROUTE}, "tags": request.tags}


def _handles(rows: Iterable[Row[*tuple[Any, ...]]]) -> dict[Tag, JobHandle]:
    return {
        Tag(tag): JobHandle(id=job_id, status=JobStatus(status), override=override, is_joined=True)
        for tag, job_id, status, override in rows
    }
