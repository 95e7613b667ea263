"""Organizations of the regions, and who may do what in them."""

from collections.abc import Collection
from datetime import UTC, datetime

from sqlalchemy import Select, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.accounts.model import Caller, Organization, Permission
from tagferry.db.engine import Database
from tagferry.db.tables import OrganizationPermissionRow, OrganizationRow, UserRow
from tagferry.errors import Conflict, Denied, InvalidName, NotFound
from tagferry.names import Namespace, RegionId

RESERVED = frozenset({"manage"})
"""Names that would collide with the management API's own paths."""


class Organizations:
    """Creates, finds and guards organizations.

    Args:
        database: where they are kept.
        open_regions: regions whose registry knows its organizations itself, so that administrators may use any.
    """

    def __init__(self, database: Database, *, open_regions: Collection[RegionId] = ()) -> None:
        self._database = database
        self._open_regions = frozenset(open_regions)

    async def create(self, caller: Caller, region: RegionId, name: Namespace) -> Organization:
        """Create an organization, which its creator manages; raises InvalidName or Conflict."""
        if name in RESERVED:
            raise InvalidName("namespace", "must not be a name that the API uses itself", str(name))
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
                session.add(row)
                await session.flush()
                session.add(
                    OrganizationPermissionRow(
                        organization_id=row.id, user_id=caller.user_id, auth=int(Permission.MANAGE)
                    )
                )
        except IntegrityError:
            raise Conflict("organization", f"the organization {name} exists already in {region}") from None
        return _organization(row, Permission.MANAGE)

    async def list_for(self, caller: Caller, region: RegionId) -> list[Organization]:
        """The organizations of a region that the caller may at least read, by name."""
        async with self._database.read() as session:
            rows = await session.execute(_with_permission(caller, region).order_by(OrganizationRow.name))
            seen = [(row, _permission(caller, auth)) for row, auth in rows]
        return [_organization(row, permission) for row, permission in seen if permission is not None]

    async def list_all(self, region: RegionId) -> list[Organization]:
        """Every organization of a region by name, as its administrators see it."""
        async with self._database.read() as session:
            rows = await session.scalars(
                select(OrganizationRow).where(OrganizationRow.region == region).order_by(OrganizationRow.name)
            )
            return [_organization(row, Permission.MANAGE) for row in rows]

    async def require(
        self, caller: Caller, region: RegionId, name: Namespace, permission: Permission
    ) -> Organization | None:
        """Let the caller pass who holds at least this permission.

        Returns:
            The organization, or None where an administrator uses one that only an open region's registry knows.

        Raises:
            NotFound: there is no such organization.
            Denied: the caller may do less than that.
        """
        async with self._database.read() as session:
            rows = await session.execute(_with_permission(caller, region).where(OrganizationRow.name == name))
            found = rows.first()
        if found is None:
            if caller.is_admin and region in self._open_regions:
                return None
            raise NotFound("organization", f"{name} in {region}", "create it first, or check its name")
        held = _permission(caller, found[1])
        if held is None or held < permission:
            raise Denied(
                f"{caller.name} needs the permission to {permission.name.lower()} in the organization {name} "
                f"of {region}"
            )
        return _organization(found[0], held)

    async def delete(self, region: RegionId, name: Namespace) -> None:
        """Delete an organization's record; raises NotFound."""
        async with self._database.write() as session:
            row = await _row(session, region, name)
            await session.delete(row)

    async def grant(self, region: RegionId, name: Namespace, user: str, permission: Permission) -> None:
        """Set what a user may do in an organization; raises NotFound for either."""
        async with self._database.write() as session:
            row = await _row(session, region, name)
            user_id = (await session.scalars(select(UserRow.id).where(UserRow.name == user))).first()
            if user_id is None:
                raise NotFound("user", user)
            await session.merge(
                OrganizationPermissionRow(organization_id=row.id, user_id=user_id, auth=int(permission))
            )


def _with_permission(caller: Caller, region: RegionId) -> Select[OrganizationRow, int]:
    mine = (OrganizationPermissionRow.organization_id == OrganizationRow.id) & (
        OrganizationPermissionRow.user_id == caller.user_id
    )
    return (
        select(OrganizationRow, OrganizationPermissionRow.auth)
        .outerjoin(OrganizationPermissionRow, mine)
        .where(OrganizationRow.region == region)
    )


def _permission(caller: Caller, auth: int | None) -> Permission | None:
    if caller.is_admin:
        return Permission.MANAGE
    return Permission(auth) if auth is not None else None


async def _row(session: AsyncSession, region: RegionId, name: Namespace) -> OrganizationRow:
    rows = await session.scalars(
        select(OrganizationRow).where(OrganizationRow.region == region, OrganizationRow.name == name)
    )
    row = rows.first()
    if row is None:
        raise NotFound("organization", f"{name} in {region}")
    return row


def _organization(row: OrganizationRow, permission: Permission) -> Organization:
    return Organization(
        id=row.id,
        region=RegionId(row.region),
        name=Namespace(row.name),
        creator_id=row.creator_id,
        creator_name=row.creator_name,
        created_at=row.created_at,
        permission=permission,
    )
