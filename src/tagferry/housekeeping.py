"""Periodic deletion of old records, and garbage collection of embedded registries."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from sqlalchemy.exc import SQLAlchemyError

from tagferry.audit.log import AuditLog
from tagferry.automation.retention.history import DeletionHistory
from tagferry.automation.triggers.deliveries import Deliveries
from tagferry.db.batches import error_summary
from tagferry.errors import StorageUnavailable
from tagferry.regions import Regions
from tagferry.registry.storage.store import DiskStore
from tagferry.sync.jobs.store import JobStore

_INTERVAL_SECONDS = 3600.0
_GRACE_SECONDS = 24 * 3600.0
"""The time for which an unreferenced blob is kept, since a push may be in progress."""

log = structlog.get_logger(__name__)


class Housekeeping:
    """Deletes old records and collects the garbage of embedded registries, every hour. A reload changes `kept`.

    Args:
        regions: all regions.
        jobs: the sync jobs.
        history: the deletions by retention policies.
        deliveries: the webhook deliveries.
        audit: the audit records, which have an age of their own.
        kept: the age from which records are deleted.
        is_plausible: returns whether the clock is plausible; if not, nothing is deleted.
    """

    def __init__(
        self,
        regions: Regions,
        jobs: JobStore,
        history: DeletionHistory,
        deliveries: Deliveries,
        audit: AuditLog,
        *,
        kept: timedelta,
        is_plausible: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._regions = regions
        self._jobs = jobs
        self._history = history
        self._deliveries = deliveries
        self._audit = audit
        self._is_plausible = is_plausible
        self.kept = kept

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL_SECONDS)
            if self._is_plausible is None or await self._is_plausible():
                await self._delete_records()
                await self._collect_garbage()

    async def _delete_records(self) -> None:
        before = datetime.now(UTC) - self.kept
        for kind, prune in (
            ("jobs", partial(self._jobs.prune, ended_before=before)),
            ("deletions", partial(self._history.prune, before=before)),
            ("deliveries", partial(self._deliveries.prune, ended_before=before)),
            ("audit records", self._audit.prune),
        ):
            try:
                log.info("deleted old records", kind=kind, records=await prune())
            except SQLAlchemyError as error:
                log.warning("failed to delete old records", kind=kind, reason=error_summary(error))

    async def _collect_garbage(self) -> None:
        for region in self._regions:
            if not isinstance(region.store, DiskStore):
                continue
            try:
                freed = await region.store.garbage.collect(_GRACE_SECONDS)
            except (OSError, StorageUnavailable) as error:
                log.warning("failed to collect garbage", region=region.id, reason=str(error))
            else:
                log.info("collected garbage", region=region.id, bytes_freed=freed)
