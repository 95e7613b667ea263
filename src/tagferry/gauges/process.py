"""The gauges of this process: read from its components when Prometheus asks, or measured in the background."""

import asyncio
import platform
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tagferry import __version__
from tagferry.db.engine import Database
from tagferry.metrics import (
    BUILD_INFO,
    DATABASE_CONNECTIONS,
    EMBEDDED_UPLOADS,
    EVENT_LOOP_LAG,
    LEADER,
    REGION_CAPABILITIES_KNOWN,
    REGISTRY_CONNECTIONS,
    WORKER_SLOTS,
    WORKER_SLOTS_USED,
)
from tagferry.metrics.instruments import Labels
from tagferry.regions import Region, Regions
from tagferry.registry.storage.store import DiskStore
from tagferry.remote import RemoteStore
from tagferry.sync.jobs.worker import Worker

_LAG_SAMPLE_SECONDS = 0.25
_LAG_SAMPLES = 60
"""Samples that are remembered: those of 15 seconds, so that no scrape misses a delay."""

_Values = Iterator[tuple[Labels, float]]


@contextmanager
def process_gauges(*, regions: Regions, worker: Worker, database: Database) -> Iterator[None]:
    """Export the state of these components while the context is open."""
    BUILD_INFO.labels(version=__version__, python=platform.python_version()).set(1)
    LEADER.set(0)

    def connections() -> _Values:
        for region, store in _remote(regions):
            in_use, idle = store.connections
            yield (region.id, "in_use"), in_use
            yield (region.id, "idle"), idle

    def pooled() -> _Values:
        in_use, idle = database.connections
        yield ("in_use",), in_use
        yield ("idle",), idle

    def known() -> _Values:
        for region, store in _remote(regions):
            yield (region.id,), store.knows_capabilities

    def uploads() -> _Values:
        for region, store in _disk(regions):
            yield (region.id,), store.uploads.open_sessions

    with ExitStack() as stack:
        for gauge, source in (
            (REGISTRY_CONNECTIONS, connections),
            (REGION_CAPABILITIES_KNOWN, known),
            (EMBEDDED_UPLOADS, uploads),
            (WORKER_SLOTS, lambda: [((), worker.slots)]),
            (WORKER_SLOTS_USED, lambda: [((), worker.running)]),
            (DATABASE_CONNECTIONS, pooled),
        ):
            stack.enter_context(gauge.reading(source))
        yield


async def measure_event_loop() -> None:
    """Measure by how much the event loop is late, until cancelled."""
    loop = asyncio.get_running_loop()
    late: deque[float] = deque(maxlen=_LAG_SAMPLES)
    try:
        while True:
            due = loop.time() + _LAG_SAMPLE_SECONDS
            await asyncio.sleep(_LAG_SAMPLE_SECONDS)
            late.append(max(0.0, loop.time() - due))
            EVENT_LOOP_LAG.set(max(late))
    finally:
        EVENT_LOOP_LAG.clear()


def _remote(regions: Regions) -> list[tuple[Region, RemoteStore]]:
    return [(one, one.store) for one in list(regions) if isinstance(one.store, RemoteStore)]


def _disk(regions: Regions) -> list[tuple[Region, DiskStore]]:
    return [(one, one.store) for one in list(regions) if isinstance(one.store, DiskStore)]
