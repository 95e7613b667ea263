"""Checks all regions at an interval: the leader asks remote registries, each process looks at its own disks."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from tagferry.accounts.model import Caller
from tagferry.concurrency import SingleFlight
from tagferry.db.batches import error_summary
from tagferry.errors import DatabaseUnavailable, Denied
from tagferry.events import SparseEvents
from tagferry.health.checks import RegionCheck
from tagferry.health.gauges import forget, show
from tagferry.health.model import HealthState, RegionHealth
from tagferry.health.records import HealthRecords
from tagferry.names import RegionId
from tagferry.regions import Region, Regions
from tagferry.registry.storage.store import DiskStore
from tagferry.supervision import surfacing

_HEALTHY_LANE, _FAILING_LANE = 12, 4
"""Checks at once of regions whose last check succeeded or that have none, and of the others. A dead region takes the
whole time of a check, so those wait for each other, and not the healthy ones for them."""
_FIRST_SECONDS = 2.0
"""The longest wait for the first check; the regions do not begin at once."""
_JITTER = 0.1

log = structlog.get_logger(__name__)
sparse = SparseEvents(__name__)


class RegionMonitor:
    """Checks the regions, and records their health.

    A reload changes `interval` and the time of `check`, and then calls `regions_changed`.

    Args:
        regions: the regions.
        records: the health that any process has recorded.
        check: checks one region.
        is_leader: returns whether this process asks remote registries.
        interval: the time between two checks of a region; requests of copies replace a check. None for no checks but
            those that an administrator requests.
        random_share: returns a number from 0 to 1.
    """

    def __init__(
        self,
        *,
        regions: Regions,
        records: HealthRecords,
        check: RegionCheck,
        is_leader: Callable[[], Awaitable[bool]],
        interval: timedelta | None,
        random_share: Callable[[], float] = random.random,
    ) -> None:
        self._regions = regions
        self._records = records
        self.check = check
        self._is_leader = is_leader
        self.interval = interval
        self._changed = asyncio.Event()
        self._random_share = random_share
        self._lanes = {True: asyncio.Semaphore(_HEALTHY_LANE), False: asyncio.Semaphore(_FAILING_LANE)}
        self._states: dict[RegionId, HealthState] = {}
        self._flights: SingleFlight[RegionId, RegionHealth | None] = SingleFlight()

    async def health(self) -> Mapping[RegionId, RegionHealth]:
        """Return the recorded health of the regions."""
        return await self._records.load()

    async def check_now(self, caller: Caller, region_id: RegionId) -> RegionHealth | None:
        """Check a region at once, and return its health; None for one without a registry.

        Raises:
            Denied: the caller is not an administrator.
            NotFound: there is no such region.
        """
        if not caller.is_admin:
            raise Denied(f'user "{caller.name}" is not an administrator; only administrators check regions')
        region = self._regions[region_id]
        await self._flights.run(region_id, lambda: self._run(region))
        return (await self._records.load()).get(region_id)

    async def keep_checking(self) -> None:
        """Check all regions until cancelled."""
        while True:
            self._changed.clear()
            interval = self.interval
            async with asyncio.TaskGroup() as group:
                watches = [
                    group.create_task(self._watch(region, interval)) for region in self._regions if interval is not None
                ]
                await self._changed.wait()
                for watch in watches:
                    watch.cancel()

    def regions_changed(self, changed: Iterable[RegionId]) -> None:
        """Check the current regions from now on; forget the health of those that have changed or were removed."""
        for region in changed:
            self._states.pop(region, None)
            forget(region)
        self._changed.set()

    async def _watch(self, region: Region, interval: timedelta) -> None:
        seconds = interval.total_seconds()
        await asyncio.sleep(min(_FIRST_SECONDS, seconds) * self._random_share())
        while True:
            try:
                await surfacing(self._look(region.id, interval))
            except (SQLAlchemyError, DatabaseUnavailable) as error:
                sparse.warning("could not record the health of a region", region=region.id, reason=error_summary(error))
            except Exception:
                # The other regions are still checked.
                log.exception("a check failed unexpectedly", region=region.id)
            await asyncio.sleep(seconds * (1 + _JITTER * (2 * self._random_share() - 1)))

    async def _look(self, region_id: RegionId, interval: timedelta) -> None:
        """Record what requests have shown; if there were none, ask the registry if this process has to."""
        region = self._regions[region_id]
        if (seen := self.check.observed(region, since=datetime.now(UTC) - interval)) is not None:
            await self._save(seen)
        elif isinstance(region.store, DiskStore) or await self._is_leader():
            await self._flights.run(region_id, lambda: self._run(region))
        else:
            forget(region_id)

    async def _run(self, region: Region) -> RegionHealth | None:
        async with self._lanes[self._states.get(region.id, HealthState.OK) is HealthState.OK]:
            health = await self.check.run(region)
        if health is not None:
            await self._save(health)
        return health

    async def _save(self, health: RegionHealth) -> None:
        before = self._states.get(health.region)
        self._states[health.region] = health.state
        show(health)
        if health.state is not HealthState.OK and before is not health.state:
            log.warning("region failed its check", region=health.region, state=health.state, reason=health.reason)
        elif health.state is HealthState.OK and before not in (None, HealthState.OK):
            log.info("region passed its check again", region=health.region)
        await self._records.save(health)
