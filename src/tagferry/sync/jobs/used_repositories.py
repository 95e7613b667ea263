"""The repositories of a region that synchronizations have used recently."""

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow, SyncRuleRow
from tagferry.names import Namespace, RegionId, Repository, RepositoryName, Tag
from tagferry.sync.jobs.model import JobStatus

_NEWEST = 3


async def used_repositories(database: Database, region: RegionId) -> list[tuple[RepositoryName, Tag | None]]:
    """Return repositories that probably exist in a region, newest first, with a tag if one was copied."""
    async with database.read() as session:
        return await session.run_sync(read_used_repositories, region)


def read_used_repositories(session: Session, region: RegionId) -> list[tuple[RepositoryName, Tag | None]]:
    """Return the same, read in the session of a synchronous connection."""
    jobs = (
        select(SyncJobRow)
        .where(
            SyncJobRow.status == JobStatus.SUCCESS,
            or_(SyncJobRow.source_region == region, SyncJobRow.target_region == region),
        )
        .order_by(SyncJobRow.id.desc())
        .limit(_NEWEST)
    )
    rules = (
        select(SyncRuleRow).where(SyncRuleRow.source_region == region).order_by(SyncRuleRow.id.desc()).limit(_NEWEST)
    )
    found: list[tuple[RepositoryName, Tag | None]] = []
    for job in session.scalars(jobs):
        namespace = job.namespace if job.source_region == region else job.target_namespace
        found.append((_name(namespace, job.repository), Tag(job.tag)))
    found += [(_name(rule.namespace, rule.repository), None) for rule in session.scalars(rules)]
    return found


def _name(namespace: str, repository: str) -> RepositoryName:
    return RepositoryName.of(Namespace(namespace), Repository(repository))
