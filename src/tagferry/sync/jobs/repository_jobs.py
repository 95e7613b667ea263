"""Lists of the sync jobs of one repository, page by page."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select, union_all

from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow
from tagferry.names import Namespace, RegionId, Repository
from tagferry.sync.jobs.model import JobStatus, SyncJob
from tagferry.sync.jobs.rows import JOB_COLUMNS, parse_rows

_TOTAL = "total"


class RepositoryJobs:
    """Lists the jobs of one repository."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        """Return a page of a repository's jobs and their total number.

        Args:
            region: the source region.
            namespace: the organization.
            repository: the repository.
            limit: the maximum number of jobs on the page; None means no limit.
            offset: jobs to skip.
            descending: newest first.
            only: filter by ids; empty means all.
            request_id: filter by request.
            statuses: filter by state; empty means all.
            domain_id: filter by the domain of the user who requested them.
            organization_id: filter by source organization; former ones may have had the same name.
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
        page = _page(conditions, statuses, descending=descending, limit=limit, offset=offset)
        if statuses:
            conditions.append(_has_one_of(statuses))
        count = select(func.count()).select_from(SyncJobRow).where(*conditions)
        # In one statement: a second one would cost more than to count hundreds of jobs.
        found = await self._database.rows(page.add_columns(count.correlate(None).scalar_subquery().label(_TOTAL)), {})
        if found or not offset:
            return parse_rows(found)[0], found[0]._mapping[_TOTAL] if found else 0
        # A page after the end of the list has no row with the count.
        ((total,),) = await self._database.rows(count, {})
        return [], total


def _page(
    conditions: Sequence[ColumnElement[bool]],
    statuses: Collection[JobStatus],
    *,
    descending: bool,
    limit: int | None,
    offset: int,
) -> Select[*tuple[Any, ...]]:
    """Select a page of jobs by id.

    The jobs of each status are read in this order from an index, and only as many as the page can have: several
    statuses at once would be sorted first, all of them.
    """
    order = SyncJobRow.id.desc() if descending else SyncJobRow.id.asc()
    mine = select(*JOB_COLUMNS).where(*conditions)
    if len(statuses) > 1 and limit is not None:
        each = [
            select(SyncJobRow.id)
            .where(*conditions, SyncJobRow.status == status.value)
            .order_by(order)
            .limit(limit + offset)
            .subquery()
            for status in dict.fromkeys(statuses)
        ]
        mine = select(*JOB_COLUMNS).where(SyncJobRow.id.in_(union_all(*(select(one.c.id) for one in each))))
    elif statuses:
        mine = mine.where(_has_one_of(statuses))
    return mine.order_by(order).limit(limit).offset(offset)


def _has_one_of(statuses: Collection[JobStatus]) -> ColumnElement[bool]:
    if len(statuses) == 1:
        # SQLAlchemy writes the text of a statement with `IN` again at each execution.
        (status,) = statuses
        return SyncJobRow.status == status.value
    return SyncJobRow.status.in_([status.value for status in statuses])
