"""What policies have deleted."""

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
        policy_id: the policy, which may have ended since.
        template: what kind of rule let it go.
        digest: what it pointed to.
    """

    id: int
    policy_id: int
    template: Template
    tag: Tag
    digest: Digest
    created_at: datetime


class DeletionHistory:
    """What policies have deleted; it ends with the repository's record.

    Args:
        database: where it is kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, policy: Policy, gone: ExpiredTag) -> None:
        """Record that a tag was deleted; where the repository was deleted too, there is nothing left to tell."""
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
        """A page of what was deleted in a repository, the last first, and how much that is in all."""
        mine = RetentionDeletionRow.repository_id == repository_id
        page = select(RetentionDeletionRow).where(mine).order_by(RetentionDeletionRow.id.desc())
        async with self._database.read() as session:
            total = await session.scalar(select(func.count()).select_from(RetentionDeletionRow).where(mine))
            rows = await session.scalars(page.limit(limit).offset(offset))
            return [_deletion(row) for row in rows], total or 0

    async def prune(self, *, before: datetime) -> int:
        """Forget what was deleted before that; returns how many."""
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
