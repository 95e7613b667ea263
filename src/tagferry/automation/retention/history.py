"""The tags that retention policies have deleted."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from tagferry.automation.retention.rules import ExpiredTag, Template
from tagferry.automation.retention.store import Policy
from tagferry.db.engine import Database
from tagferry.db.pruning import prune
from tagferry.db.tables import RetentionDeletionRow
from tagferry.names import Digest, Tag


@dataclass(frozen=True, slots=True)
class Deletion:
    """A tag that a policy deleted.

    Attributes:
        policy_id: the policy, which may have been deleted since.
        template: the kind of rule by which the tag expired.
        digest: the digest that it pointed to.
    """

    id: int
    policy_id: int
    template: Template
    tag: Tag
    digest: Digest
    created_at: datetime


class DeletionHistory:
    """Stores the tags that policies have deleted, until the repository is deleted.

    Args:
        database: stores them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, policy: Policy, gone: ExpiredTag) -> None:
        """Record a deleted tag; does nothing if the repository was deleted."""
        try:
            async with self._database.write() as session:
                session.add(
                    RetentionDeletionRow(
                        repository_id=policy.repository_id,
                        policy_id=policy.id,
                        template=gone.template.value,
                        tag=gone.record.tag,
                        digest=gone.record.digest,
                        created_at=datetime.now(UTC),
                    )
                )
                await session.flush()
        except IntegrityError:
            return

    async def of_repository(self, repository_id: int, *, limit: int, offset: int) -> tuple[list[Deletion], int]:
        """Return a page of the tags deleted in a repository, newest first, and their total."""
        mine = RetentionDeletionRow.repository_id == repository_id
        page = select(RetentionDeletionRow).where(mine).order_by(RetentionDeletionRow.id.desc())
        async with self._database.read() as session:
            total = await session.scalar(select(func.count()).select_from(RetentionDeletionRow).where(mine))
            rows = await session.scalars(page.limit(limit).offset(offset))
            return [_deletion(row) for row in rows], total or 0

    async def prune(self, *, before: datetime) -> int:
        """Delete the records of tags deleted before the given time; return their number."""
        return await prune(self._database, RetentionDeletionRow.created_at, before)


def _deletion(row: RetentionDeletionRow) -> Deletion:
    return Deletion(
        id=row.id,
        policy_id=row.policy_id,
        template=Template(row.template),
        tag=Tag(row.tag),
        digest=Digest(row.digest),
        created_at=row.created_at,
    )
