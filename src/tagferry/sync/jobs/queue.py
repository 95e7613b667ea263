"""The job queue: claim jobs in fair order, release them, and requeue those of lost workers.

A job's record is also its queue entry, so accepting and queueing are one transaction and cannot disagree.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Connection, Integer, bindparam, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from tagferry import bounds
from tagferry.coordination.membership import Membership
from tagferry.coordination.pubsub import MessageBus
from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow, WorkerRow
from tagferry.names import RegionId
from tagferry.sync.jobs.ending import end_jobs
from tagferry.sync.jobs.messages import JOBS_READY
from tagferry.sync.jobs.model import EndReason, JobStatus, SyncJob
from tagferry.sync.jobs.rows import NOW, QUEUED, UNREADABLE, parse_rows, transition
from tagferry.sync.jobs.slots import Capacity

_CLAIMS = 0x7A67
"""The advisory lock for claims, so that limits across all workers hold exactly."""
_LOCK_CLAIMS = text("SELECT pg_advisory_xact_lock(:key) FROM workers WHERE id = :worker FOR KEY SHARE")
"""Until the transaction ends, no other worker claims jobs or declares this worker lost."""
_MINUTE = timedelta(minutes=1)
_SUSPECTED = 2
"""Jobs whose workers were lost more often than this run one at a time. A job that kills its worker then takes no other
suspected job with it."""
_GIVEN_UP = f"its worker was lost {bounds.JOB_LOST_WORKERS} times; the copy may need more memory than the machine has"

# Statements that every claim executes are built once.
_BETWEEN = ">"
_REGION_PAIR = SyncJobRow.source_region + _BETWEEN + SyncJobRow.target_region
_NEXT = (
    select(SyncJobRow.id, SyncJobRow.source_region, SyncJobRow.target_region, SyncJobRow.lost_workers)
    .where(SyncJobRow.status == JobStatus.WAITING.value, QUEUED, SyncJobRow.blocked_by.is_(None))
    .where(SyncJobRow.source_region.in_(bindparam("regions", expanding=True)))
    .where(SyncJobRow.target_region.in_(bindparam("open_regions", expanding=True)))
    .where(_REGION_PAIR.not_in(bindparam("closed_pairs", expanding=True)))
    .where(SyncJobRow.lost_workers <= bindparam("most_lost", type_=Integer))
    .where(SyncJobRow.id.not_in(bindparam("chosen", expanding=True)))
    .order_by(SyncJobRow.priority, SyncJobRow.fair_position, SyncJobRow.id)
    .limit(bindparam("slots", type_=Integer))
)
_BEGUN = (
    transition(JobStatus.RUNNING, worker_id=bindparam("worker"), started_at=NOW, attempts=SyncJobRow.attempts + 1)
    .where(SyncJobRow.id.in_(bindparam("chosen", expanding=True)))
    .returning(*SyncJobRow.__table__.c)
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Limits across all workers.

    Attributes:
        jobs: jobs that run at once; None means as many as there are slots.
        region_jobs: the same for the jobs to one target region.
        region_starts: jobs to one target region that start within a minute.
    """

    jobs: int | None = None
    region_jobs: Mapping[RegionId, int] | None = None
    region_starts: Mapping[RegionId, int] | None = None


class JobQueue:
    """The waiting and running jobs of all workers. A reload changes `regions` and `limits`.

    Args:
        database: stores the jobs.
        bus: receives a message when jobs become ready to run.
        membership: finds lost workers.
        regions: the configured regions; jobs of other regions are left to other workers.
        limits: the limits across all workers.
    """

    def __init__(
        self,
        database: Database,
        bus: MessageBus,
        membership: Membership,
        *,
        regions: Collection[RegionId],
        limits: QueueLimits | None = None,
    ) -> None:
        self._database = database
        self._bus = bus
        self._membership = membership
        self.regions = list(regions)
        self.limits = limits or QueueLimits()

    async def claim(self, worker_id: int, slots: int, capacity: Capacity | None = None) -> list[SyncJob]:
        """Claim the next jobs for this worker and record them as running.

        Args:
            worker_id: the worker.
            slots: the maximum number of jobs.
            capacity: how many jobs may start between which regions; by default no restriction.
        """
        async with self._database.write() as session:
            return await self.claim_within(session, worker_id, slots, capacity)

    async def claim_within(
        self, session: AsyncSession, worker_id: int, slots: int, capacity: Capacity | None = None
    ) -> list[SyncJob]:
        """Like `claim`, within a transaction; a lost worker gets no jobs."""
        # In one call, and without the overhead of the ORM for each statement.
        jobs, damaged = await session.run_sync(
            self._claim, worker_id, slots, capacity or Capacity(share=slots, unsure=slots)
        )
        if damaged:
            unreadable = SyncJobRow.id.in_(damaged)
            await end_jobs(session, self._bus, JobStatus.FAILED, unreadable, cause=EndReason.RECORD, reason=UNREADABLE)
        return jobs

    async def release(self, worker_id: int) -> int:
        """Requeue the jobs of a worker and delete the worker; returns the number of jobs."""
        async with self._database.write() as session:
            return await self._delete_worker(session, worker_id)

    async def release_unknown(self, worker_id: int, known: Collection[int]) -> int:
        """Requeue the jobs of a worker that it does not know of; returns their number."""
        unknown = (
            SyncJobRow.worker_id == worker_id,
            SyncJobRow.status == JobStatus.RUNNING.value,
            QUEUED,
            SyncJobRow.id.not_in(known),
        )
        async with self._database.read() as session:
            if await session.scalar(select(SyncJobRow.id).where(*unknown).limit(1)) is None:
                return 0
        async with self._database.write() as session:
            return await self._release(session, *unknown)

    async def requeue_lost(self) -> dict[int, int]:
        """Requeue the jobs of lost workers; returns the number of jobs by worker."""
        taken = {}
        for worker_id in await self._membership.lost_workers():
            async with self._database.write() as session:
                if await self._membership.fence(session, worker_id):
                    taken[worker_id] = await self._delete_worker(session, worker_id, is_lost=True)
        return taken

    async def _delete_worker(self, session: AsyncSession, worker_id: int, *, is_lost: bool = False) -> int:
        await session.execute(delete(WorkerRow).where(WorkerRow.id == worker_id))
        owned = (SyncJobRow.worker_id == worker_id, QUEUED)
        if is_lost:
            await self._give_up(session, *owned)
            return await self._release(session, *owned, lost_workers=SyncJobRow.lost_workers + 1)
        return await self._release(session, *owned)

    async def _give_up(self, session: AsyncSession, *conditions: ColumnElement[bool]) -> None:
        """Fail the jobs whose workers have been lost too often."""
        given_up = await end_jobs(
            session,
            self._bus,
            JobStatus.FAILED,
            *conditions,
            SyncJobRow.lost_workers >= bounds.JOB_LOST_WORKERS - 1,
            cause=EndReason.WORKER_LOST,
            reason=_GIVEN_UP,
            lost_workers=SyncJobRow.lost_workers + 1,
        )
        if given_up:
            log.error("failed jobs whose workers were lost repeatedly", jobs=given_up)

    async def _release(self, session: AsyncSession, *conditions: ColumnElement[bool], **values: Any) -> int:
        released = await session.execute(transition(JobStatus.WAITING, **values).where(*conditions))
        count: int = released.rowcount  # type: ignore[attr-defined]
        if count:
            await self._bus.publish(session, JOBS_READY, [1])
        return count

    def _claim(
        self, session: Session, worker_id: int, slots: int, capacity: Capacity
    ) -> tuple[list[SyncJob], list[int]]:
        """Claim jobs; returns them and the ids of those that cannot be read."""
        connection = session.connection()
        if self._database.is_shared:
            present = connection.execute(_LOCK_CLAIMS, {"key": _CLAIMS, "worker": worker_id})
            if present.first() is None:
                return [], []
        chosen = self._choose(connection, self._remaining(connection, slots, capacity))
        if not chosen:
            return [], []
        # A job that was cancelled after it was chosen stays cancelled.
        jobs, damaged = parse_rows(connection.execute(_BEGUN, {"worker": worker_id, "chosen": chosen}))
        return sorted(jobs, key=lambda job: chosen.index(job.id)), damaged

    def _remaining(self, connection: Connection, slots: int, capacity: Capacity) -> "_Remaining":
        limits = self.limits
        running: Counter[str] = Counter()
        if limits.jobs is not None or limits.region_jobs:
            counts = connection.execute(
                select(SyncJobRow.target_region, func.count())
                .where(SyncJobRow.status == JobStatus.RUNNING.value, QUEUED)
                .group_by(SyncJobRow.target_region)
            )
            running.update({region: number for region, number in counts if number})
        regions: dict[str, int] = {
            region: limit - running[region] for region, limit in (limits.region_jobs or {}).items()
        }
        for region, limit in (limits.region_starts or {}).items():
            begun = connection.scalar(
                select(func.count())
                .where(SyncJobRow.target_region == region, SyncJobRow.started_at > datetime.now(UTC) - _MINUTE)
                .select_from(SyncJobRow)
            )
            regions[region] = min(regions.get(region, limit), limit - (begun or 0))
        if limits.jobs is not None:
            # Jobs that wait for an unresponsive region take no slots from others, as in this process.
            counted = sum(
                min(n, capacity.share) if region in capacity.unresponsive else n for region, n in running.items()
            )
            slots = min(slots, limits.jobs - counted)
        return _Remaining(slots, regions, capacity)

    def _choose(self, connection: Connection, free: "_Remaining") -> list[int]:
        """Choose the next jobs in fair order; if a region has no capacity left, jobs behind it run first."""
        chosen: list[int] = []
        while free.slots > 0:
            sources = [region for region in self.regions if free.capacity.regions.get(region, 1) > 0]
            parameters = {
                "regions": sources,
                "open_regions": [region for region in sources if free.regions.get(region, 1) > 0],
                "closed_pairs": [_BETWEEN.join(pair) for pair in free.capacity.closed(self.regions)],
                "most_lost": _SUSPECTED if free.suspects == 0 else bounds.JOB_LOST_WORKERS,
                "chosen": chosen,
                "slots": free.slots,
            }
            rows = connection.execute(_NEXT, parameters)
            found = rows.all()
            wanted = free.slots
            if free.suspects is None and any(lost > _SUSPECTED for *_, lost in found):
                free.suspects = self._free_for_suspects(connection)
            chosen += [job_id for job_id, source, target, lost in found if free.take(source, target, lost_workers=lost)]
            if len(found) < wanted or free.slots == wanted:
                break
        return chosen

    def _free_for_suspects(self, connection: Connection) -> int:
        """Return how many jobs that are suspected of killing their workers may start."""
        running = select(SyncJobRow.id).where(
            SyncJobRow.status == JobStatus.RUNNING.value, QUEUED, SyncJobRow.lost_workers > _SUSPECTED
        )
        return 1 if connection.scalar(running.limit(1)) is None else 0


@dataclass(slots=True)
class _Remaining:
    """How many more jobs may start: in total, by limited region and by pair of regions.

    Attributes:
        suspects: suspected jobs that may start; None until this is queried.
    """

    slots: int
    regions: dict[str, int]
    capacity: Capacity
    suspects: int | None = None

    def take(self, source: str, target: str, *, lost_workers: int) -> bool:
        if lost_workers > _SUSPECTED and not self.suspects:
            return False
        if self.regions.get(target, 1) <= 0 or not self.capacity.take((RegionId(source), RegionId(target))):
            return False
        if target in self.regions:
            self.regions[target] -= 1
        if lost_workers > _SUSPECTED:
            self.suspects = 0
        self.slots -= 1
        return True
