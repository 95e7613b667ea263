"""Who was permitted what, in organizations or in single repositories."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from tagferry.accounts.model import Permission
from tagferry.db.engine import Database
from tagferry.db.tables import UserRow
from tagferry.errors import Conflict, NotFound


@dataclass(frozen=True, slots=True)
class Grant:
    """What a user is permitted, or is to be; a name that is not known may be left empty then."""

    user_id: str
    user_name: str
    permission: Permission


class Grants:
    """The permissions in what has them: organizations, or repositories, told by the ids of their rows.

    Whatever is asked for is done for all the users that it names, or for none of them.

    Args:
        database: where they are kept.
        on: the column of a table of permissions that says in what each of them is.
    """

    def __init__(self, database: Database, *, on: InstrumentedAttribute[int]) -> None:
        self._database = database
        self._on = on
        self._row: Any = on.class_

    async def list_for(self, thing: int) -> list[Grant]:
        """All the permissions in something, in the order in which they were given."""
        async with self._database.read() as session:
            rows = await session.execute(
                select(UserRow.id, UserRow.name, self._row.auth)
                .join(self._row, self._row.user_id == UserRow.id)
                .where(self._on == thing)
                .order_by(self._row.position, UserRow.name)
            )
            return [Grant(user_id, name, Permission(auth)) for user_id, name, auth in rows]

    async def add(self, thing: int, grants: Sequence[Grant]) -> None:
        """Permit users something who have no permission there.

        Raises:
            NotFound: of the kind `user`: one of them does not exist, or has another name.
            Conflict: one of them has a permission there already.
        """
        try:
            async with self._database.write() as session:
                await _require_users(session, grants)
                for name in (await self._holders(session, thing, [grant.user_id for grant in grants])).values():
                    raise Conflict("permission", f"{name} has a permission there already; update that one")
                last = await session.scalar(select(func.max(self._row.position)).where(self._on == thing))
                for position, grant in enumerate(grants, start=(last or 0) + 1):
                    row = self._row(user_id=grant.user_id, auth=int(grant.permission), position=position)
                    setattr(row, self._on.key, thing)
                    session.add(row)
        except IntegrityError:
            raise Conflict("permission", "somebody else changed who is permitted what just now; try again") from None

    async def change(self, thing: int, grants: Sequence[Grant]) -> None:
        """Permit users something else; raises NotFound as `add` does, and where one has no permission there."""
        async with self._database.write() as session:
            await _require_users(session, grants)
            await self._require_held(session, thing, [grant.user_id for grant in grants])
            for grant in grants:
                await session.execute(
                    update(self._row)
                    .where(self._on == thing, self._row.user_id == grant.user_id)
                    .values(auth=int(grant.permission))
                )

    async def remove(self, thing: int, user_ids: Collection[str]) -> None:
        """Permit users nothing there any more; raises NotFound where one has no permission there."""
        async with self._database.write() as session:
            await self._require_held(session, thing, user_ids)
            await session.execute(delete(self._row).where(self._on == thing, self._row.user_id.in_(user_ids)))

    async def _holders(self, session: AsyncSession, thing: int, user_ids: Collection[str]) -> dict[str, str]:
        """The names, by their ids, of those of the users who have a permission there."""
        rows = await session.execute(
            select(UserRow.id, UserRow.name)
            .join(self._row, self._row.user_id == UserRow.id)
            .where(self._on == thing, UserRow.id.in_(user_ids))
        )
        return dict(rows.all())

    async def _require_held(self, session: AsyncSession, thing: int, user_ids: Collection[str]) -> None:
        held = await self._holders(session, thing, user_ids)
        for user_id in user_ids:
            if user_id not in held:
                raise NotFound("permission", f"of the user {user_id}", "create it first, or check the user's id")


async def _require_users(session: AsyncSession, grants: Sequence[Grant]) -> None:
    wanted = [grant.user_id for grant in grants]
    rows = await session.execute(select(UserRow.id, UserRow.name).where(UserRow.id.in_(wanted)))
    names = dict(rows.all())
    for grant in grants:
        if grant.user_id not in names or grant.user_name not in ("", names[grant.user_id]):
            raise NotFound("user", f"{grant.user_name} with the id {grant.user_id}".strip())
