"""Lists of the sync jobs of one repository, page by page."""

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, select, union_all

from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow
from tagferry.names import Namespace, RegionId, Repository
from tagferry.sync.jobs.model import JobStatus, SyncJob
from tagferry.sync.jobs.rows import JOB_COLUMNS, parse_rows

_TOTAL = "total"
_STATEMENTS = 256
"""The statements that are kept; each combination of filters has its own."""


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
        values = {
            "only": [*only] or None,
            "request_id": request_id,
            "domain_id": domain_id,
            "source_organization_id": organization_id,
        }
        given = {name: value for name, value in values.items() if value is not None}
        parameters = {"source_region": region, "namespace": namespace, "repository": repository, **given}
        wanted = tuple(status.value for status in dict.fromkeys(statuses))
        page, count = _statements(tuple(given), wanted, descending=descending, is_limited=limit is not None)
        bounds = {"first": offset} if limit is None else {"first": offset, "limit": limit, "last": offset + limit}
        found = await self._database.rows(page, parameters | bounds)
        if found or not offset:
            return parse_rows(found)[0], found[0]._mapping[_TOTAL] if found else 0
        # A page after the end of the list has no row with the count.
        ((total,),) = await self._database.rows(count, parameters)
        return [], total


@lru_cache(_STATEMENTS)
def _statements(
    filters: tuple[str, ...], statuses: tuple[str, ...], *, descending: bool, is_limited: bool
) -> tuple[Select[*tuple[Any, ...]], Select[*tuple[Any, ...]]]:
    """Return the statements of a page of jobs with their total number, and of that number alone.

    They are kept, because SQLAlchemy takes as long to build them as SQLite to execute them.

    Args:
        filters: the parameters that restrict the jobs, in addition to the repository.
        statuses: the states of the jobs; empty means all.
        descending: newest first.
        is_limited: whether the page has a maximum number of jobs.
    """
    conditions: list[ColumnElement[bool]] = [
        SyncJobRow.id.in_(bindparam(name, expanding=True))
        if name == "only"
        else getattr(SyncJobRow, name) == bindparam(name)
        for name in ("source_region", "namespace", "repository", *filters)
    ]
    page = _page(conditions, statuses, descending=descending, is_limited=is_limited)
    if statuses:
        conditions.append(_has_one_of(statuses))
    count = select(func.count()).select_from(SyncJobRow).where(*conditions)
    # In one statement: a second one would cost more than to count hundreds of jobs.
    return page.add_columns(count.correlate(None).scalar_subquery().label(_TOTAL)), count


def _page(
    conditions: Sequence[ColumnElement[bool]], statuses: tuple[str, ...], *, descending: bool, is_limited: bool
) -> Select[*tuple[Any, ...]]:
    """Select a page of jobs by id.

    The jobs of each status are read in this order from an index, and only as many as the page can have: several
    statuses at once would be sorted first, all of them.
    """
    order = SyncJobRow.id.desc() if descending else SyncJobRow.id.asc()
    mine = select(*JOB_COLUMNS).where(*conditions)
    if len(statuses) > 1 and is_limited:
        each = [
            select(SyncJobRow.id)
            .where(*conditions, SyncJobRow.status == status)
            .order_by(order)
            .limit(bindparam("last"))
            .subquery()
            for status in statuses
        ]
        mine = select(*JOB_COLUMNS).where(SyncJobRow.id.in_(union_all(*(select(one.c.id) for one in each))))
    elif statuses:
        mine = mine.where(_has_one_of(statuses))
    return mine.order_by(order).limit(bindparam("limit") if is_limited else None).offset(bindparam("first"))


def _has_one_of(statuses: Sequence[str]) -> ColumnElement[bool]:
    if len(statuses) == 1:
        # SQLAlchemy writes the text of a statement with `IN` again at each execution.
        return SyncJobRow.status == statuses[0]
    return SyncJobRow.status.in_(statuses)
