"""Build everything that works without HTTP: accounts, synchronization and automation."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from tagferry.accounts.quotas import OrganizationQuotas
from tagferry.accounts.repositories import Repositories
from tagferry.app.accounts import Accounts, open_accounts
from tagferry.app.background import AutomationComponents, open_automation
from tagferry.app.health import open_health
from tagferry.app.metrics import open_metrics
from tagferry.app.sync import SyncComponents, open_sync
from tagferry.app.tracing import traced
from tagferry.health.monitor import RegionMonitor
from tagferry.logs import reporting_repeated_events
from tagferry.names import RegionId
from tagferry.quotas import Limits
from tagferry.registry.storage.store import DiskStore
from tagferry.settings import Settings
from tagferry.sync.jobs.cleanup import JobCleanup
from tagferry.workers import ConfiguredRegion, ProcessRecord

log = structlog.get_logger("tagferry")


@dataclass(frozen=True, slots=True)
class Backend:
    """The components of a process, at work."""

    accounts: Accounts
    repositories: Repositories
    sync: SyncComponents
    automation: AutomationComponents
    health: RegionMonitor
    process: ProcessRecord


@asynccontextmanager
async def open_backend(settings: Settings, *, slots: int | None = None) -> AsyncIterator[Backend]:
    """Build the components and start running jobs. Release all resources when the context exits.

    Args:
        settings: the configuration.
        slots: the maximum number of jobs that run at once in this process; by default `sync.max_concurrent_tags`.

    Raises:
        Unavailable: the database cannot be used, or another process has exclusive use of it.
        Invalid: traces are configured, and cannot be recorded.
    """
    for setting in settings.renamed:
        log.warning("a setting has a new name; change it in the configuration", old=setting.old, new=setting.new)
    async with (
        reporting_repeated_events(),
        traced(settings.tracing),
        _open_accounts(settings) as accounts,
        open_sync(settings, accounts, slots=slots) as sync,
    ):
        repositories = Repositories(accounts.database, on_delete=JobCleanup(accounts.bus).detach_repository)
        for region in sync.regions:
            if isinstance(region.store, DiskStore):
                region.store.quotas.source = _Allowances(accounts.quotas, region.id)
        async with (
            open_automation(settings, accounts, repositories, sync) as automation,
            open_health(settings, accounts, sync) as health,
            open_metrics(settings, accounts, sync),
            _recorded(settings, accounts, sync) as process,
        ):
            yield Backend(accounts, repositories, sync, automation, health, process)


@asynccontextmanager
async def _open_accounts(settings: Settings) -> AsyncIterator[Accounts]:
    """Open the accounts on a database that is complete and writable."""
    async with open_accounts(settings, needs_secrets=True) as accounts:
        await accounts.database.check()
        yield accounts


@asynccontextmanager
async def _recorded(settings: Settings, accounts: Accounts, sync: SyncComponents) -> AsyncIterator[ProcessRecord]:
    """Record this process among those of the database while the context is open."""
    record = ProcessRecord(
        accounts.database, sync.worker, regions=settings.served_regions, is_leader=sync.coordination.is_leader
    )
    record.configured = configured_regions(settings)
    record.key_ids = lambda: accounts.vault.key_ids
    keeping = accounts.supervisor.start("recording this process", record.keep)
    try:
        yield record
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
        await record.remove()


def configured_regions(settings: Settings) -> list[ConfiguredRegion]:
    """Return the regions of a configuration, as other processes see them."""
    return [
        ConfiguredRegion(
            id=name, listen=one.listen, registry=one.registry, url=one.url, organizations=one.organizations
        )
        for name, one in settings.regions.items()
    ]


@dataclass(frozen=True, slots=True)
class _Allowances:
    """The quotas of a region's organizations, for its embedded registry."""

    quotas: OrganizationQuotas
    region: RegionId

    async def limits(self, namespace: str) -> Limits:
        return await self.quotas.limits(self.region, namespace)

    async def recorded(self, namespace: str) -> set[str]:
        return await self.quotas.recorded(self.region, namespace)
