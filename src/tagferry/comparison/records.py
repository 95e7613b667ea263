"""The records of jobs and rules about the copies of a repository and of an image."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import InstrumentedAttribute

from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow, SyncRuleRow
from tagferry.names import Digest, Namespace, RegionId, Repository, RepositoryRef, Tag
from tagferry.sync.jobs.model import JobStatus

_NEWEST_JOBS = 200
_JOBS_PER_TAG = 10
"""The newest jobs of a tag in which a conversion is looked for."""


@dataclass(frozen=True, slots=True)
class SourceScope:
    """The records of a repository that a caller may see.

    Attributes:
        organization_id: the id of its organization; former ones may have had the same name. None for any.
        domain_id: only records of this domain, for guests; None for all.
    """

    repository: RepositoryRef
    organization_id: int | None = None
    domain_id: str | None = None


class CopyRecords:
    """Looks up copies in the records of jobs and rules.

    Args:
        database: stores the records.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def targets(self, scope: SourceScope) -> list[RepositoryRef]:
        """Return the targets of a repository's rules, then those of its newest jobs."""
        source = scope.repository
        rules = select(SyncRuleRow.target_region, SyncRuleRow.target_namespace).where(
            SyncRuleRow.source_region == source.region,
            SyncRuleRow.namespace == source.namespace,
            SyncRuleRow.repository == source.repository,
            *_if_set(SyncRuleRow.domain_id, scope.domain_id),
        )
        newest = (
            select(SyncJobRow.target_region, SyncJobRow.target_namespace)
            .where(
                SyncJobRow.source_region == source.region,
                SyncJobRow.namespace == source.namespace,
                SyncJobRow.repository == source.repository,
                *_if_set(SyncJobRow.source_organization_id, scope.organization_id),
                *_if_set(SyncJobRow.domain_id, scope.domain_id),
            )
            .order_by(SyncJobRow.id.desc())
            .limit(_NEWEST_JOBS)
        )
        async with self._database.read() as session:
            rows = [*await session.execute(rules.order_by(SyncRuleRow.id)), *await session.execute(newest)]
        return [
            RepositoryRef(RegionId(region), Namespace(namespace), source.repository)
            for region, namespace in dict.fromkeys((region, namespace) for region, namespace in rows)
        ]

    async def conversions(self, target: RepositoryRef, tags: Collection[Tag]) -> set[tuple[Tag, Digest, Digest]]:
        """Return the conversions that copied these tags to a repository: tag, digest at the source and at the target.

        The newest jobs of each tag are considered.
        """
        age = func.row_number().over(partition_by=SyncJobRow.tag, order_by=SyncJobRow.id.desc()).label("age")
        newest = (
            select(SyncJobRow.tag, SyncJobRow.rewritten, age)
            .where(
                SyncJobRow.target_region == target.region,
                SyncJobRow.target_namespace == target.namespace,
                SyncJobRow.repository == target.repository,
                SyncJobRow.tag.in_(tags),
                SyncJobRow.status == JobStatus.SUCCESS.value,
                SyncJobRow.rewritten.is_not(None),
            )
            .subquery()
        )
        async with self._database.read() as session:
            rows = await session.execute(select(newest.c.tag, newest.c.rewritten).where(newest.c.age <= _JOBS_PER_TAG))
            return {
                (Tag(tag), Digest(before), Digest(after))
                for tag, rewritten in rows
                for before, after in ((rewritten or {}).get("digests") or {}).items()
            }

    async def holders(self, digest: Digest) -> list[RepositoryRef]:
        """Return the repositories from and to which the newest jobs copied this digest, newest first."""
        jobs = (
            select(
                SyncJobRow.source_region,
                SyncJobRow.namespace,
                SyncJobRow.target_region,
                SyncJobRow.target_namespace,
                SyncJobRow.repository,
                SyncJobRow.rewritten,
            )
            .where(SyncJobRow.digest == digest)
            .order_by(SyncJobRow.id.desc())
            .limit(_NEWEST_JOBS)
        )
        found: dict[RepositoryRef, None] = {}
        async with self._database.read() as session:
            for row in await session.execute(jobs):
                name = Repository(row.repository)
                found[RepositoryRef(RegionId(row.target_region), Namespace(row.target_namespace), name)] = None
                if row.rewritten is None:
                    found[RepositoryRef(RegionId(row.source_region), Namespace(row.namespace), name)] = None
        return list(found)


def _if_set(column: InstrumentedAttribute[Any], value: str | int | None) -> list[ColumnElement[bool]]:
    return [] if value is None else [column == value]
