"""Cancel the open jobs of a deleted organization or repository, and detach its job history.

The records of its jobs are kept as long as any others, but no longer belong to an organization.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Update, and_, or_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from tagferry.coordination.pubsub import MessageBus
from tagferry.db.tables import SyncJobRow
from tagferry.names import RegionId, RepositoryName
from tagferry.sync.jobs.ending import end_jobs
from tagferry.sync.jobs.messages import JOBS_CANCELLED
from tagferry.sync.jobs.model import JobStatus


@dataclass(frozen=True, slots=True)
class JobCleanup:
    """Cleans up jobs within the transaction that deletes their organization or repository.

    Args:
        bus: receives the ids of the jobs that are cancelled.
    """

    bus: MessageBus

    async def detach_organization(self, session: AsyncSession, organization_id: int, name: str) -> None:
        """Cancel the jobs from and to an organization; the caller holds its row lock, so no new job can be recorded."""
        source, target = SyncJobRow.source_organization_id, SyncJobRow.target_organization_id
        mine = or_(source == organization_id, target == organization_id)
        await self._cancel(session, mine, reason=f"the organization {name} was deleted")
        await session.execute(_detached(source).where(source == organization_id))
        await session.execute(_detached(target).where(target == organization_id))

    async def detach_repository(self, session: AsyncSession, region: RegionId, name: RepositoryName) -> None:
        """Cancel the jobs from a repository, and hide them from a later repository of the same name; rules stay."""
        table = SyncJobRow
        mine = and_(
            table.source_region == region, table.namespace == name.namespace, table.repository == name.repository
        )
        await self._cancel(session, mine, reason=f"the repository {name} in {region} was deleted")
        source = SyncJobRow.source_organization_id
        await session.execute(_detached(source).where(mine, source.is_not(None)))

    async def _cancel(self, session: AsyncSession, condition: ColumnElement[bool], *, reason: str) -> None:
        cancelled = await end_jobs(session, self.bus, JobStatus.CANCEL, condition, reason=reason)
        if cancelled:
            await self.bus.publish(session, JOBS_CANCELLED, cancelled)


def _detached(organization: InstrumentedAttribute[int | None]) -> Update:
    return update(SyncJobRow).values({organization: None}).execution_options(synchronize_session=False)
