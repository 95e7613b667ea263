"""Who was permitted what, in an organization or in a single repository."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.accounts.model import Permission
from tagferry.db.engine import Database
from tagferry.db.tables import OrganizationPermissionRow, RepositoryPermissionRow, UserRow
from tagferry.errors import Conflict, Invalid, NotFound


@dataclass(frozen=True, slots=True)
class Grant:
    """What a user is permitted."""

    user_id: str
    user_name: str
    permission: Permission


class Grants:
    """The permissions that users were given in what is granted on: in organizations, or in repositories.

    Args:
        database: where they are kept.
        row: the table of the one or the other.
    """

    def __init__(
        self, database: Database, row: type[OrganizationPermissionRow] | type[RepositoryPermissionRow]
    ) -> None:
        self._database = database
        self._row = row
        self._owner_id = (
            OrganizationPermissionRow.organization_id
            if row is OrganizationPermissionRow
            else RepositoryPermissionRow.repository_id
        )

    async def list_on(self, owner_id: int) -> list[Grant]:
        """What users are permitted in an organization or repository, by their names."""
        async with self._database.read() as session:
            rows = await session.execute(
                select(UserRow.id, UserRow.name, self._row.auth)
                .join(UserRow, UserRow.id == self._row.user_id)
                .where(self._owner_id == owner_id)
                .order_by(UserRow.name)
            )
            return [Grant(user_id, name, Permission(auth)) for user_id, name, auth in rows]
