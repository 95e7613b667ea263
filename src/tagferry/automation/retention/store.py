"""Retention policies in the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, or_, select, true, update
from sqlalchemy.exc import IntegrityError

from tagferry.automation.retention.rules import RuleSet
from tagferry.db.engine import Database
from tagferry.db.tables import RepositoryRow, RetentionPolicyRow
from tagferry.errors import Conflict, NotFound
from tagferry.names import RegionId, RepositoryName


@dataclass(frozen=True, slots=True)
class Policy:
    """A repository's retention policy.

    Attributes:
        repository_id: the id of the repository's row; deleting the repository deletes the policy.
        updated_at: when it was created or changed; identifies its version.
        rules: the rules in SWR's JSON form.
    """

    id: int
    repository_id: int
    region: RegionId
    name: RepositoryName
    updated_at: datetime
    rules: Sequence[dict[str, Any]]


class Policies:
    """Stores retention policies; a repository, identified by the id of its row, has at most one.

    Args:
        database: stores them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, repository_id: int, rules: RuleSet) -> int:
        """Create a repository's policy, due immediately; return its id. Raises Conflict if it has one."""
        now = datetime.now(UTC)
        row = RetentionPolicyRow(repository_id=repository_id, rules=rules.documents, created_at=now, updated_at=now)
        try:
            async with self._database.write() as session:
                session.add(row)
                await session.flush()
        except IntegrityError:
            message = "the repository already has a retention policy; update it, or delete it first"
            raise Conflict("retention policy", message) from None
        return row.id

    async def of_repository(self, repository_id: int) -> Policy | None:
        """Return the policy of a repository."""
        return await self._find(RetentionPolicyRow.repository_id == repository_id)

    async def find(self, policy_id: int, *, ran_before: datetime | None = None) -> Policy | None:
        """Return a policy, or None if it was deleted or, with `ran_before`, is not due as `due` defines it."""
        is_due = true() if ran_before is None else _is_due(ran_before)
        return await self._find(and_(RetentionPolicyRow.id == policy_id, is_due))

    async def update(self, repository_id: int, policy_id: int, rules: RuleSet) -> None:
        """Replace the rules of a policy and make it due immediately; raises NotFound."""
        async with self._database.write() as session:
            changed: Any = await session.execute(
                update(RetentionPolicyRow)
                .where(_is(repository_id, policy_id))
                .values(rules=rules.documents, updated_at=datetime.now(UTC), ran_at=None)
            )
        if not changed.rowcount:
            raise policy_not_found(policy_id)

    async def delete(self, repository_id: int, policy_id: int) -> None:
        """Delete a policy; its deletion history stays. Raises NotFound of a kind of its own, as SWR does."""
        async with self._database.write() as session:
            deleted: Any = await session.execute(delete(RetentionPolicyRow).where(_is(repository_id, policy_id)))
        if not deleted.rowcount:
            raise NotFound("retention policy to delete", str(policy_id))

    async def due(self, *, ran_before: datetime) -> list[tuple[int, RegionId]]:
        """Return the ids and regions of policies whose current version last ran before that time, or never."""
        waiting = (
            select(RetentionPolicyRow.id, RepositoryRow.region)
            .join(RepositoryRow, RepositoryRow.id == RetentionPolicyRow.repository_id)
            .where(_is_due(ran_before))
        )
        async with self._database.read() as session:
            rows = await session.execute(waiting.order_by(RetentionPolicyRow.ran_at, RetentionPolicyRow.id))
            return [(policy_id, RegionId(region)) for policy_id, region in rows]

    async def is_current(self, policy: Policy) -> bool:
        """Return whether a policy exists in this version."""
        async with self._database.read() as session:
            return await session.scalar(select(RetentionPolicyRow.id).where(_is_version(policy))) is not None

    async def ran(self, policy: Policy, at: datetime) -> None:
        """Record a run; does nothing if the policy was changed meanwhile, so that the new version runs."""
        async with self._database.write() as session:
            await session.execute(update(RetentionPolicyRow).where(_is_version(policy)).values(ran_at=at))

    async def _find(self, condition: ColumnElement[bool]) -> Policy | None:
        async with self._database.read() as session:
            found = (await session.execute(_with_repository().where(condition))).one_or_none()
        return _policy(*found) if found is not None else None


def _with_repository() -> Select[RetentionPolicyRow, RepositoryRow]:
    mine = RepositoryRow.id == RetentionPolicyRow.repository_id
    return select(RetentionPolicyRow, RepositoryRow).join(RepositoryRow, mine)


def _is(repository_id: int, policy_id: int) -> ColumnElement[bool]:
    return and_(RetentionPolicyRow.id == policy_id, RetentionPolicyRow.repository_id == repository_id)


def _is_due(ran_before: datetime) -> ColumnElement[bool]:
    return or_(RetentionPolicyRow.ran_at.is_(None), RetentionPolicyRow.ran_at < ran_before)


def _is_version(policy: Policy) -> ColumnElement[bool]:
    return and_(RetentionPolicyRow.id == policy.id, RetentionPolicyRow.updated_at == policy.updated_at)


def policy_not_found(policy_id: int) -> NotFound:
    """Return the error for a policy that the repository does not have."""
    return NotFound("retention policy", str(policy_id), "list those of the repository")


def _policy(row: RetentionPolicyRow, repository: RepositoryRow) -> Policy:
    return Policy(
        id=row.id,
        repository_id=row.repository_id,
        region=RegionId(repository.region),
        name=RepositoryName(f"{repository.namespace}/{repository.name}"),
        updated_at=row.updated_at,
        rules=row.rules,
    )
