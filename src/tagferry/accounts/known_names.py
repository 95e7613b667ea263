"""Look up users and organizations that filters name."""

from sqlalchemy import exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.db.tables import OrganizationRow, UserRow

USER_RULE = "must be the name of a user"
ORGANIZATION_RULE = "must be an organization that exists and that you may read"


async def user_exists(session: AsyncSession, name: str) -> bool:
    """Return whether a user has this name or id."""
    return bool(await session.scalar(select(exists().where(or_(UserRow.name == name, UserRow.id == name)))))


async def organization_exists(session: AsyncSession, name: str) -> bool:
    """Return whether a region has an organization of this name."""
    return bool(await session.scalar(select(exists().where(OrganizationRow.name == name))))
