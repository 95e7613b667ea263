"""Build the synchronization: queue, worker and copy engine."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from tagferry.app.accounts import Accounts
from tagferry.app.regions import RegionStores, StorePersistence
from tagferry.cache.blob_locations import DatabaseBlobLocations
from tagferry.coordination.backend import Coordination, coordination_of
from tagferry.coordination.pubsub import MessageBus
from tagferry.copy.bandwidth import BandwidthLimiter
from tagferry.copy.blob_lock import BlobLock
from tagferry.copy.engine import CopyEngine, Limits
from tagferry.copy.mount_sources import MountSources
from tagferry.copy.verify import VerifyMode
from tagferry.names import RegionId
from tagferry.regions import Region, Regions
from tagferry.settings import Settings
from tagferry.sync.job_service import JobService
from tagferry.sync.jobs.all_jobs import AllJobs
from tagferry.sync.jobs.blob_lock import SharedBlobLock
from tagferry.sync.jobs.completion import JobWaiter
from tagferry.sync.jobs.live import LiveJobs
from tagferry.sync.jobs.orphans import OrphanedJobs
from tagferry.sync.jobs.queue import JobQueue, QueueLimits
from tagferry.sync.jobs.repository_jobs import RepositoryJobs
from tagferry.sync.jobs.retries import JobRetry
from tagferry.sync.jobs.searches import ReferrerSearches
from tagferry.sync.jobs.store import JobStore
from tagferry.sync.jobs.summary import JobSummaries
from tagferry.sync.jobs.worker import Worker
from tagferry.sync.known_terms import KnownTerms
from tagferry.sync.service import SyncService
from tagferry.workers import ProcessList


@dataclass(frozen=True, slots=True)
class SyncComponents:
    """The running components of synchronization."""

    regions: Regions
    stores: RegionStores
    bus: MessageBus
    coordination: Coordination
    jobs: JobStore
    queue: JobQueue
    retry: JobRetry
    bandwidth: dict[str, BandwidthLimiter]
    engine: CopyEngine
    worker: Worker
    service: SyncService
    job_service: JobService
    live: LiveJobs
    locations: DatabaseBlobLocations

    def apply(self, settings: Settings, regions: Sequence[Region], changed: Collection[RegionId]) -> None:
        """Apply a reloaded configuration. Running jobs end with the stores that they began with. Cannot fail.

        Args:
            settings: the configuration.
            regions: its regions.
            changed: the regions that were added or removed, or have a new store.
        """
        sync = settings.sync
        self.regions.replace(regions)
        self.queue.regions = [region.id for region in regions]
        self.queue.limits = _queue_limits(settings)
        self.retry.interactive = timedelta(minutes=sync.retry_minutes)
        self.retry.automatic = timedelta(minutes=sync.rule_retry_minutes)
        self.engine.tag_timeout_seconds = sync.tag_timeout_seconds
        self.service.max_tags_per_request = sync.max_tags_per_request
        self.service.max_concurrent_requests_per_user = sync.max_concurrent_requests_per_user
        self.service.seconds = sync.request_timeout_seconds
        _limit_bandwidth(self.bandwidth, settings)
        self.worker.regions_changed(changed)


@asynccontextmanager
async def open_sync(settings: Settings, accounts: Accounts, *, slots: int | None) -> AsyncIterator[SyncComponents]:
    """Open the regions and start the worker; the arguments are those of `open_app`."""
    database, leaving = accounts.database, asyncio.Event()
    async with AsyncExitStack() as stack:
        stores = RegionStores(StorePersistence(database, leaving))
        stack.push_async_callback(stores.close)
        regions = Regions(await stores.open(settings))
        locations = DatabaseBlobLocations(database, limit=settings.sync.max_blob_locations)
        stack.push_async_callback(locations.close)
        bus, coordination = accounts.bus, coordination_of(database)
        await bus.open()
        stack.push_async_callback(bus.close)
        jobs = JobStore(database, bus)
        blob_lock = SharedBlobLock(bus, coordination) if database.is_shared else None
        slots = settings.sync.max_concurrent_tags if slots is None else slots
        bandwidth: dict[str, BandwidthLimiter] = {}
        _limit_bandwidth(bandwidth, settings)
        engine = _engine(settings, MountSources(locations), blob_lock, slots, bandwidth)
        retry = JobRetry(
            interactive=timedelta(minutes=settings.sync.retry_minutes),
            automatic=timedelta(minutes=settings.sync.rule_retry_minutes),
        )
        queue = JobQueue(
            database, bus, coordination, regions=[region.id for region in regions], limits=_queue_limits(settings)
        )
        worker = Worker(
            engine=engine,
            jobs=jobs,
            queue=queue,
            membership=coordination,
            bus=bus,
            regions=regions,
            slots=slots,
            retry=retry,
            handing_over=leaving,
            orphans=OrphanedJobs(database, bus, retry=retry, configured=ProcessList(database).known_regions),
        )
        waiter, live = JobWaiter(jobs, bus), LiveJobs(database, bus)
        stack.push_async_callback(live.close)
        stack.push_async_callback(waiter.close)
        stack.push_async_callback(worker.close)
        await worker.start(accounts.supervisor)
        service = SyncService(
            regions=regions,
            access=accounts.access,
            jobs=jobs,
            pages=RepositoryJobs(database),
            engine=engine,
            worker=worker,
            waiter=waiter,
            searches=ReferrerSearches(accounts.database),
            live=live,
            max_tags_per_request=settings.sync.max_tags_per_request,
            max_concurrent_requests_per_user=settings.sync.max_concurrent_requests_per_user,
            seconds=settings.sync.request_timeout_seconds,
        )
        listing = AllJobs(database)
        job_service = JobService(
            service,
            regions=regions,
            access=accounts.access,
            jobs=jobs,
            listing=listing,
            summaries=JobSummaries(database),
            terms=KnownTerms(database, regions=regions, access=accounts.access, listing=listing),
        )
        yield SyncComponents(
            regions=regions,
            stores=stores,
            bus=bus,
            coordination=coordination,
            jobs=jobs,
            queue=queue,
            retry=retry,
            bandwidth=bandwidth,
            engine=engine,
            worker=worker,
            service=service,
            job_service=job_service,
            live=live,
            locations=locations,
        )


def _engine(
    settings: Settings,
    mount_sources: MountSources,
    blob_lock: BlobLock | None,
    slots: int,
    bandwidth: Mapping[str, BandwidthLimiter],
) -> CopyEngine:
    limits = Limits(
        tags=max(1, slots),
        blobs=settings.sync.max_concurrent_blobs,
        tag_timeout_seconds=settings.sync.tag_timeout_seconds,
    )
    return CopyEngine(
        limits,
        mount_sources=mount_sources,
        blob_lock=blob_lock,
        referrers=settings.sync.referrers,
        verify=VerifyMode(settings.sync.verify),
        bandwidth=bandwidth,
        splice=settings.sync.splice,
    )


def _limit_bandwidth(bandwidth: dict[str, BandwidthLimiter], settings: Settings) -> None:
    """Make the limiters of the regions those of a configuration; streams that have a limiter keep it."""
    limits = {
        name: region.max_bytes_per_second for name, region in settings.regions.items() if region.max_bytes_per_second
    }
    for name in bandwidth.keys() - limits.keys():
        # Its streams are no longer limited.
        bandwidth.pop(name).bytes_per_second = float("inf")
    for name, limit in limits.items():
        bandwidth.setdefault(name, BandwidthLimiter(limit)).bytes_per_second = limit


def _queue_limits(settings: Settings) -> QueueLimits:
    regions = {RegionId(name): region for name, region in settings.regions.items()}
    return QueueLimits(
        jobs=settings.sync.max_concurrent_tags_total,
        region_jobs={
            name: region.max_concurrent_tags for name, region in regions.items() if region.max_concurrent_tags
        },
        region_starts={
            name: region.max_tags_per_minute for name, region in regions.items() if region.max_tags_per_minute
        },
    )
