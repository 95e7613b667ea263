"""Organizations of the regions on record, and who was permitted what in them."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from sqlalchemy import Select, delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.accounts.model import Caller, Organization, Permission
from tagferry.db.engine import Database
from tagferry.db.tables import (
    OrganizationNumberRow,
    OrganizationPermissionRow,
    OrganizationRow,
    RepositoryDownloadsRow,
    UserRow,
)
from tagferry.errors import Conflict, InvalidName, NotFound, QuotaExceeded
from tagferry.names import Namespace, RegionId

RESERVED = frozenset({"manage"})
"""Names that would collide with the management API's own paths."""


OnDelete = Callable[[AsyncSession, int, str], Awaitable[None]]
"""Ends what belongs to an organization, given by id and name, within the transaction that deletes it."""


class Organizations:
    """Creates, lists and deletes the records of organizations; `AccessControl` guards them.

    Args:
        database: where they are kept.
        on_delete: called for every one that is deleted.
    """

    def __init__(self, database: Database, *, on_delete: OnDelete | None = None) -> None:
        self._database = database
        self._on_delete = on_delete

    async def create(
        self, caller: Caller, region: RegionId, name: Namespace, *, limit: int | None = None
    ) -> Organization:
        """Create an organization, which its creator manages.

        Args:
            caller: the creator.
            region: where it is.
            name: its name.
            limit: how many of the region the creator may have created; None means any number.

        Raises:
            InvalidName: the name cannot be that of an organization.
            Conflict: there is one of this name.
            QuotaExceeded: the creator has as many as it may.
        """
        if name in RESERVED:
            raise InvalidName("namespace", "must not be a name that the API uses itself", str(name))
        number = OrganizationNumberRow()
        row = OrganizationRow(
            region=region,
            name=name,
            domain_id=caller.domain_id,
            creator_id=caller.user_id,
            creator_name=caller.name,
            created_at=datetime.now(UTC),
        )
        try:
            async with self._database.write() as session:
                await _require_fewer(session, caller, region, limit)
                session.add(number)
                await session.flush()
                row.id = number.id
                await session.delete(number)
                session.add(row)
                await session.flush()
                session.add(
                    OrganizationPermissionRow(
                        organization_id=row.id, user_id=caller.user_id, auth=int(Permission.MANAGE)
                    )
                )
        except IntegrityError:
            raise Conflict("organization", f"the organization {name} exists already in {region}") from None
        return organization_of(row, Permission.MANAGE)

    async def list_for(self, caller: Caller, region: RegionId) -> list[Organization]:
        """The organizations of a region that the caller may at least read, by name."""
        async with self._database.read() as session:
            rows = await session.execute(with_permission(caller, region).order_by(OrganizationRow.name))
            seen = [(row, held_by(caller, auth)) for row, auth in rows]
        return [organization_of(row, permission) for row, permission in seen if permission is not None]

    async def list_all(self, region: RegionId) -> list[Organization]:
        """Every organization of a region by name, as its administrators see it."""
        async with self._database.read() as session:
            rows = await session.scalars(
                select(OrganizationRow).where(OrganizationRow.region == region).order_by(OrganizationRow.name)
            )
            return [organization_of(row, Permission.MANAGE) for row in rows]

    async def exists(self, region: RegionId, name: Namespace) -> bool:
        """Return whether an organization is recorded."""
        wanted = select(OrganizationRow.id).where(OrganizationRow.region == region, OrganizationRow.name == name)
        async with self._database.read() as session:
            return await session.scalar(wanted) is not None

    async def user_counts(self, region: RegionId) -> dict[Namespace, int]:
        """How many users were permitted something in each organization of a region."""
        counted = (
            select(OrganizationRow.name, func.count())
            .join(OrganizationPermissionRow, OrganizationPermissionRow.organization_id == OrganizationRow.id)
            .where(OrganizationRow.region == region)
            .group_by(OrganizationRow.name)
        )
        async with self._database.read() as session:
            return {Namespace(name): count for name, count in await session.execute(counted)}

    async def delete(self, region: RegionId, name: Namespace) -> None:
        """Delete an organization's record, and end what belongs to it; raises NotFound."""
        async with self._database.write() as session:
            # Nothing that belongs to it is recorded from here on.
            row = await _row(session, region, name, lock=True)
            if self._on_delete is not None:
                await self._on_delete(session, row.id, f"{name} of {region}")
            downloads = RepositoryDownloadsRow
            await session.execute(delete(downloads).where(downloads.region == region, downloads.namespace == name))
            await session.delete(row)

    async def grant(self, region: RegionId, name: Namespace, user: str, permission: Permission) -> None:
        """Set what a user may do in an organization; raises NotFound for either."""
        async with self._database.write() as session:
            row = await _row(session, region, name)
            user_id = (await session.scalars(select(UserRow.id).where(UserRow.name == user))).first()
            if user_id is None:
                raise NotFound("user", user)
            held = await session.get(OrganizationPermissionRow, (row.id, user_id))
            if held is not None:
                held.auth = int(permission)
                return
            of_it = OrganizationPermissionRow.organization_id == row.id
            last = await session.scalar(select(func.max(OrganizationPermissionRow.position)).where(of_it))
            session.add(
                OrganizationPermissionRow(
                    organization_id=row.id, user_id=user_id, auth=int(permission), position=(last or 0) + 1
                )
            )


async def _require_fewer(session: AsyncSession, caller: Caller, region: RegionId, limit: int | None) -> None:
    if limit is None:
        return
    # Two requests at once count one after the other.
    await session.execute(select(UserRow.id).where(UserRow.id == caller.user_id).with_for_update())
    mine = select(func.count()).where(OrganizationRow.region == region, OrganizationRow.creator_id == caller.user_id)
    created = await session.scalar(mine) or 0
    if created >= limit:
        raise QuotaExceeded(
            f"quota exceeded: {caller.name} has created {created} of {limit} organizations in {region}; delete one, or "
            "ask an administrator to create it"
        )


def with_permission(caller: Caller, region: RegionId) -> Select[OrganizationRow, int]:
    """The organizations of a region, each with what the caller was permitted in it, if anything."""
    mine = (OrganizationPermissionRow.organization_id == OrganizationRow.id) & (
        OrganizationPermissionRow.user_id == caller.user_id
    )
    return (
        select(OrganizationRow, OrganizationPermissionRow.auth)
        .outerjoin(OrganizationPermissionRow, mine)
        .where(OrganizationRow.region == region)
    )


def held_by(caller: Caller, auth: int | None) -> Permission | None:
    """What a caller holds in an organization where it was permitted this, or nothing."""
    if caller.is_admin:
        return Permission.MANAGE
    return Permission(auth) if auth is not None else None


async def _row(session: AsyncSession, region: RegionId, name: Namespace, *, lock: bool = False) -> OrganizationRow:
    wanted = select(OrganizationRow).where(OrganizationRow.region == region, OrganizationRow.name == name)
    row = (await session.scalars(wanted.with_for_update() if lock else wanted)).first()
    if row is None:
        raise NotFound("organization", f"{name} in {region}")
    return row


def organization_of(row: OrganizationRow, permission: Permission) -> Organization:
    """An organization as somebody sees it who holds this permission in it."""
    return Organization(
        id=row.id,
        region=RegionId(row.region),
        name=Namespace(row.name),
        creator_id=row.creator_id,
        creator_name=row.creator_name,
        created_at=row.created_at,
        permission=permission,
    )
