"""End jobs within a transaction, with everything that follows: log, counts, unblocked successors, notified callers."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, aliased

from tagferry.coordination.pubsub import MessageBus
from tagferry.db.tables import SyncJobRow
from tagferry.sync.jobs.end_events import ENDED, log_ends_after_commit
from tagferry.sync.jobs.ends import count_on_commit, ends_of
from tagferry.sync.jobs.messages import JOBS_ENDED, JOBS_READY
from tagferry.sync.jobs.model import EndReason, JobEnd, JobStatus
from tagferry.sync.jobs.rows import is_open, transition

ROUTE = ("source_region", "namespace", "repository", "target_region", "target_namespace")
"""The columns of a job's route."""
EARLIER = aliased(SyncJobRow)
"""An earlier job, for conditions on a job's predecessors."""
# A job that is cancelled before it runs may have predecessors that have not ended.
UNBLOCK = (
    update(SyncJobRow)
    .values(
        blocked_by=select(func.max(EARLIER.id))
        .where(*(getattr(EARLIER, name) == getattr(SyncJobRow, name) for name in (*ROUTE, "tag")))
        .where(EARLIER.id < SyncJobRow.id, is_open(EARLIER))
        .scalar_subquery()
    )
    .returning(SyncJobRow.id, SyncJobRow.blocked_by)
    .execution_options(synchronize_session=False)
)
"""Lets jobs wait for their latest predecessor that is open, if any."""
_UNBLOCK_AFTER = UNBLOCK.where(SyncJobRow.blocked_by.in_(bindparam("ended", expanding=True)))


async def end_jobs(
    session: AsyncSession,
    bus: MessageBus,
    status: JobStatus,
    *conditions: ColumnElement[bool],
    cause: EndReason | None = None,
    **values: Any,
) -> list[int]:
    """End the jobs of these conditions that are in a state that this status may follow.

    Args:
        session: the transaction.
        bus: notifies the callers that wait for the jobs, and the workers of jobs that were waiting for them.
        status: how they end.
        conditions: which jobs.
        cause: the reason in metrics; by default that of the status.
        values: further columns, such as their `reason`.

    Returns:
        Their ids, in order.
    """
    ended = await session.execute(transition(status, **values).where(*conditions).returning(*ENDED))
    ends = ends_of(log_ends_after_commit(session, ended), status, cause)
    job_ids = [end.job_id for end in ends]
    await publish_ends(session, bus, job_ids, ends)
    return job_ids


async def publish_ends(
    session: AsyncSession, bus: MessageBus, ended: Collection[int], ends: Collection[JobEnd]
) -> None:
    """Unblock the jobs behind jobs that this transaction has ended, notify the callers that wait, and count the ends.

    Args:
        session: the transaction.
        bus: see `end_jobs`.
        ended: the ids of the jobs.
        ends: their ends, as far as they are to be counted.
    """
    if not ended:
        return
    count_on_commit(session.sync_session, ends)
    if await session.run_sync(_unblock_after, ended):
        await bus.publish(session, JOBS_READY, [1])
    await bus.publish(session, JOBS_ENDED, ended)


def _unblock_after(session: Session, ended: Collection[int]) -> bool:
    """Unblock the jobs behind these jobs; returns whether any can run now. Without the overhead of the ORM."""
    moved = session.connection().execute(_UNBLOCK_AFTER, {"ended": list(ended)})
    return any(blocked_by is None for _, blocked_by in moved)
