"""Organizations, and the permissions granted in them."""

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
"""Deletes what belongs to an organization, given by id and name, within the transaction that deletes it."""


class Organizations:
    """Creates, lists and deletes organizations; `AccessControl` authorizes these operations.

    Args:
        database: stores the organizations.
        on_delete: called for every deleted organization.
    """

    def __init__(self, database: Database, *, on_delete: OnDelete | None = None) -> None:
        self._database = database
        self._on_delete = on_delete

    async def create(
        self, caller: Caller, region: RegionId, name: Namespace, *, limit: int | None = None
    ) -> Organization:
        """Create an organization; its creator may manage it.

        Args:
            caller: the creator.
            region: the region of the organization.
            name: its name.
            limit: maximum number of organizations that the creator may have created in the region; None for no limit.

        Raises:
            InvalidName: the name is reserved.
            Conflict: the organization already exists.
            QuotaExceeded: the creator has reached the limit.
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
                        organization_id=row.id, user_id=caller.user_id, permission=int(Permission.MANAGE)
                    )
                )
        except IntegrityError:
            raise Conflict("organization", f'the organization "{name}" already exists in {region}') from None
        return organization_of(row, Permission.MANAGE)

    async def list_for(self, caller: Caller, region: RegionId) -> list[Organization]:
        """Return the organizations of a region that the caller may read, by name."""
        async with self._database.read() as session:
            rows = await session.execute(with_permission(caller, region).order_by(OrganizationRow.name))
            seen = [(row, held_by(caller, permission)) for row, permission in rows]
        return [organization_of(row, permission) for row, permission in seen if permission is not None]

    async def list_all(self, region: RegionId) -> list[Organization]:
        """Return all organizations of a region by name, as an administrator sees them."""
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
        """Return the number of users with a permission, by organization of a region."""
        counted = (
            select(OrganizationRow.name, func.count())
            .join(OrganizationPermissionRow, OrganizationPermissionRow.organization_id == OrganizationRow.id)
            .where(OrganizationRow.region == region)
            .group_by(OrganizationRow.name)
        )
        async with self._database.read() as session:
            return {Namespace(name): count for name, count in await session.execute(counted)}

    async def delete(self, region: RegionId, name: Namespace) -> None:
        """Delete an organization and what belongs to it; raises NotFound."""
        async with self._database.write() as session:
            # The lock keeps others from recording anything that belongs to the organization.
            row = await _row(session, region, name, lock=True)
            if self._on_delete is not None:
                await self._on_delete(session, row.id, f"{name} of {region}")
            downloads = RepositoryDownloadsRow
            await session.execute(delete(downloads).where(downloads.region == region, downloads.namespace == name))
            await session.delete(row)

    async def grant(self, region: RegionId, name: Namespace, user: str, permission: Permission) -> None:
        """Set a user's permission in an organization; raises NotFound for either."""
        async with self._database.write() as session:
            row = await _row(session, region, name)
            user_id = (await session.scalars(select(UserRow.id).where(UserRow.name == user))).first()
            if user_id is None:
                raise NotFound("user", user)
            held = await session.get(OrganizationPermissionRow, (row.id, user_id))
            if held is not None:
                held.permission = int(permission)
                return
            of_it = OrganizationPermissionRow.organization_id == row.id
            last = await session.scalar(select(func.max(OrganizationPermissionRow.position)).where(of_it))
            session.add(
                OrganizationPermissionRow(
                    organization_id=row.id, user_id=user_id, permission=int(permission), position=(last or 0) + 1
                )
            )


async def _require_fewer(session: AsyncSession, caller: Caller, region: RegionId, limit: int | None) -> None:
    if limit is None:
        return
    # The lock serializes concurrent requests of one user, so that both are counted.
    await session.execute(select(UserRow.id).where(UserRow.id == caller.user_id).with_for_update())
    mine = select(func.count()).where(OrganizationRow.region == region, OrganizationRow.creator_id == caller.user_id)
    created = await session.scalar(mine) or 0
    if created >= limit:
        raise QuotaExceeded(
            f'quota exceeded: user "{caller.name}" has created {created} of {limit} organizations in {region}; '
            "delete one, or ask an administrator to create it"
        )


def with_permission(caller: Caller, region: RegionId) -> Select[OrganizationRow, int]:
    """Select the organizations of a region, each with the caller's permission, if any."""
    mine = (OrganizationPermissionRow.organization_id == OrganizationRow.id) & (
        OrganizationPermissionRow.user_id == caller.user_id
    )
    return (
        select(OrganizationRow, OrganizationPermissionRow.permission)
        .outerjoin(OrganizationPermissionRow, mine)
        .where(OrganizationRow.region == region)
    )


def held_by(caller: Caller, permission: int | None) -> Permission | None:
    """Return a caller's effective permission, given the one that was granted."""
    if caller.is_admin:
        return Permission.MANAGE
    return Permission(permission) if permission is not None else None


async def _row(session: AsyncSession, region: RegionId, name: Namespace, *, lock: bool = False) -> OrganizationRow:
    wanted = select(OrganizationRow).where(OrganizationRow.region == region, OrganizationRow.name == name)
    row = (await session.scalars(wanted.with_for_update() if lock else wanted)).first()
    if row is None:
        raise NotFound("organization", name, where=f"in {region}")
    return row


def organization_of(row: OrganizationRow, permission: Permission) -> Organization:
    """Return an organization, as seen by a caller with this permission."""
    return Organization(
        id=row.id,
        region=RegionId(row.region),
        name=Namespace(row.name),
        creator_id=row.creator_id,
        creator_name=row.creator_name,
        created_at=row.created_at,
        permission=permission,
    )
