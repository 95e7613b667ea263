"""Lists of the sync jobs of one repository, page by page."""

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, Select, func, select, union_all

from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow
from tagferry.names import Namespace, RegionId, Repository
from tagferry.sync.jobs.model import JobStatus, SyncJob
from tagferry.sync.jobs.rows import parse_rows


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
            conditions.append(SyncJobRow.status.in_([status.value for status in statuses]))
        count = select(func.count()).select_from(SyncJobRow).where(*conditions)
        async with self._database.read() as session:
            # In one statement: a second one would cost more than to count hundreds of jobs.
            found = (await session.execute(page.add_columns(count.correlate(None).scalar_subquery()))).all()
            total = found[0][1] if found else 0
            if not found and offset:
                # A page after the end of the list has no row with the count.
                total = await session.scalar(count) or 0
        return parse_rows(row for row, _ in found)[0], total


def _page(
    conditions: Sequence[ColumnElement[bool]],
    statuses: Collection[JobStatus],
    *,
    descending: bool,
    limit: int | None,
    offset: int,
) -> Select[SyncJobRow]:
    """Select a page of jobs by id.

    The jobs of each status are read in this order from an index, and only as many as the page can have: several
    statuses at once would be sorted first, all of them.
    """
    order = SyncJobRow.id.desc() if descending else SyncJobRow.id.asc()
    mine = select(SyncJobRow).where(*conditions)
    if len(statuses) > 1 and limit is not None:
        each = [
            select(SyncJobRow.id)
            .where(*conditions, SyncJobRow.status == status.value)
            .order_by(order)
            .limit(limit + offset)
            .subquery()
            for status in dict.fromkeys(statuses)
        ]
        mine = select(SyncJobRow).where(SyncJobRow.id.in_(union_all(*(select(one.c.id) for one in each))))
    elif statuses:
        mine = mine.where(SyncJobRow.status.in_([status.value for status in statuses]))
    return mine.order_by(order).limit(limit).offset(offset)
