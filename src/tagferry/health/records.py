"""The recorded health of regions, in the database."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, select, text
from sqlalchemy.orm import Session

from tagferry.db.columns import FreeText, UtcDateTime
from tagferry.db.engine import Database
from tagferry.db.tables import RegionHealthRow
from tagferry.health.model import CheckKind, HealthState, RegionHealth
from tagferry.names import RegionId

_FORGOTTEN_AFTER = timedelta(days=1)
"""Age of the last check after which nothing is known of a region."""
_KEPT = ("latency", "smoothed_latency", "certificate_expires_at")
"""Columns that keep their values if a check did not find new ones."""
_COLUMNS = (*_KEPT, "state", "reason", "checked_at", "throttled_until", "disk_free", "disk_total")
_CHANGES = ", ".join(
    f"{name} = coalesce(excluded.{name}, held.{name})" if name in _KEPT else f"{name} = excluded.{name}"
    for name in _COLUMNS
)
_UPSERT = text(
    f"INSERT INTO region_health AS held (region, kind, since, {', '.join(_COLUMNS)}) "  # noqa: S608 - constants only
    f"VALUES (:region, :kind, :since, {', '.join(f':{name}' for name in _COLUMNS)}) "
    f"ON CONFLICT (region, kind) DO UPDATE SET {_CHANGES}, "
    "since = CASE WHEN held.state = excluded.state THEN held.since ELSE excluded.since END"
).bindparams(
    bindparam("reason", type_=FreeText),
    *(
        bindparam(name, type_=UtcDateTime)
        for name in ("since", "checked_at", "throttled_until", "certificate_expires_at")
    ),
)


class HealthRecords:
    """The last health of each region, recorded by whichever process checked it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, health: RegionHealth) -> None:
        """Record the result of a check. `since` is kept while the state remains the same."""
        values: dict[str, Any] = {name: getattr(health, name) for name in ("region", "since", *_COLUMNS)}
        async with self._database.write() as session:
            await session.execute(_UPSERT, values | {"kind": health.kind.value, "state": health.state.value})

    async def load(self, *, now: datetime | None = None) -> Mapping[RegionId, RegionHealth]:
        """Return the health of each region that was checked within a day."""
        async with self._database.read() as session:
            return await session.run_sync(read_health, now or datetime.now(UTC))


def read_health(session: Session, now: datetime) -> Mapping[RegionId, RegionHealth]:
    """Return the health of each region that was checked within a day, in the session of a synchronous connection."""
    recent = RegionHealthRow.checked_at >= now - _FORGOTTEN_AFTER
    found: dict[RegionId, RegionHealth] = {}
    for row in session.scalars(select(RegionHealthRow).where(recent)):
        health = _health(row)
        known = found.get(health.region)
        found[health.region] = health if known is None else _merged(health, known)
    return found


def _merged(one: RegionHealth, other: RegionHealth) -> RegionHealth:
    """Return the health of an embedded region that another process also reaches over HTTP."""
    disk, registry = (one, other) if one.kind is CheckKind.DISK else (other, one)
    worse = disk if disk.state is not HealthState.OK else registry
    return RegionHealth(
        region=disk.region,
        kind=CheckKind.DISK,
        state=worse.state,
        reason=worse.reason,
        since=worse.since,
        checked_at=max(disk.checked_at, registry.checked_at),
        latency=registry.latency,
        smoothed_latency=registry.smoothed_latency,
        certificate_expires_at=registry.certificate_expires_at,
        throttled_until=registry.throttled_until,
        disk_free=disk.disk_free,
        disk_total=disk.disk_total,
    )


def _health(row: RegionHealthRow) -> RegionHealth:
    return RegionHealth(
        region=RegionId(row.region),
        kind=CheckKind(row.kind),
        state=HealthState(row.state),
        reason=row.reason,
        since=row.since,
        checked_at=row.checked_at,
        latency=row.latency,
        smoothed_latency=row.smoothed_latency,
        certificate_expires_at=row.certificate_expires_at,
        throttled_until=row.throttled_until,
        disk_free=row.disk_free,
        disk_total=row.disk_total,
    )
