"""What is done now and then, so that what nobody needs any more does not fill the database and the disk."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from tagferry.automation.retention.history import DeletionHistory
from tagferry.automation.triggers.deliveries import Deliveries
from tagferry.errors import StorageUnavailable
from tagferry.regions import Regions
from tagferry.registry.storage.store import DiskStore
from tagferry.sync.jobs.store import JobStore

_PAUSE_SECONDS = 3600.0
_GRACE_SECONDS = 24 * 3600.0
"""How long a blob that no manifest refers to is kept, since a push may be under way."""

log = structlog.get_logger(__name__)


async def run_housekeeping(
    regions: Regions,
    jobs: JobStore,
    history: DeletionHistory,
    deliveries: Deliveries,
    *,
    kept: timedelta,
    is_plausible: Callable[[], Awaitable[bool]] | None = None,
) -> None:
    """Forget old records, and free the disk of embedded registries from what was deleted or never finished, for ever.

    Args:
        regions: all of them.
        jobs: the records of sync jobs.
        history: the records of what retention deleted.
        deliveries: the records of webhooks' calls.
        kept: how long a record is kept.
        is_plausible: whether the time may be believed now; where not, nothing is deleted.
    """
    while True:
        await asyncio.sleep(_PAUSE_SECONDS)
        try:
            if is_plausible is not None and not await is_plausible():
                continue
            before = datetime.now(UTC) - kept
            log.info("deleted the records of old jobs", jobs=await jobs.prune(ended_before=before))
            log.info("deleted the records of old deletions", deletions=await history.prune(before=before))
            log.info("deleted the records of old calls", calls=await deliveries.prune(ended_before=before))
        except SQLAlchemyError:
            log.exception("old records could not be deleted")
        for region in regions:
            if not isinstance(region.store, DiskStore):
                continue
            try:
                freed = await region.store.collect_garbage(_GRACE_SECONDS)
            except (OSError, StorageUnavailable):
                log.exception("garbage could not be collected", region=region.id)
            else:
                log.info("collected garbage", region=region.id, bytes_freed=freed)
