"""The list of audit records, and their deletion."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Select, TextClause, and_, exists, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry import bounds
from tagferry.accounts.known_names import ORGANIZATION_RULE, USER_RULE, organization_exists, user_exists
from tagferry.accounts.model import Caller
from tagferry.audit.model import AuditPage, AuditQuery, AuditRecord, Position
from tagferry.db.engine import Database
from tagferry.db.pruning import prune
from tagferry.db.tables import AuditRecordRow
from tagferry.errors import Denied, Invalid

_ANONYMOUS_SHARE = 10
"""Anonymous requests have at most this part of the records: one tenth."""

Row = AuditRecordRow
_OF_REPOSITORY = "must be in an organization, which"
_IS_REFUSED = text("is_refused")
"""The condition of the index, as it is written there; otherwise SQLite does not use the index."""


class AuditLog:
    """The audit records of all processes. A reload changes `kept` and `max_records`.

    Args:
        database: has the records.
        kept: the age from which `prune` deletes records.
        max_records: the number of records that it leaves; 0 for no maximum.
    """

    def __init__(self, database: Database, *, kept: timedelta, max_records: int) -> None:
        self._database = database
        self.kept = kept
        self.max_records = max_records

    async def search(self, caller: Caller, query: AuditQuery) -> AuditPage:
        """Return the records that match, newest first.

        Raises:
            Denied: the caller is not an administrator.
        """
        if not caller.is_admin:
            raise Denied(f'user "{caller.name}" is not an administrator; only administrators read audit records')
        wanted = _newest_first(select(Row)).where(*_conditions(query)).limit(query.limit + 1)
        async with self._database.read() as session:
            found = [_record(row) for row in await session.scalars(wanted)]
        records = found[: query.limit]
        has_more = len(found) > query.limit
        return AuditPage(records, Position(records[-1].occurred_at, records[-1].id) if has_more else None)

    async def require_known(self, query: AuditQuery, *, with_organizations: bool = True) -> None:
        """Raise Invalid for the first user or organization of a query that does not exist, and that no record has.

        Args:
            query: the query.
            with_organizations: whether all organizations are known to the database.
        """
        async with self._database.read() as session:
            if query.user and not (
                await user_exists(session, query.user) or await self._has(session, Row.user_name == query.user)
            ):
                raise Invalid("user", USER_RULE, query.user)
            for field, name in (
                ("organization", query.organization),
                ("repository", query.repository.partition("/")[0]),
            ):
                if not (with_organizations and name):
                    continue
                if not (await organization_exists(session, name) or await self._has(session, Row.organization == name)):
                    rule = ORGANIZATION_RULE if field == "organization" else f"{_OF_REPOSITORY} {ORGANIZATION_RULE}"
                    raise Invalid(field, rule, name)

    async def has_operation(self, operation: str) -> bool:
        """Return whether a record has an operation, in words."""
        async with self._database.read() as session:
            return await self._has(session, Row.operation == operation)

    @staticmethod
    async def _has(session: AsyncSession, condition: ColumnElement[bool]) -> bool:
        return bool(await session.scalar(select(exists().where(condition))))

    async def prune(self) -> int:
        """Delete old records, and the oldest ones above the maximum; returns how many."""
        pruned = await self._prune(datetime.now(UTC) - self.kept)
        if self.max_records:
            pruned += await self._prune_above(self.max_records // _ANONYMOUS_SHARE, Row.user_name.is_(None))
            pruned += await self._prune_above(self.max_records)
        return pruned

    async def _prune_above(self, most: int, condition: ColumnElement[bool] | None = None) -> int:
        last = await self._last_kept(most, condition)
        return 0 if last is None else await self._prune(last, condition)

    async def _prune(self, before: datetime, condition: ColumnElement[bool] | None = None) -> int:
        """Delete in small pieces until nothing is left to delete."""
        pruned = 0
        while True:
            deleted = await prune(self._database, Row.occurred_at, before, only=condition)
            pruned += deleted
            if deleted < bounds.RECORDS_PRUNED:
                return pruned

    async def _last_kept(self, most: int, condition: ColumnElement[bool] | None) -> datetime | None:
        """Return the time of the oldest of the newest records; None if there are not more."""
        times = select(Row.occurred_at).order_by(Row.occurred_at.desc()).offset(max(0, most - 1)).limit(1)
        if condition is not None:
            times = times.where(condition)
        async with self._database.read() as session:
            return await session.scalar(times)


def _newest_first(statement: Select[Row]) -> Select[Row]:
    return statement.order_by(Row.occurred_at.desc(), Row.id.desc())


def _conditions(query: AuditQuery) -> Iterator[ColumnElement[bool] | TextClause]:
    if query.refused:
        yield _IS_REFUSED
    for column, value in (
        (Row.repository, query.repository),
        (Row.user_name, query.user),
        (Row.operation, query.operation),
        (Row.organization, query.organization),
        (Row.method, query.method),
    ):
        if value:
            # Few records are of refused requests, which SQLite does not know: it would rather find them by the column.
            yield (func.coalesce(column, "") if query.refused else column) == value
    if query.since is not None:
        yield Row.occurred_at >= query.since
    if query.until is not None:
        yield Row.occurred_at < query.until
    if query.after is not None:
        # The first condition lets the database start in the index.
        yield Row.occurred_at <= query.after.occurred_at
        yield or_(
            Row.occurred_at < query.after.occurred_at,
            and_(Row.occurred_at == query.after.occurred_at, Row.id < query.after.id),
        )


def _record(row: Row) -> AuditRecord:
    return AuditRecord(
        id=row.id,
        occurred_at=row.occurred_at,
        user=row.user_name or "",
        access_key=row.access_key or "",
        method=row.method,
        operation=row.operation or "",
        path=row.path,
        status=row.status,
        region=row.region,
        address=row.address,
        request_id=row.request_id,
        organization=row.organization or "",
        repository=row.repository or "",
        subject_user=row.subject_user or "",
        subject_key=row.subject_key or "",
        times=row.times,
    )
