"""Build the checks of the regions' registries."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from tagferry.app.accounts import Accounts
from tagferry.app.sync import SyncComponents
from tagferry.health.checks import RegionCheck
from tagferry.health.monitor import RegionMonitor
from tagferry.health.records import HealthRecords
from tagferry.settings import Settings


@asynccontextmanager
async def open_health(settings: Settings, accounts: Accounts, sync: SyncComponents) -> AsyncIterator[RegionMonitor]:
    """Build and start the checks of all regions. Stop them when the context exits."""
    monitor = RegionMonitor(
        regions=sync.regions,
        records=HealthRecords(accounts.database),
        check=RegionCheck(seconds=settings.health.check_timeout_seconds),
        is_leader=sync.coordination.is_leader,
        interval=interval_of(settings),
    )
    checking = accounts.supervisor.start("checking regions", monitor.keep_checking)
    try:
        yield monitor
    finally:
        checking.cancel()
        await asyncio.wait([checking])


def interval_of(settings: Settings) -> timedelta | None:
    """Return the interval of the checks; None for checks on request only."""
    seconds = settings.health.check_interval_seconds
    return timedelta(seconds=seconds) if seconds else None
