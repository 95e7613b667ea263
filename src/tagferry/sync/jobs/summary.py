"""A summary of the jobs that a caller may see: those that are open, and those that ended within a day, by the hour."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, and_, bindparam, func, literal_column, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, aliased

from tagferry.accounts.model import Caller
from tagferry.db.columns import UtcDateTime
from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow
from tagferry.sync.jobs.model import JobStatus
from tagferry.sync.jobs.visibility import readable_job

HOURS = 24
COUNTED = 20_000
"""Jobs of a state, or of an hour, up to which they are counted: from an index, without reading the jobs."""
READ = 2_000
"""For callers who may not see all jobs: the jobs of an open state, and the newest of the last day, that are read."""
_HOUR = timedelta(hours=1)
_FAILED = (JobStatus.FAILED, JobStatus.TIMEOUT)


@dataclass(frozen=True, slots=True)
class HourSummary:
    """The jobs that ended within one hour.

    Attributes:
        begin: the beginning of the hour.
        conflicts: those that ended because the target has another image under the tag.
    """

    begin: datetime
    succeeded: int = 0
    failed: int = 0
    conflicts: int = 0


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A summary of jobs.

    Attributes:
        running: those that a worker copies.
        waiting: those in the queue.
        postponed: those that wait for their next attempt, because a registry was unavailable.
        hours: the last 24 hours, oldest first; the last one has only begun.
        is_partial: whether there are more jobs than were counted.
    """

    running: int
    waiting: int
    postponed: int
    hours: tuple[HourSummary, ...]
    is_partial: bool

    @property
    def succeeded(self) -> int:
        """The jobs of the last 24 hours that succeeded."""
        return sum(hour.succeeded for hour in self.hours)

    @property
    def failed(self) -> int:
        """The jobs of the last 24 hours that failed or timed out."""
        return sum(hour.failed for hour in self.hours)

    @property
    def conflicts(self) -> int:
        """The jobs of the last 24 hours that ended with a conflict."""
        return sum(hour.conflicts for hour in self.hours)


class JobSummaries:
    """Summarizes jobs over all repositories, within a bounded time.

    Args:
        database: stores the job records.
        clock: returns the current time.
    """

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._clock = clock

    async def of(self, caller: Caller) -> JobSummary:
        """Return the summary of the jobs that a caller may see."""
        now = self._clock()
        begins = [now.replace(minute=0, second=0, microsecond=0) - _HOUR * back for back in reversed(range(HOURS))]
        async with self._database.read() as session:
            if caller.is_admin:
                opened = [await _open(session, condition) for condition in _OPEN]
                ended = await _ended(session, begins)
            else:
                opened = [await _visible_open(session, condition, caller) for condition in _OPEN]
                ended = await _visible_ended(session, begins, caller)
        running, waiting, postponed = (count for count, _ in opened)
        return JobSummary(
            running=running,
            waiting=waiting,
            postponed=postponed,
            hours=tuple(_hour(begin, counts) for begin, counts in zip(begins, ended.hours, strict=True)),
            is_partial=ended.is_partial or any(is_partial for _, is_partial in opened),
        )


@dataclass(frozen=True, slots=True)
class _Ended:
    """The jobs that ended, by hour and state; more of them exist if it `is_partial`."""

    hours: list[Counter[str]]
    is_partial: bool


async def _open(session: AsyncSession, condition: ColumnElement[bool]) -> tuple[int, bool]:
    """Return the number of jobs of a state, and whether more of them exist."""
    counted = select(SyncJobRow.status).where(condition).limit(COUNTED).subquery()
    total = await session.scalar(select(func.count()).select_from(counted)) or 0
    return total, total >= COUNTED


async def _visible_open(session: AsyncSession, condition: ColumnElement[bool], caller: Caller) -> tuple[int, bool]:
    """Return the number of jobs of a state that the caller may see, and whether more of them exist."""
    job = _newest(condition, SyncJobRow.id)
    each = select(readable_job(caller, job).label("is_visible")).select_from(job).subquery()
    counted = select(func.count(), func.count().filter(each.c.is_visible)).select_from(each)
    total, seen = (await session.execute(counted)).one()
    return seen, total >= READ


def _newest(condition: ColumnElement[bool], order: InstrumentedAttribute[Any]) -> type[SyncJobRow]:
    """Return some of the newest jobs, with what is counted and what decides who may see them, each read once."""
    row = SyncJobRow
    deciding = (row.source_organization_id, row.source_region, row.namespace, row.repository, row.domain_id)
    newest = select(row.id, row.ended_at, row.status, *deciding).where(condition).order_by(order.desc()).limit(READ)
    return aliased(SyncJobRow, newest.subquery())


async def _ended(session: AsyncSession, begins: Sequence[datetime]) -> _Ended:
    """Count all jobs that ended in these hours."""
    times = {f"begin_{index}": begin for index, begin in enumerate([*begins, begins[-1] + _HOUR])}
    found = [Counter[str]() for _ in begins]
    for index, status, count in await session.execute(_ENDED, {**times, "limit": COUNTED}):
        found[index][status] = count
    return _Ended(found, any(counts.total() >= COUNTED for counts in found))


async def _visible_ended(session: AsyncSession, begins: Sequence[datetime], caller: Caller) -> _Ended:
    """Count those of the jobs that ended in these hours that the caller may see, among the newest ones."""
    job = _newest(SyncJobRow.ended_at >= begins[0], SyncJobRow.ended_at)
    rows = (await session.execute(select(job.ended_at, job.status, readable_job(caller, job)))).all()
    found = [Counter[str]() for _ in begins]
    for ended_at, status, is_visible in rows:
        if is_visible and ended_at is not None and (hour := int((ended_at - begins[0]) / _HOUR)) < HOURS:
            found[hour][status] += 1
    return _Ended(found, len(rows) >= READ)


def _of_hour(index: int) -> Select[Any]:
    """Select the number of an hour, the states of the jobs that ended in it, and their numbers."""
    begin, end = (bindparam(f"begin_{hour}", type_=UtcDateTime) for hour in (index, index + 1))
    inside = and_(SyncJobRow.ended_at >= begin, SyncJobRow.ended_at < end)
    # Only the state, which the index has.
    seen = select(SyncJobRow.status).where(inside).limit(bindparam("limit", type_=Integer)).subquery()
    number: ColumnElement[int] = literal_column(str(index), Integer)
    counted: Select[Any] = select(number, seen.c.status, func.count()).group_by(seen.c.status)
    return counted


_ENDED = union_all(*map(_of_hour, range(HOURS)))


def _hour(begin: datetime, counts: Mapping[str, int]) -> HourSummary:
    return HourSummary(
        begin=begin,
        succeeded=counts.get(JobStatus.SUCCESS.value, 0),
        failed=sum(counts.get(status.value, 0) for status in _FAILED),
        conflicts=counts.get(JobStatus.EXISTED.value, 0),
    )


_IS_WAITING = SyncJobRow.status == JobStatus.WAITING.value
_OPEN = (
    SyncJobRow.status == JobStatus.RUNNING.value,
    and_(_IS_WAITING, SyncJobRow.next_attempt_at.is_(None)),
    and_(_IS_WAITING, SyncJobRow.next_attempt_at.is_not(None)),
)
"""The running, the waiting and the postponed jobs."""
