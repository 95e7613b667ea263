"""One check of a region's registry, within bounded time."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tagferry.errors import TagferryError, Unavailable
from tagferry.health.model import CheckKind, HealthState, RegionHealth
from tagferry.http.explanation import one_line, without_secrets
from tagferry.regions import Region
from tagferry.registry.storage.store import DiskStore
from tagferry.remote import RemoteStore


class RegionCheck:
    """Checks regions. A reload changes `seconds`.

    Args:
        seconds: the time that one check may take.
        clock: the current time.
    """

    def __init__(self, *, seconds: float, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.seconds = seconds
        self._clock = clock

    async def run(self, region: Region) -> RegionHealth | None:
        """Return the health of a region, whose registry is asked. Return None for a store without a registry."""
        store = region.store
        if isinstance(store, DiskStore):
            return await self._disk(region, store)
        if not isinstance(store, RemoteStore):
            return None
        state, reason = HealthState.OK, ""
        if store.load.throttled_seconds:
            # It answers, and has asked not to be sent requests for a while.
            return self._remote(region, store, state, reason)
        try:
            async with asyncio.timeout(self.seconds):
                await store.probe()
        except TimeoutError:
            state, reason = HealthState.UNREACHABLE, f"registry {region.id} did not answer within {self.seconds:g} s"
        except TagferryError as error:
            state = HealthState.UNREACHABLE if isinstance(error, Unavailable) else HealthState.REFUSED
            reason = one_line(without_secrets(error.message))
        return self._remote(region, store, state, reason)

    def observed(self, region: Region, *, since: datetime) -> RegionHealth | None:
        """Return the health that other requests of this process have shown since a time, without any request.

        Returns:
            None if there was no successful one.
        """
        store = region.store
        if not isinstance(store, RemoteStore):
            return None
        succeeded_at = store.observed.succeeded_at
        if succeeded_at is None or succeeded_at < since:
            return None
        return self._remote(region, store, HealthState.OK, "")

    def _remote(self, region: Region, store: RemoteStore, state: HealthState, reason: str) -> RegionHealth:
        now, seen, wait = self._clock(), store.observed, store.load.throttled_seconds
        ahead = seen.clock_difference
        return RegionHealth(
            region=region.id,
            kind=CheckKind.REGISTRY,
            state=state,
            reason=reason,
            since=now,
            checked_at=now,
            latency=seen.latency,
            smoothed_latency=seen.smoothed_latency,
            certificate_expires_at=seen.certificate_expires_at,
            clock_difference=None if ahead is None else ahead.total_seconds(),
            throttled_until=now + timedelta(seconds=wait) if wait else None,
        )

    async def _disk(self, region: Region, store: DiskStore) -> RegionHealth:
        now = self._clock()
        try:
            async with asyncio.timeout(self.seconds):
                reason, space = await store.health_error(), await store.disk_space()
        except TimeoutError:
            reason, space = f"the disk did not answer within {self.seconds:g} s", None
        return RegionHealth(
            region=region.id,
            kind=CheckKind.DISK,
            state=HealthState.OK if reason is None else HealthState.UNWRITABLE,
            reason=reason or "",
            since=now,
            checked_at=now,
            disk_free=None if space is None else space.free,
            disk_total=None if space is None else space.total,
        )
