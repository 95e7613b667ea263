"""Build the synchronization: queue, worker and copy engine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from tagferry.app.accounts import Accounts
from tagferry.app.regions import StorePersistence, open_regions
from tagferry.cache.blob_locations import DatabaseBlobLocations
from tagferry.coordination.backend import Coordination, coordination_of
from tagferry.coordination.pubsub import MessageBus
from tagferry.copy.bandwidth import BandwidthLimiter
from tagferry.copy.blob_lock import BlobLock
from tagferry.copy.engine import CopyEngine, Limits
from tagferry.copy.mount_sources import MountSources
from tagferry.copy.verify import VerifyMode
from tagferry.names import RegionId
from tagferry.regions import Regions
from tagferry.settings import Settings
from tagferry.sync.job_service import JobService
from tagferry.sync.jobs.all_jobs import AllJobs
from tagferry.sync.jobs.blob_lock import SharedBlobLock
from tagferry.sync.jobs.completion import JobWaiter
from tagferry.sync.jobs.live import LiveJobs
from tagferry.sync.jobs.queue import JobQueue, QueueLimits
from tagferry.sync.jobs.repository_jobs import RepositoryJobs
from tagferry.sync.jobs.retries import JobRetry
from tagferry.sync.jobs.searches import ReferrerSearches
from tagferry.sync.jobs.store import JobStore
from tagferry.sync.jobs.summary import JobSummaries
from tagferry.sync.jobs.worker import Worker
from tagferry.sync.service import SyncService


@dataclass(frozen=True, slots=True)
class SyncComponents:
    """The running components of synchronization."""

    regions: Regions
    bus: MessageBus
    coordination: Coordination
    jobs: JobStore
    engine: CopyEngine
    worker: Worker
    service: SyncService
    job_service: JobService
    live: LiveJobs
    locations: DatabaseBlobLocations


@asynccontextmanager
async def open_sync(settings: Settings, accounts: Accounts, *, slots: int | None) -> AsyncIterator[SyncComponents]:
    """Open the regions and start the worker; the arguments are those of `open_app`."""
    database, leaving = accounts.database, asyncio.Event()
    async with AsyncExitStack() as stack:
        regions = await stack.enter_async_context(open_regions(settings, StorePersistence(database, leaving)))
        locations = DatabaseBlobLocations(database, limit=settings.sync.max_blob_locations)
        stack.push_async_callback(locations.close)
        bus, coordination = accounts.bus, coordination_of(database)
        await bus.open()
        stack.push_async_callback(bus.close)
        jobs = JobStore(database, bus)
        blob_lock = SharedBlobLock(bus, coordination) if database.is_shared else None
        slots = settings.sync.max_concurrent_tags if slots is None else slots
        engine = _engine(settings, MountSources(locations), blob_lock, slots)
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
            retry=JobRetry(
                interactive=timedelta(minutes=settings.sync.retry_minutes),
                automatic=timedelta(minutes=settings.sync.rule_retry_minutes),
            ),
            handing_over=leaving,
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
        job_service = JobService(
            service,
            regions=regions,
            access=accounts.access,
            jobs=jobs,
            listing=AllJobs(database),
            summaries=JobSummaries(database),
        )
        yield SyncComponents(regions, bus, coordination, jobs, engine, worker, service, job_service, live, locations)


def _engine(settings: Settings, mount_sources: MountSources, blob_lock: BlobLock | None, slots: int) -> CopyEngine:
    limits = Limits(
        tags=max(1, slots),
        blobs=settings.sync.max_concurrent_blobs,
        tag_timeout_seconds=settings.sync.tag_timeout_seconds,
    )
    bandwidth = {
        name: BandwidthLimiter(region.max_bytes_per_second)
        for name, region in settings.regions.items()
        if region.max_bytes_per_second
    }
    return CopyEngine(
        limits,
        mount_sources=mount_sources,
        blob_lock=blob_lock,
        referrers=settings.sync.referrers,
        verify=VerifyMode(settings.sync.verify),
        bandwidth=bandwidth,
        splice=settings.sync.splice,
    )


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
