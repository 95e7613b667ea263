"""Repository metadata; the images are in the region's registry."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, bindparam, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry import bounds
from tagferry.accounts.model import Caller, RepositoryRecord
from tagferry.accounts.repository_rows import rows_of
from tagferry.db.engine import Database
from tagferry.db.remembered import RememberedQuery
from tagferry.db.tables import OrganizationRow, RepositoryRow
from tagferry.errors import Conflict, Invalid, NotFound
from tagferry.names import Namespace, RegionId, RepositoryName

OTHER = "other"
"""The category of a repository created by a push."""
NO_CATEGORY = ""
"""The category of a repository created without one."""
CATEGORIES = ("app_server", "linux", "framework_app", "database", "lang", OTHER, "windows", "arm")
"""The categories of repositories; SWR's values."""
_UNKEPT = frozenset({"\0", *map(chr, range(0xD800, 0xE000))})
"""Characters that JSON can contain and databases do not accept as text."""


@dataclass(frozen=True, slots=True)
class RepositoryMetadata:
    """New metadata of a repository.

    Attributes:
        is_public: whether anyone may read it; None keeps the current value, and is not allowed for a new repository.
        category: one of CATEGORIES, or NO_CATEGORY; None keeps the current value (none for a new repository).
        description: any text; None keeps the current value (empty for a new repository).

    Raises:
        Invalid: the category is unknown, or the description contains characters that cannot be stored.
    """

    is_public: bool | None = None
    category: str | None = None
    description: str | None = None

    def __post_init__(self) -> None:
        if self.category:
            check_category(self.category)
        if self.description is not None and not _UNKEPT.isdisjoint(self.description):
            raise Invalid("description", "must be text without NUL and lone surrogates", self.description)


def check_category(category: str) -> None:
    """Raise Invalid for an unknown category."""
    if category not in CATEGORIES:
        raise Invalid("category", f"must be one of {', '.join(CATEGORIES)}", category)


OnDelete = Callable[[AsyncSession, RegionId, RepositoryName], Awaitable[None]]
"""Deletes what belongs to a repository, within the transaction that deletes its record."""

_NAMES = select(RepositoryRow.namespace, RepositoryRow.name).where(RepositoryRow.region == bindparam("region"))
_NAMES_INSIDE = _NAMES.where(RepositoryRow.namespace.in_(bindparam("namespaces", expanding=True)))


class Repositories:
    """Stores the metadata of repositories, without asking the registry whether they exist.

    Args:
        database: stores the metadata.
        on_delete: called for every deleted repository, recorded or not.
    """

    def __init__(self, database: Database, *, on_delete: OnDelete | None = None) -> None:
        self._database = database
        self._on_delete = on_delete
        self._names = self._remembered(_NAMES)
        self._names_inside = self._remembered(_NAMES_INSIDE)

    def _remembered(self, statement: Select[*tuple[Any, ...]]) -> RememberedQuery[frozenset[RepositoryName]]:
        return RememberedQuery(
            self._database,
            statement,
            lambda rows: frozenset(RepositoryName(f"{namespace}/{name}") for namespace, name in rows),
            size=lambda names: 1 + len(names),
            limit=bounds.REMEMBERED_NAMES,
        )

    async def find(self, region: RegionId, name: RepositoryName) -> RepositoryRecord | None:
        """Return a repository's record, if there is one."""
        async with self._database.read() as session:
            row = await session.scalar(select(RepositoryRow).where(_at(region, name)))
        return _record(row) if row is not None else None

    async def list_in(self, region: RegionId, namespaces: Collection[Namespace] | None) -> list[RepositoryRecord]:
        """Return the records of the repositories of these organizations, or of all, by full name."""
        wanted = select(*RepositoryRow.__table__.columns).where(_inside(region, namespaces))
        rows = await self._database.rows(wanted, {})
        return sorted((_record(row) for row in rows), key=lambda record: record.name)

    async def names_in(self, region: RegionId, namespaces: Collection[Namespace] | None) -> frozenset[RepositoryName]:
        """Return the names of the recorded repositories of these organizations, or of all.

        This takes a small part of the time of `list_in`, and hardly any if nothing has changed since the last call.
        """
        if namespaces is None:
            return await self._names.get({"region": region})
        return await self._names_inside.get({"region": region, "namespaces": tuple(sorted(namespaces))})

    async def some(self, region: RegionId, names: Collection[RepositoryName]) -> list[RepositoryRecord]:
        """Return the records of those of these repositories that have one."""
        found = []
        for part, condition in rows_of(RepositoryRow, region, names):
            rows = await self._database.rows(select(*RepositoryRow.__table__.columns).where(condition), {})
            found += [record for record in map(_record, rows) if record.name in part]
        return found

    async def create(
        self, caller: Caller, region: RegionId, name: RepositoryName, metadata: RepositoryMetadata
    ) -> RepositoryRecord:
        """Record a repository created by the caller; raises Conflict if it is recorded already."""
        try:
            return await self._insert(caller, region, name, metadata, since=None)
        except IntegrityError:
            raise repository_conflict(region, name) from None

    async def find_or_create(
        self, caller: Caller, region: RegionId, name: RepositoryName, *, since: datetime | None = None
    ) -> RepositoryRecord:
        """Return a repository's record; create it if only the registry knows the repository.

        A record created here is private and of the category `other`. Its creator is the organization's, since the
        pusher is unknown, or the caller if only the registry knows the organization.

        Args:
            caller: the user who needs the record.
            region: the region of the repository.
            name: its name.
            since: when the repository was created, if known; by default now.
        """
        if found := await self.find(region, name):
            return found
        try:
            return await self._insert(
                caller, region, name, RepositoryMetadata(category=OTHER), since=since or datetime.now(UTC)
            )
        except IntegrityError:
            found = await self.find(region, name)
        if found is None:
            raise NotFound("repository", name, "it was deleted just now", where=f"in {region}")
        return found

    async def update(self, region: RegionId, name: RepositoryName, metadata: RepositoryMetadata) -> RepositoryRecord:
        """Update a repository's metadata; raises NotFound if it has no record."""
        async with self._database.write() as session:
            row = await session.scalar(select(RepositoryRow).where(_at(region, name)).with_for_update())
            if row is None:
                raise NotFound("repository", name, where=f"in {region}")
            row.is_public = row.is_public if metadata.is_public is None else metadata.is_public
            row.category = row.category if metadata.category is None else metadata.category
            row.description = row.description if metadata.description is None else metadata.description
            row.updated_at = datetime.now(UTC)
        return _record(row)

    async def delete(self, region: RegionId, name: RepositoryName) -> None:
        """Delete a repository's record with its permissions and shares, and what belongs to it."""
        async with self._database.write() as session:
            if self._on_delete is not None:
                await self._on_delete(session, region, name)
            await session.execute(delete(RepositoryRow).where(_at(region, name)))

    async def _insert(
        self,
        caller: Caller,
        region: RegionId,
        name: RepositoryName,
        metadata: RepositoryMetadata,
        *,
        since: datetime | None,
    ) -> RepositoryRecord:
        """Record a repository that the caller creates now or, with `since`, one that already exists."""
        now = datetime.now(UTC)
        async with self._database.write() as session:
            organization = await _organization(session, region, name.namespace)
            creator = (caller.user_id, caller.name)
            if since is not None and organization is not None:
                creator = (organization.creator_id, organization.creator_name)
            row = RepositoryRow(
                region=region,
                namespace=name.namespace,
                name=name.repository,
                organization_id=organization.id if organization else None,
                category=metadata.category or NO_CATEGORY,
                description=metadata.description or "",
                is_public=metadata.is_public or False,
                creator_id=creator[0],
                creator_name=creator[1],
                created_at=since or now,
                updated_at=now,
            )
            session.add(row)
            await session.flush()
        return _record(row)


def repository_conflict(region: RegionId, name: RepositoryName) -> Conflict:
    """Return the error for a repository that already exists."""
    return Conflict("repository", f'the repository "{name}" already exists in {region}')


async def _organization(session: AsyncSession, region: RegionId, name: Namespace) -> OrganizationRow | None:
    """Return the organization if it is recorded, locked against deletion until its new repository is recorded."""
    mine = select(OrganizationRow).where(OrganizationRow.region == region, OrganizationRow.name == name)
    row: OrganizationRow | None = await session.scalar(mine.with_for_update(read=True, key_share=True))
    return row


def _inside(region: RegionId, namespaces: Collection[Namespace] | None) -> ColumnElement[bool]:
    here = RepositoryRow.region == region
    return here if namespaces is None else here & RepositoryRow.namespace.in_(namespaces)


def _at(region: RegionId, name: RepositoryName) -> ColumnElement[bool]:
    return and_(
        RepositoryRow.region == region,
        RepositoryRow.namespace == name.namespace,
        RepositoryRow.name == name.repository,
    )


def _record(row: RepositoryRow | Row[*tuple[Any, ...]]) -> RepositoryRecord:
    return RepositoryRecord(
        id=row.id,
        region=RegionId(row.region),
        name=RepositoryName(f"{row.namespace}/{row.name}"),
        category=row.category,
        description=row.description,
        is_public=row.is_public,
        creator_id=row.creator_id,
        creator_name=row.creator_name,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
