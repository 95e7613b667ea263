"""The state of this process is read from its components while they are open, and no longer."""

import asyncio
import platform
import time
from pathlib import Path
from typing import Any

import pytest

from tagferry import __version__
from tagferry.gauges.process import measure_event_loop
from tagferry.metrics import DATABASE_SECONDS
from tests.support.deployment import NORTH, SOUTH, deployed, eventually
from tests.support.metrics import growth, sample
from tests.support.processes import free_port


async def test_a_process_that_serves_metrics_exports_its_state(tmp_path: Path):
    regions: dict[str, dict[str, Any]] = {
        NORTH: {"listen": ""},
        SOUTH: {"registry": "http://127.0.0.1:1", "organizations": "open"},
    }
    statements = growth(DATABASE_SECONDS)
    async with deployed(tmp_path, regions=regions, metrics_listen=f"127.0.0.1:{free_port()}"):

        async def leads() -> bool:
            return sample("tagferry_leader") == 1

        await eventually(leads)
        assert sample("tagferry_worker_slots") == 32
        assert sample("tagferry_worker_slots_used") == 0
        assert sample("tagferry_registry_connections", region=SOUTH, state="in_use") == 0
        assert sample("tagferry_region_capabilities_known", region=SOUTH) == 0
        assert sample("tagferry_embedded_upload_sessions", region=NORTH) == 0
        assert sample("tagferry_embedded_upload_sessions", region=SOUTH) is None
        assert sample("tagferry_database_connections", state="idle") is not None
        assert sample("tagferry_background_task_running", task="reading metrics") == 1
        assert sample("tagferry_build_info", version=__version__, python=platform.python_version()) == 1
        assert statements()[()] > 0

    assert sample("tagferry_worker_slots") is None
    assert sample("tagferry_leader") == 0


async def test_a_process_that_serves_no_metrics_measures_nothing(tmp_path: Path):
    statements = growth(DATABASE_SECONDS)

    async with deployed(tmp_path):
        assert sample("tagferry_worker_slots") is None

    assert statements() == {}


async def test_the_delay_of_the_event_loop_is_the_longest_of_the_last_seconds():
    measuring = asyncio.create_task(measure_event_loop())

    async def is_seen() -> bool:
        # As a callback that takes long would.
        time.sleep(0.6)  # noqa: ASYNC251
        return (sample("tagferry_event_loop_lag_seconds") or 0) > 0.2

    try:
        await eventually(is_seen)
    finally:
        measuring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await measuring
    assert sample("tagferry_event_loop_lag_seconds") is None
