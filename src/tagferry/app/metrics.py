"""Build what is exported to Prometheus beyond the events that every component counts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tagferry.app.accounts import Accounts
from tagferry.app.sync import SyncComponents
from tagferry.gauges.database import DatabaseGauges
from tagferry.gauges.process import measure_event_loop, process_gauges
from tagferry.metrics import REPOSITORY_JOBS_ENDED
from tagferry.settings import Settings


@asynccontextmanager
async def open_metrics(settings: Settings, accounts: Accounts, sync: SyncComponents) -> AsyncIterator[None]:
    """Measure and export while the context is open; does nothing if no metrics are served."""
    if settings.metrics_listen is None:
        yield
        return
    REPOSITORY_JOBS_ENDED.is_enabled = settings.metrics_by_repository
    accounts.database.time_statements()
    gauges = DatabaseGauges(
        accounts.database,
        regions=sync.regions,
        is_leader=sync.coordination.is_leader,
        lost=lambda: sync.coordination.lost,
    )
    start = accounts.supervisor.start
    tasks = [start("reading metrics", gauges.keep), start("measuring the event loop", measure_event_loop)]
    try:
        with process_gauges(regions=sync.regions, worker=sync.worker, database=accounts.database):
            yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
