"""End the waiting jobs from and to regions that no process of the database configures any more."""

import time
from collections.abc import Awaitable, Callable, Collection

import structlog
from sqlalchemy import or_, select

from tagferry.coordination.pubsub import MessageBus
from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow
from tagferry.names import RegionId
from tagferry.sync.jobs.ending import end_jobs
from tagferry.sync.jobs.model import EndReason, JobStatus
from tagferry.sync.jobs.reasons import unconfigured_reason
from tagferry.sync.jobs.retries import JobRetry

log = structlog.get_logger(__name__)

Configured = Callable[[], Awaitable[Collection[RegionId]]]
"""Returns the regions that the other processes of the database know."""
_IS_WAITING = SyncJobRow.status == JobStatus.WAITING.value


class OrphanedJobs:
    """Ends jobs of removed regions after the time for which jobs of an unavailable region are retried.

    Until then, the jobs wait: the region may have been removed by mistake, or its processes may be restarting.

    Args:
        database: stores the jobs.
        bus: notifies of their ends.
        retry: the times, for jobs of users and of rules.
        configured: looks up the regions of the other processes.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        database: Database,
        bus: MessageBus,
        *,
        retry: JobRetry,
        configured: Configured,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._bus = bus
        self._retry = retry
        self._configured = configured
        self._clock = clock
        self._missing_since: dict[RegionId, float] = {}

    async def end(self, known: Collection[RegionId]) -> None:
        """End the jobs whose time is over. `known` are the regions of this process."""
        missing = await self._missing(known)
        now = self._clock()
        for region in sorted(missing - self._missing_since.keys()):
            log.warning("jobs wait for a region that is no longer configured", region=region)
        self._missing_since = {region: self._missing_since.get(region, now) for region in missing}
        for region, since in self._missing_since.items():
            for is_automatic, limit in ((False, self._retry.interactive), (True, self._retry.automatic)):
                if now - since >= limit.total_seconds() and (jobs := await self._fail(region, automatic=is_automatic)):
                    log.warning("failed jobs of a region that is no longer configured", region=region, jobs=jobs)

    async def _missing(self, known: Collection[RegionId]) -> set[RegionId]:
        found: set[RegionId] = set()
        async with self._database.read() as session:
            for column in (SyncJobRow.source_region, SyncJobRow.target_region):
                wanted = select(column).where(_IS_WAITING, column.not_in(known)).distinct()
                found.update(map(RegionId, await session.scalars(wanted)))
        return found - set(await self._configured()) if found else found

    async def _fail(self, region: RegionId, *, automatic: bool) -> int:
        """Fail the waiting jobs from and to a region, those of rules or those of users; returns their number."""
        async with self._database.write() as session:
            failed = await end_jobs(
                session,
                self._bus,
                JobStatus.FAILED,
                _IS_WAITING,
                or_(SyncJobRow.source_region == region, SyncJobRow.target_region == region),
                SyncJobRow.priority > 0 if automatic else SyncJobRow.priority == 0,
                cause=EndReason.NOT_CONFIGURED,
                reason=unconfigured_reason(region),
            )
            return len(failed)
