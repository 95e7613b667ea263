"""The records of sync jobs: made, joined, changed, retried, ended and looked up."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Row, bindparam, case, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from tagferry.coordination.pubsub import MessageBus
from tagferry.db.batches import write_bisecting
from tagferry.db.columns import UtcDateTime
from tagferry.db.engine import Database
from tagferry.db.pruning import prune
from tagferry.db.tables import SyncJobRow
from tagferry.names import Namespace, RegionId, Repository, Tag
from tagferry.sync.jobs.insert import insert_jobs, next_fair_position, require_organizations
from tagferry.sync.jobs.model import JobHandle, JobStatus, JobUpdate, NewJob, SyncJob, SyncRequest
from tagferry.sync.jobs.rows import OPEN, QUEUED, UNRECORDABLE, readable, recorded, status_of, transition

WORK = "work"
"""The topic of messages that there are jobs to run."""
ENDED = "ended"
"""The topic of messages that jobs have ended; their ids."""
CANCELLED = "cancelled"
"""The topic of messages that jobs which may be running are to stop; their ids."""

Claim = Callable[[AsyncSession], Awaitable[Collection[int]]]
"""Takes jobs within a transaction; gives their ids."""

_ASKED_AT_ONCE = 1000
_RESUMED_AT_ONCE = 1000
"""Jobs that one transaction puts into line, which must not keep others from the database for long."""

log = structlog.get_logger(__name__)


class JobStore:
    """Sync jobs on record. Ends that come at the same time share one transaction."""

    def __init__(self, database: Database, bus: MessageBus) -> None:
        self._database = database
        self._bus = bus
        self._ending: list[tuple[JobUpdate, int]] = []
        self._writing = asyncio.Lock()
        self._unreportable: set[int] = set()

    async def open_jobs(self, request: SyncRequest) -> dict[Tag, JobHandle]:
        """The latest open job of each of the request's tags on the same way, whatever its override."""
        return _places(await self._database.rows(_OPEN_JOBS, _asked(request)))

    async def create(
        self, request: SyncRequest, starts: Sequence[NewJob], *, active_requests: int, claim: Claim | None = None
    ) -> dict[Tag, JobHandle]:
        """Record a job for each tag, in one transaction, or join the one that another process recorded meanwhile.

        A job that asks for something else than the one before it on the same way waits for that one's end. A worker
        of this process can `claim` jobs in the same transaction.

        Raises:
            Throttled: the caller has that many requests with open jobs.
            NotFound: an organization was deleted since the caller was let in.
        """
        if not starts:
            return {}
        async with self._database.write() as session:
            await self._let_one_in(session, request)
            await require_organizations(session, request)
            standing = _places(await session.execute(_OPEN_JOBS, _asked(request)))
            joined = {tag: place for tag, place in standing.items() if place.override == request.override}
            wanted = [start for start in starts if start.tag not in joined]
            work = [start for start in wanted if not start.status.has_ended]
            turn = await next_fair_position(session, request, limit=active_requests) if work else 0
            created = await insert_jobs(session, request, wanted, standing, turn=turn)
            places = {start.tag: joined[start.tag] for start in starts if start.tag in joined}
            for start in wanted:
                places[start.tag] = JobHandle(created[start.tag], status=start.status, override=request.override)
            claimed = await claim(session) if work and claim is not None else ()
            for start in work:
                if places[start.tag].id in claimed:
                    places[start.tag] = replace(places[start.tag], status=JobStatus.RUNNING)
            if any(places[start.tag].id not in claimed for start in work):
                await self._bus.publish(session, WORK, ["1"])
        return places

    async def end(self, change: JobUpdate, *, worker_id: int) -> None:
        """Record how a job ended that this worker runs, or that it waits again; it is on disk when this returns.

        What another worker has taken over, or somebody cancelled, is left as it is. What cannot be recorded becomes a
        failure that says so.

        Raises:
            Exception: the database does not take anything for now; the same call records it later.
        """
        entry = (change, worker_id)
        if entry not in self._ending:
            self._ending.append(entry)
        async with self._writing:
            if entry in self._ending:
                await self._write_ends()

    async def report(self, changes: Sequence[JobUpdate], *, worker_id: int) -> list[int]:
        """Record the progress of jobs that this worker runs; returns those that are no longer its own."""
        lost: list[int] = []

        async def write(part: list[JobUpdate]) -> None:
            gone = []
            async with self._database.write() as session:
                for change in part:
                    changed = await session.execute(*recorded(change, worker_id=worker_id))
                    if not changed.rowcount:  # type: ignore[attr-defined]
                        gone.append(change.job_id)
            lost.extend(gone)

        wanted = [change for change in changes if change.job_id not in self._unreportable]
        batch = await write_bisecting(wanted, write, kind="job progress")
        for change, reason in batch.refused:
            self._unreportable.add(change.job_id)
            log.error("a sync job's progress cannot be recorded", job=change.job_id, reason=reason)
        if batch.error is not None:
            raise batch.error
        return lost

    async def cancel(self, jobs: Collection[int], *, reason: str) -> list[int]:
        """End the open ones of these jobs; returns them. Who runs them is told to stop."""
        async with self._database.write() as session:
            ended = await session.execute(
                transition(JobStatus.CANCEL, reason=reason).where(SyncJobRow.id.in_(jobs)).returning(SyncJobRow.id)
            )
            cancelled = sorted(ended.scalars())
            await publish_ends(session, self._bus, cancelled)
            await self._bus.publish(session, CANCELLED, map(str, cancelled))
        return cancelled

    async def expire(self) -> list[int]:
        """End the waiting jobs whose time is over; returns them."""
        now = datetime.now(UTC)
        # None is tried again only after its deadline, so that those which wait for that come into line before it.
        due = (SyncJobRow.status == JobStatus.WAITING.value, QUEUED, SyncJobRow.deadline_at < now)
        async with self._database.read() as session:
            if await session.scalar(select(SyncJobRow.id).where(*due).limit(1)) is None:
                return []
        async with self._database.write() as session:
            ended = await session.execute(
                transition(JobStatus.TIMEOUT, reason=_EXPIRED).where(*due).returning(SyncJobRow.id)
            )
            expired = list(ended.scalars())
            await publish_ends(session, self._bus, expired)
        return expired

    async def resume(self) -> float | None:
        """Have those jobs wait for their turn whose next attempt is due, or as many of them as go at once.

        Returns:
            Seconds until more are due; None where there are none.
        """
        now = datetime.now(UTC)
        async with self._database.read() as session:
            first = await session.scalar(_NEXT_ATTEMPT)
        if first is None or first > now:
            return None if first is None else (first - now).total_seconds()
        async with self._database.write() as session:
            turns = await self._turns_again(session, now)
            if turns:
                resumed = [{"job": job_id, "new_turn": turn, "due_at": now} for job_id, turn in turns.items()]
                await (await session.connection()).execute(_RESUMED, resumed)
                await self._bus.publish(session, WORK, ["1"])
        return 0.0

    async def retry_now(self, jobs: Collection[int]) -> None:
        """Have those of these jobs wait for their turn that wait for their next attempt."""
        if not jobs:
            return
        async with self._database.write() as session:
            await session.execute(
                update(SyncJobRow)
                .where(SyncJobRow.id.in_(jobs), SyncJobRow.next_attempt_at.is_not(None))
                .values(next_attempt_at=None)
                .execution_options(synchronize_session=False)
            )
            await self._bus.publish(session, WORK, ["1"])

    async def unblock(self) -> list[int]:
        """Let those go on whose way is free; returns them.

        A job that is recorded in the moment in which the one before it ends is not seen by that one.
        """
        is_blocked = select(_AHEAD.id).where(_AHEAD.id == SyncJobRow.after_id, _AHEAD.status.in_(OPEN)).exists()
        free = (SyncJobRow.after_id.is_not(None), ~is_blocked)
        async with self._database.read() as session:
            if await session.scalar(select(SyncJobRow.id).where(*free).limit(1)) is None:
                return []
        async with self._database.write() as session:
            moved = await session.execute(_MOVED_UP.where(*free))
            freed = sorted(job_id for job_id, after_id in moved if after_id is None)
            await self._bus.publish(session, WORK, ["1"])
            return freed

    async def ends(self, jobs: Collection[int]) -> dict[int, JobStatus]:
        """Those of these jobs that have ended."""
        wanted = list(jobs)
        found: dict[int, JobStatus] = {}
        for start in range(0, len(wanted), _ASKED_AT_ONCE):
            rows = await self._database.rows(_ENDS, {"jobs": wanted[start : start + _ASKED_AT_ONCE]})
            found |= {job_id: status_of(status) for job_id, status in rows}
        return found

    async def prune(self, *, ended_before: datetime) -> int:
        """Delete the records of jobs that ended before that; returns how many."""
        return await prune(self._database, SyncJobRow.ended_at, ended_before)

    async def of_repository(
        self,
        region: RegionId,
        namespace: Namespace,
        repository: Repository,
        *,
        limit: int | None,
        offset: int = 0,
        descending: bool = True,
        only: Collection[int] = (),
        request_id: str | None = None,
        statuses: Collection[JobStatus] = (),
        domain_id: str | None = None,
        organization_id: int | None = None,
    ) -> tuple[list[SyncJob], int]:
        """A page of a repository's jobs, and how many there are in all.

        Args:
            region: the region that the images come from.
            namespace: the organization.
            repository: the repository.
            limit: jobs on the page; None means all.
            offset: jobs to skip.
            descending: newest first.
            only: ids to restrict the jobs to; empty means all.
            request_id: the request to restrict the jobs to.
            statuses: states to restrict the jobs to; empty means all.
            domain_id: the domain to whose users' jobs to restrict them.
            organization_id: the organization to whose jobs to restrict them, of all that had its name.
        """
        conditions: list[ColumnElement[bool]] = [
            SyncJobRow.source_region == region,
            SyncJobRow.namespace == namespace,
            SyncJobRow.repository == repository,
        ]
        if only:
            conditions.append(SyncJobRow.id.in_(only))
        if request_id is not None:
            conditions.append(SyncJobRow.request_id == request_id)
        if domain_id is not None:
            conditions.append(SyncJobRow.domain_id == domain_id)
        if organization_id is not None:
            conditions.append(SyncJobRow.source_organization_id == organization_id)
        if statuses:
            conditions.append(SyncJobRow.status.in_([status.value for status in statuses]))
        order = SyncJobRow.id.desc() if descending else SyncJobRow.id.asc()
        async with self._database.read() as session:
            total = await session.scalar(select(func.count()).select_from(SyncJobRow).where(*conditions))
            rows = await session.scalars(
                select(SyncJobRow).where(*conditions).order_by(order).limit(limit).offset(offset)
            )
            return readable(rows)[0], total or 0

    async def _turns_again(self, session: AsyncSession, now: datetime) -> dict[int, int]:
        """The turns of the jobs whose next attempt is due.

        Those whose turn passed meanwhile come in the turns that are served now, one a turn, as organizations are
        served.
        """
        due = sorted((await session.execute(_DUE, {"due_at": now})).all(), key=lambda row: (row[4], row[0]))
        served = {
            priority: await session.scalar(_SERVED, {"priority": priority}) or 0 for priority in {row[3] for row in due}
        }
        turns: dict[int, int] = {}
        before: Counter[tuple[str, str, int]] = Counter()
        for job_id, region, namespace, priority, turn in due:
            line = (region, namespace, priority)
            turns[job_id] = max(turn, served[priority] + before[line])
            before[line] += 1
        return turns

    async def _let_one_in(self, session: AsyncSession, request: SyncRequest) -> None:
        """Let nobody else look for and make jobs on the same ways; SQLite lets only one write at all."""
        if self._database.is_shared:
            way = f"{request.source_region}/{request.namespace}/{request.repository}"
            key = f"{way} {request.target_region}/{request.target_namespace}"
            await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 5))"), {"key": key})

    async def _write_ends(self) -> None:
        """Record the ends that have come up; those that cannot be recorded as failures, so that they block nothing."""
        pending, self._ending = self._ending, []
        try:
            batch = await write_bisecting(pending, self._record_ends, kind="job end")
            self._unreportable.difference_update(change.job_id for change, _ in batch.written)
            pending = [entry for entry in pending if entry not in batch.written]
            for entry, reason in batch.refused:
                change, worker_id = entry
                log.error(
                    "a sync job's end cannot be recorded, so it counts as failed", job=change.job_id, reason=reason
                )
                pending[pending.index(entry)] = (JobUpdate(change.job_id, JobStatus.FAILED, UNRECORDABLE), worker_id)
            if batch.refused and batch.error is None:
                batch = await write_bisecting(pending, self._record_ends, kind="job")
                pending = [entry for entry in pending if batch.error is not None and entry not in batch.written]
            if batch.error is not None:
                raise batch.error
            pending = []
        finally:
            self._ending = pending + self._ending

    async def _record_ends(self, entries: Sequence[tuple[JobUpdate, int]]) -> None:
        async with self._database.write() as session:
            ended = []
            for change, worker_id in entries:
                changed = await session.execute(*recorded(change, worker_id=worker_id))
                if changed.rowcount and change.status.has_ended:  # type: ignore[attr-defined]
                    ended.append(change.job_id)
            await publish_ends(session, self._bus, ended)


async def publish_ends(session: AsyncSession, bus: MessageBus, ended: Collection[int]) -> None:
    """Let those go on who waited for these jobs' ends: jobs on the same way, and callers."""
    if not ended:
        return
    moved = await session.execute(_MOVED_UP_BEHIND, {"ended": list(ended)})
    if any(after_id is None for _, after_id in moved):
        await bus.publish(session, WORK, ["1"])
    await bus.publish(session, ENDED, map(str, ended))


# What every request asks is built once.
_WAY = ("source_region", "namespace", "repository", "target_region", "target_namespace")
_OPEN_JOBS = (
    select(SyncJobRow.tag, SyncJobRow.id, SyncJobRow.status, SyncJobRow.override)
    .where(*(getattr(SyncJobRow, name) == bindparam(name) for name in _WAY))
    .where(SyncJobRow.status.in_(OPEN), SyncJobRow.tag.in_(bindparam("tags", expanding=True)))
    .order_by(SyncJobRow.id)
)
_EXPIRED = case(
    (SyncJobRow.attempts == 0, "its time was over before its turn came"),
    else_="its time was over before it could be tried again: " + SyncJobRow.last_error,
)
_NEXT_ATTEMPT = select(func.min(SyncJobRow.next_attempt_at)).where(SyncJobRow.next_attempt_at.is_not(None))
_DUE = (
    select(SyncJobRow.id, SyncJobRow.source_region, SyncJobRow.namespace, SyncJobRow.priority, SyncJobRow.turn)
    .where(SyncJobRow.next_attempt_at <= bindparam("due_at", type_=UtcDateTime))
    .order_by(SyncJobRow.next_attempt_at)
    .limit(_RESUMED_AT_ONCE)
)
_SERVED = select(func.min(SyncJobRow.turn)).where(
    SyncJobRow.status == JobStatus.WAITING.value, QUEUED, SyncJobRow.priority == bindparam("priority")
)
# Where two processes do so at once, the second one leaves alone what has been postponed again meanwhile.
_RESUMED = (
    update(SyncJobRow)
    .where(SyncJobRow.id == bindparam("job"), SyncJobRow.next_attempt_at <= bindparam("due_at", type_=UtcDateTime))
    .values(next_attempt_at=None, turn=bindparam("new_turn"))
    .execution_options(synchronize_session=False)
)
_ENDS = select(SyncJobRow.id, SyncJobRow.status).where(
    SyncJobRow.id.in_(bindparam("jobs", expanding=True)), SyncJobRow.status.not_in(OPEN)
)
# A job that ends without having run, because somebody cancels it, may have others ahead of it that have not ended.
_AHEAD = aliased(SyncJobRow)
_MOVED_UP = (
    update(SyncJobRow)
    .values(
        after_id=select(func.max(_AHEAD.id))
        .where(*(getattr(_AHEAD, name) == getattr(SyncJobRow, name) for name in (*_WAY, "tag")))
        .where(_AHEAD.id < SyncJobRow.id, _AHEAD.status.in_(OPEN))
        .scalar_subquery()
    )
    .returning(SyncJobRow.id, SyncJobRow.after_id)
    .execution_options(synchronize_session=False)
)
_MOVED_UP_BEHIND = _MOVED_UP.where(SyncJobRow.after_id.in_(bindparam("ended", expanding=True)))


def _asked(request: SyncRequest) -> dict[str, Any]:
    return {**{name: getattr(request, name) for name in _WAY}, "tags": request.tags}


def _places(rows: Iterable[Row[*tuple[Any, ...]]]) -> dict[Tag, JobHandle]:
    return {
        Tag(tag): JobHandle(id=job_id, status=JobStatus(status), override=override, is_joined=True)
        for tag, job_id, status, override in rows
    }
