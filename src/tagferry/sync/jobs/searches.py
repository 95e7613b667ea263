"""Copies whose search for signatures and other referrers was incomplete, and when it is repeated."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow
from tagferry.names import Namespace, RegionId, RepositoryRef, Tag
from tagferry.sync.jobs.model import JobStatus
from tagferry.sync.jobs.rows import OPEN

SHORTEST_PAUSE = timedelta(minutes=1)
"""The pause before a rule repeats a search for the first time; each repetition doubles it."""
LONGEST_PAUSE = timedelta(hours=4)
SEARCH_LIMIT = 10
"""How often a rule repeats the search for a tag: over about 14 hours."""

_SUCCESS = SyncJobRow.status == JobStatus.SUCCESS.value
_SEARCH_FAILED = SyncJobRow.search_error.is_not(None)
_SOURCE = ("source_region", "namespace", "repository")
_ROUTE = (*_SOURCE, "target_region", "target_namespace")
# Every request or every scan executes them, so they are built once. The index of this condition holds hardly any rows.
_EVER_UNFINISHED = (
    select(SyncJobRow.tag)
    .where(*(getattr(SyncJobRow, name) == bindparam(name) for name in _ROUTE))
    .where(SyncJobRow.tag.in_(bindparam("tags", expanding=True)), _SEARCH_FAILED)
    .distinct()
)
_ALL_EVER_UNFINISHED = (
    select(SyncJobRow.target_region, SyncJobRow.target_namespace, SyncJobRow.tag)
    .where(*(getattr(SyncJobRow, name) == bindparam(name) for name in _SOURCE), _SEARCH_FAILED)
    .distinct()
)


@dataclass(frozen=True, slots=True)
class Target:
    """The region and the organization that a repository's tags are copied to."""

    region: RegionId
    namespace: Namespace


class ReferrerSearches:
    """Finds tags whose search for referrers has to be repeated, from the job records.

    Args:
        database: stores the job records.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def unfinished(self, source: RepositoryRef, target: Target, tags: Collection[Tag]) -> frozenset[Tag]:
        """Return those of these tags whose last copy to the target, or last check, had an incomplete search."""
        if not tags:
            return frozenset()
        parameters = {
            "source_region": source.region,
            "namespace": source.namespace,
            "repository": source.repository,
            "target_region": target.region,
            "target_namespace": target.namespace,
        }
        rows = await self._database.rows(_EVER_UNFINISHED, {**parameters, "tags": list(tags)})
        if not rows:
            return frozenset()
        async with self._database.read() as session:
            return frozenset([Tag(tag) for (tag,) in rows if await _is_unfinished(session, source, target, Tag(tag))])

    async def pending(self, source: RepositoryRef) -> dict[Target, set[Tag]]:
        """Return the tags of a repository that ever had an incomplete search, by target."""
        where = {"source_region": source.region, "namespace": source.namespace, "repository": source.repository}
        found: dict[Target, set[Tag]] = {}
        for region, namespace, tag in await self._database.rows(_ALL_EVER_UNFINISHED, where):
            found.setdefault(Target(RegionId(region), Namespace(namespace)), set()).add(Tag(tag))
        return found

    async def due(self, source: RepositoryRef, tag: Tag, targets: Collection[Target]) -> Mapping[Target, datetime]:
        """Return when to repeat the search for a tag, for those of these targets that need it."""
        pending = await self.pending(source)
        times: dict[Target, datetime] = {}
        for target in targets:
            if tag in pending.get(target, ()):
                async with self._database.read() as session:
                    due = await _due(session, source, target, tag)
                if due is not None:
                    times[target] = due
        return times


async def _is_unfinished(session: AsyncSession, source: RepositoryRef, target: Target, tag: Tag) -> bool:
    last = select(SyncJobRow.search_error).where(*_from(source), *_to(target), SyncJobRow.tag == tag, _SUCCESS)
    return await session.scalar(last.order_by(SyncJobRow.id.desc()).limit(1)) is not None


async def _due(session: AsyncSession, source: RepositoryRef, target: Target, tag: Tag) -> datetime | None:
    """Return when the next search is due; None if the search is complete or has been repeated often enough."""
    rows = await session.execute(
        select(SyncJobRow.status, SyncJobRow.search_error, func.coalesce(SyncJobRow.ended_at, SyncJobRow.updated_at))
        .where(*_from(source), *_to(target), SyncJobRow.tag == tag, SyncJobRow.status.not_in(OPEN))
        # As an expression, because SQLite would follow an index of ids through all jobs of the repository.
        .order_by((SyncJobRow.id + 0).desc())
        .limit(SEARCH_LIMIT + 1)
    )
    searched, ended_at, is_unfinished = 0, None, False
    for status, search_error, at in rows:
        if status == JobStatus.SUCCESS.value and search_error is None:
            break
        # Failed jobs count too, so that a tag is not started forever.
        searched, ended_at = searched + 1, ended_at or at
        is_unfinished = is_unfinished or search_error is not None
    if ended_at is None or not is_unfinished or searched > SEARCH_LIMIT:
        return None
    due: datetime = ended_at + min(SHORTEST_PAUSE * 2 ** (searched - 1), LONGEST_PAUSE)
    return due if due.tzinfo is not None else due.replace(tzinfo=UTC)


def _from(source: RepositoryRef) -> list[ColumnElement[bool]]:
    return [
        SyncJobRow.source_region == source.region,
        SyncJobRow.namespace == source.namespace,
        SyncJobRow.repository == source.repository,
    ]


def _to(target: Target) -> list[ColumnElement[bool]]:
    return [SyncJobRow.target_region == target.region, SyncJobRow.target_namespace == target.namespace]
