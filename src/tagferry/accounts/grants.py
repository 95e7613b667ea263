"""Permissions granted to users in organizations or repositories."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from tagferry.accounts.model import Permission
from tagferry.accounts.user_rules import is_user_id
from tagferry.db.engine import Database
from tagferry.db.tables import UserRow
from tagferry.errors import Conflict, NotFound


@dataclass(frozen=True, slots=True)
class Grant:
    """A user's permission; the name may be empty in a request."""

    user_id: str
    user_name: str
    permission: Permission


class Grants:
    """Stores the permissions on one kind of resource, organizations or repositories, identified by row ids.

    Each call applies to all given users or to none.

    Args:
        database: stores the permissions.
        on: the column that identifies the resource in the table of permissions.
    """

    def __init__(self, database: Database, *, on: InstrumentedAttribute[int]) -> None:
        self._database = database
        self._on = on
        self._row: Any = on.class_

    async def list_for(self, resource_id: int) -> list[Grant]:
        """Return the permissions on a resource, in the order in which they were granted."""
        async with self._database.read() as session:
            rows = await session.execute(
                select(UserRow.id, UserRow.name, self._row.permission)
                .join(self._row, self._row.user_id == UserRow.id)
                .where(self._on == resource_id)
                .order_by(self._row.position, UserRow.name)
            )
            return [Grant(user_id, name, Permission(permission)) for user_id, name, permission in rows]

    async def add(self, resource_id: int, grants: Sequence[Grant]) -> None:
        """Grant permissions to users who have none.

        Raises:
            NotFound: a user does not exist or has another name.
            Conflict: a user already has a permission on the resource.
        """
        try:
            async with self._database.write() as session:
                await _require_users(session, grants)
                for name in (await self._holders(session, resource_id, [grant.user_id for grant in grants])).values():
                    raise Conflict("permission", f'user "{name}" already has a permission there; update that one')
                last = await session.scalar(select(func.max(self._row.position)).where(self._on == resource_id))
                for position, grant in enumerate(grants, start=(last or 0) + 1):
                    row = self._row(user_id=grant.user_id, permission=int(grant.permission), position=position)
                    setattr(row, self._on.key, resource_id)
                    session.add(row)
        except IntegrityError:
            raise Conflict("permission", "the permissions were changed concurrently; try again") from None

    async def change(self, resource_id: int, grants: Sequence[Grant]) -> None:
        """Change permissions of users; raises NotFound as `add` does, and for users without a permission."""
        async with self._database.write() as session:
            await _require_users(session, grants)
            await self._require_held(session, resource_id, [grant.user_id for grant in grants])
            for grant in grants:
                await session.execute(
                    update(self._row)
                    .where(self._on == resource_id, self._row.user_id == grant.user_id)
                    .values(permission=int(grant.permission))
                )

    async def remove(self, resource_id: int, user_ids: Collection[str]) -> None:
        """Revoke permissions of users; raises NotFound for users without a permission."""
        async with self._database.write() as session:
            await self._require_held(session, resource_id, user_ids)
            await session.execute(delete(self._row).where(self._on == resource_id, self._row.user_id.in_(user_ids)))

    async def _holders(self, session: AsyncSession, resource_id: int, user_ids: Collection[str]) -> dict[str, str]:
        """Return the names, by id, of those users who have a permission on the resource."""
        rows = await session.execute(
            select(UserRow.id, UserRow.name)
            .join(self._row, self._row.user_id == UserRow.id)
            .where(self._on == resource_id, UserRow.id.in_(list(filter(is_user_id, user_ids))))
        )
        return dict(rows.all())

    async def _require_held(self, session: AsyncSession, resource_id: int, user_ids: Collection[str]) -> None:
        held = await self._holders(session, resource_id, user_ids)
        for user_id in user_ids:
            if user_id not in held:
                raise NotFound(
                    "permission", "", "create it first, or check the user's id", where=f'of the user "{user_id}"'
                )


async def _require_users(session: AsyncSession, grants: Sequence[Grant]) -> None:
    wanted = [grant.user_id for grant in grants if is_user_id(grant.user_id)]
    rows = await session.execute(select(UserRow.id, UserRow.name).where(UserRow.id.in_(wanted)))
    names = dict(rows.all())
    for grant in grants:
        if grant.user_id not in names or grant.user_name not in ("", names[grant.user_id]):
            raise NotFound("user", grant.user_name, where=f'with the id "{grant.user_id}"')
