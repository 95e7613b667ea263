"""Quotas of organizations and users: from the configuration, or set by an administrator for one organization."""

import time
from collections.abc import Mapping

from sqlalchemy import func, select, update

from tagferry.db.engine import Database
from tagferry.db.tables import OrganizationRow, RepositoryRow
from tagferry.errors import NotFound
from tagferry.names import Namespace, RegionId
from tagferry.quotas import UNLIMITED, Limits

_REMEMBERED_SECONDS = 5.0
_REMEMBERED = 10_000
COLUMNS = {"bytes": "byte_limit", "repositories": "repository_limit", "uploads": "upload_limit"}


class OrganizationQuotas:
    """Looks up and sets quotas.

    Args:
        database: stores the organizations.
        defaults: the quotas of organizations without their own.
    """

    def __init__(self, database: Database, defaults: Limits) -> None:
        self._database = database
        self._defaults = defaults
        self._known: dict[tuple[RegionId, str], tuple[float, Limits]] = {}

    def set_defaults(self, defaults: Limits) -> None:
        """Change the quotas of organizations without their own."""
        self._defaults = defaults
        self._known.clear()

    async def limits(self, region: RegionId, namespace: str) -> Limits:
        """Return the quotas of an organization; a change takes effect within seconds."""
        known = self._known.get((region, namespace))
        if known is not None and time.monotonic() - known[0] < _REMEMBERED_SECONDS:
            return known[1]
        row = OrganizationRow
        wanted = select(row.byte_limit, row.repository_limit, row.upload_limit).where(
            row.region == region, row.name == namespace
        )
        async with self._database.read() as session:
            found = (await session.execute(wanted)).first()
        said = dict(zip(COLUMNS, found or (), strict=False))
        limits = Limits(**{name: self._limit(name, said.get(name)) for name in COLUMNS})
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[region, namespace] = (time.monotonic(), limits)
        return limits

    async def recorded(self, region: RegionId, namespace: str) -> set[str]:
        """Return the full names of an organization's recorded repositories."""
        mine = select(RepositoryRow.name).where(RepositoryRow.region == region, RepositoryRow.namespace == namespace)
        async with self._database.read() as session:
            return {f"{namespace}/{name}" for name in await session.scalars(mine)}

    async def created_by(self, region: RegionId, user_id: str) -> int:
        """Return how many existing organizations of a region a user has created."""
        mine = select(func.count()).where(OrganizationRow.region == region, OrganizationRow.creator_id == user_id)
        async with self._database.read() as session:
            return await session.scalar(mine) or 0

    async def set(self, region: RegionId, name: Namespace, said: Mapping[str, int | None]) -> None:
        """Set an organization's quotas; None means those of the configuration. Raises NotFound."""
        values = {COLUMNS[kind]: limit for kind, limit in said.items()}
        mine = (OrganizationRow.region == region, OrganizationRow.name == name)
        async with self._database.write() as session:
            if await session.scalar(select(OrganizationRow.id).where(*mine)) is None:
                raise NotFound("organization", name, where=f"in {region}")
            if values:
                await session.execute(update(OrganizationRow).where(*mine).values(**values))
        self._known.pop((region, name), None)

    def _limit(self, kind: str, said: int | None) -> int | None:
        if said is None:
            default: int | None = getattr(self._defaults, kind)
            return default
        return None if said == UNLIMITED else said
