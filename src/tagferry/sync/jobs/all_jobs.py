"""Lists of the jobs of all repositories that a caller may read, by id, within a bounded time."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import ColumnElement, Row, Select, Subquery, and_, func, literal, or_, select, true, tuple_, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.accounts.model import Caller
from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow, UserRow
from tagferry.names import Namespace, RegionId, Repository
from tagferry.sync.jobs.attempts import attempts_of
from tagferry.sync.jobs.model import AttemptRecord, JobStatus, SyncJob
from tagferry.sync.jobs.rows import JOB_COLUMNS, parse_rows
from tagferry.sync.jobs.visibility import readable_job, readable_namespaces

SEARCH_SECONDS = 0.15
"""The time that one page may search; it then ends early, and its marker continues the search."""
_STEPS = (500, 4_000)
"""Jobs that the first step of a search looks at, and each further one."""
_FEW, _MANY = 2_000, 50_000
"""The numbers of jobs up to which the jobs of each term of a filter are counted, to find the rarest one: at first, and
if the newest jobs of a term do not fill the page."""
_REGIONS = 100
"""Source regions that a filter without a region looks at, if it names a repository."""
_ENDS = select(select(func.max(SyncJobRow.id)).scalar_subquery(), select(func.min(SyncJobRow.id)).scalar_subquery())
"""The newest and the oldest id. Both in one query without subqueries would make SQLite read all of them."""
_ONE_STEP = float("-inf")
"""The end of the time for a search that makes one step."""
_CLOCK_SKEW = timedelta(hours=1)
"""How far the clocks of processes may differ: ids increase with the time of creation, except for that."""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; an empty field means any.

    Attributes:
        statuses: one of these states.
        region: the source region.
        namespace: the source organization.
        repository: the repository.
        prefix: the beginning of the repository's name, after the organization.
        target_region: the target region.
        target_namespace: the target organization.
        operator: the name of the user who requested them, or the id of one who was deleted.
        request: the id of the request that created them.
        since: created then or later.
        until: created before then.
    """

    statuses: frozenset[JobStatus] = frozenset()
    region: RegionId | None = None
    namespace: Namespace | None = None
    repository: Repository | None = None
    prefix: str = ""
    target_region: RegionId | None = None
    target_namespace: Namespace | None = None
    operator: str = ""
    request: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of jobs, newest first.

    Attributes:
        marker: the page that begins after this id continues the list; None at its end. A page can have fewer jobs than
            its limit, and even none, before the end: the search for jobs that match is limited in time.
    """

    jobs: list[SyncJob]
    marker: int | None


@dataclass(frozen=True, slots=True)
class _Term:
    """A term of the filter for which an index returns the jobs in the order of their ids.

    Attributes:
        columns: the first columns of the index; the next one is the id.
        values: the values of these columns that match.
    """

    columns: tuple[Any, ...]
    values: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, column: Any, *values: str) -> Self:
        """Return the term that one column has one of these values."""
        return cls((column,), tuple((value,) for value in values))

    @property
    def condition(self) -> ColumnElement[bool]:
        """The condition in a form that the database can only evaluate, so that it uses the index of another term."""
        return or_(*(and_(*(_unindexed(*one) for one in zip(self.columns, each, strict=True))) for each in self.values))


@dataclass(frozen=True, slots=True)
class _Range:
    """The jobs with ids above `lowest`, up to `highest`."""

    lowest: int
    highest: int
    is_postgres: bool

    def ids(self, limit: int, *conditions: ColumnElement[bool]) -> Select[int]:
        """Select the newest ids."""
        inside = (SyncJobRow.id > self.lowest, SyncJobRow.id <= self.highest)
        return select(SyncJobRow.id).where(*conditions, *inside).order_by(SyncJobRow.id.desc()).limit(limit)

    def ids_of(self, term: _Term, values: tuple[str, ...], limit: int) -> Select[int]:
        """Select the newest ids of the jobs with these values, from the index of the term's columns.

        Ids below the range may be among them.
        """
        if not self.is_postgres:
            equal = (column == value for column, value in zip(term.columns, values, strict=True))
            return self.ids(limit, *equal)
        # With an equality of all columns, PostgreSQL would rather filter all jobs by their ids, as if each value were
        # as frequent among the new jobs as among the old ones. With a lower bound of the ids, it would read all jobs
        # of the value; with a lower bound of several columns together, all that have the first value.
        *first, last = zip(term.columns, values, strict=True)
        column, value = last
        equal = (one == wanted for one, wanted in first)
        inside = (column >= value, tuple_(column, SyncJobRow.id) <= tuple_(value, self.highest))
        return select(SyncJobRow.id).where(*equal, *inside).order_by(column.desc(), SyncJobRow.id.desc()).limit(limit)

    def matching(self, seen: Subquery, conditions: Sequence[ColumnElement[bool]]) -> Select[*tuple[Any, ...]]:
        """Select those of the seen jobs that match, newest first."""
        if not self.is_postgres:
            found = select(*JOB_COLUMNS).where(SyncJobRow.id.in_(select(seen.c.id)), *conditions)
            return found.order_by(SyncJobRow.id.desc())
        # Without the limit, PostgreSQL could read all newer jobs and leave out those that are not among the seen ones.
        # It does so when it plans a prepared statement for any values.
        each = select(*JOB_COLUMNS).where(SyncJobRow.id == seen.c.id, *conditions).limit(1).lateral()
        return select(*each.c).select_from(seen.join(each, true())).order_by(seen.c.id.desc())


class AllJobs:
    """Lists jobs over all repositories.

    Args:
        database: stores the job records.
        clock: seconds, monotonic.
        seconds: the time that one page may search.
        steps: the jobs that the first step of a search looks at, and each further one.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.monotonic,
        seconds: float = SEARCH_SECONDS,
        steps: tuple[int, int] = _STEPS,
    ) -> None:
        self._database = database
        self._clock = clock
        self._seconds = seconds
        self._steps = steps

    async def page(
        self, caller: Caller, wanted: JobFilter, *, limit: int, marker: int | None = None, after: int = 0
    ) -> JobPage:
        """Return the newest jobs that match and that the caller may read.

        Args:
            caller: who asks.
            wanted: the filter.
            limit: the maximum number of jobs.
            marker: only jobs with a lower id; None begins with the newest.
            after: only jobs with a higher id.
        """
        until = self._clock() + self._seconds
        async with self._database.read() as session:
            conditions, terms = _plain_conditions(wanted), _terms(wanted)
            if (term := await _of_repository(session, wanted)) is not None:
                terms.insert(0, term)
            if wanted.operator:
                user_id = await session.scalar(select(UserRow.id).where(UserRow.name == wanted.operator))
                terms.append(_Term.of(SyncJobRow.operator_id, user_id or wanted.operator))
            if not caller.is_admin:
                conditions.append(readable_job(caller))
                names = await readable_namespaces(session, caller)
                if names is not None:
                    terms.append(_Term.of(SyncJobRow.namespace, *sorted(names)))
            if not all(term.values for term in terms):
                return JobPage([], marker=None)
            whole = await self._range(session, wanted, marker, after)

            async def search(term: _Term | None, until: float) -> JobPage:
                others = [one.condition for one in terms if one is not term]
                return await self._search(session, term, (*conditions, *others), whole, limit, until)

            if len(terms) < 2:
                return await search(terms[0] if terms else None, until)
            chosen = await _rarest(session, terms, whole, _FEW)
            if chosen is None:
                # Most pages are full after one step, whichever term it reads.
                page = await search(terms[0], _ONE_STEP)
                if len(page.jobs) == limit or page.marker is None:
                    return page
                chosen = await _rarest(session, terms, whole, _MANY)
            return await search(chosen or terms[0], until)

    async def _search(
        self,
        session: AsyncSession,
        term: _Term | None,
        conditions: Sequence[ColumnElement[bool]],
        whole: _Range,
        limit: int,
        until: float,
    ) -> JobPage:
        """Look at the jobs of a term, newest first and some at a time, until the page is full or the time is over.

        A step begins only if there is time for another one like the last.
        """
        rows: list[Row[*tuple[Any, ...]]] = []
        highest, begun = whole.highest, self._clock()
        conditions = (*conditions, SyncJobRow.id > whole.lowest)
        size, further = (max(step, limit + 1) for step in self._steps)
        while highest > whole.lowest:
            seen = _seen(replace(whole, highest=highest), term, size)
            rows += await session.execute(whole.matching(seen, conditions).limit(limit + 1 - len(rows)))
            if len(rows) > limit:
                return JobPage(parse_rows(rows[:limit])[0], marker=rows[limit - 1].id)
            lowest, count = (await session.execute(select(func.min(seen.c.id), func.count()))).one()
            highest = lowest - 1 if count == size else whole.lowest
            now = self._clock()
            if now + (now - begun) >= until:
                break
            begun, size = now, further
        return JobPage(parse_rows(rows)[0], marker=highest + 1 if highest > whole.lowest else None)

    async def some(self, caller: Caller, ids: Collection[int]) -> list[SyncJob]:
        """Return those of these jobs that exist and that the caller may read, oldest first."""
        found = select(*JOB_COLUMNS).where(SyncJobRow.id.in_(ids)).order_by(SyncJobRow.id)
        if not caller.is_admin:
            found = found.where(readable_job(caller))
        return parse_rows(await self._database.rows(found, {}))[0]

    async def count_readable(self, caller: Caller, ids: Collection[int]) -> int:
        """Return how many of these jobs exist and the caller may read."""
        found = select(func.count()).select_from(SyncJobRow).where(SyncJobRow.id.in_(ids))
        if not caller.is_admin:
            found = found.where(readable_job(caller))
        (counted,) = await self._database.rows(found, {})
        return int(counted[0])

    async def attempts(self, job_id: int) -> list[AttemptRecord]:
        """Return the recorded attempts of a job, oldest first."""
        return await attempts_of(self._database, job_id)

    async def _range(self, session: AsyncSession, wanted: JobFilter, marker: int | None, after: int) -> _Range:
        newest, oldest = (await session.execute(_ENDS)).one()
        highest, lowest = newest or 0, (oldest or 1) - 1
        if marker is not None:
            highest = min(highest, marker - 1)
        lowest = max(lowest, after)
        if wanted.since is not None:
            lowest = max(lowest, await _first_since(session, wanted.since - _CLOCK_SKEW, lowest, highest) - 1)
        if wanted.until is not None:
            highest = min(highest, await _first_since(session, wanted.until + _CLOCK_SKEW, lowest, highest) - 1)
        return _Range(lowest, highest, is_postgres=self._database.is_shared)


def _plain_conditions(wanted: JobFilter) -> list[ColumnElement[bool]]:
    """Return the conditions for which there is no index in the order of ids."""
    row = SyncJobRow
    conditions: list[ColumnElement[bool]] = []
    if wanted.region is not None:
        conditions.append(_unindexed(row.source_region, wanted.region))
    if wanted.repository is not None:
        conditions.append(_unindexed(row.repository, wanted.repository))
    if wanted.prefix:
        conditions.append(row.repository.startswith(wanted.prefix, autoescape=True))
    if wanted.target_namespace is not None:
        conditions.append(_unindexed(row.target_namespace, wanted.target_namespace))
    if wanted.since is not None:
        conditions.append(row.created_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(row.created_at < wanted.until)
    return conditions


def _terms(wanted: JobFilter) -> list[_Term]:
    row, found = SyncJobRow, []
    if wanted.request:
        found.append(_Term.of(row.request_id, wanted.request))
    if wanted.namespace is not None:
        found.append(_Term.of(row.namespace, wanted.namespace))
    if wanted.statuses:
        found.append(_Term.of(row.status, *sorted(status.value for status in wanted.statuses)))
    if wanted.target_region is not None:
        found.append(_Term.of(row.target_region, wanted.target_region))
    return found


def _unindexed(column: Any, value: str) -> ColumnElement[bool]:
    # An expression that no index has.
    found: ColumnElement[bool] = literal("") + column == value
    return found


async def _of_repository(session: AsyncSession, wanted: JobFilter) -> _Term | None:
    """Return the term of a filter with a whole repository; if it names no region, with those that have jobs."""
    row, regions = SyncJobRow, [str(wanted.region)] if wanted.region is not None else []
    if wanted.namespace is None or wanted.repository is None:
        return None
    while wanted.region is None and len(regions) < _REGIONS:
        further = select(func.min(row.source_region))
        if regions:
            further = further.where(row.source_region > regions[-1])
        if (region := await session.scalar(further)) is None:
            break
        regions.append(region)
    names = (wanted.namespace, wanted.repository)
    return _Term((row.source_region, row.namespace, row.repository), tuple((region, *names) for region in regions))


async def _rarest(session: AsyncSession, terms: Sequence[_Term], whole: _Range, bound: int) -> _Term | None:
    """Return a term that fewer jobs match than this bound; None if there is none."""
    for term in terms:
        if await _count(session, term, whole, bound) < bound:
            return term
    return None


async def _count(session: AsyncSession, term: _Term, whole: _Range, bound: int) -> int:
    """Return how many jobs match a term, counted up to this bound for each of its values."""
    each = [
        select(func.count()).select_from(whole.ids_of(term, values, bound).subquery()).scalar_subquery()
        for values in term.values
    ]
    return sum((await session.execute(select(*each))).one())


def _seen(whole: _Range, term: _Term | None, size: int) -> Subquery:
    """Select the ids of the newest jobs of a range that match a term; each value is read in this order by an index.

    No other condition is part of it: PostgreSQL would rather filter all jobs than read few of them from an index.
    """
    each = [whole.ids(size)] if term is None else [whole.ids_of(term, values, size) for values in term.values]
    ids = union_all(*(select(one.subquery().c.id) for one in each)).subquery()
    return select(ids.c.id).order_by(ids.c.id.desc()).limit(size).subquery()


async def _first_since(session: AsyncSession, moment: datetime, lowest: int, highest: int) -> int:
    """Return the lowest id above `lowest` whose job was created then or later; the next id if there is none.

    Ids and times of creation increase together, so that a binary search finds it without an index of times.
    """
    low, high = lowest + 1, highest + 1
    while low < high:
        middle = (low + high) // 2
        found = (
            await session.execute(
                select(SyncJobRow.id, SyncJobRow.created_at)
                .where(SyncJobRow.id >= middle, SyncJobRow.id <= highest)
                .order_by(SyncJobRow.id)
                .limit(1)
            )
        ).first()
        if found is None or (found.created_at is not None and found.created_at >= moment):
            high = middle
        else:
            low = found.id + 1
    return low
