"""The leader, and no other process, exports what the database has."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from tagferry.db.engine import Database
from tagferry.db.tables import DeliveryRow, ProcessRow, RepositoryRow, SyncJobRow, SyncRuleRow, TriggerRow
from tagferry.errors import DatabaseUnavailable
from tagferry.gauges import database as gauges_of_database
from tagferry.gauges.database import DatabaseGauges
from tagferry.metrics import JOBS, OLDEST_WAITING_JOB, RULE_JOBS, RULE_LAST_SUCCESS
from tagferry.metrics.instruments import Gauge
from tagferry.regions import Region, Regions
from tests.support.clock import Clock
from tests.support.deployment import NORTH, SOUTH, TEAM, eventually
from tests.support.job_rows import job_row
from tests.support.memory_store import MemoryStore
from tests.support.metrics import sample

NOW = datetime.now(UTC)


class Lead:
    """The leadership of this process, as a test sets it."""

    def __init__(self) -> None:
        self.is_held = True
        self.lost = asyncio.Event()

    async def is_leader(self) -> bool:
        return self.is_held


@pytest.fixture
def lead() -> Lead:
    return Lead()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def gauges(database: Database, lead: Lead, clock: Clock) -> AsyncIterator[DatabaseGauges]:
    regions = Regions(
        Region(id=name, url=f"https://{name}.example", store=MemoryStore(name)) for name in (NORTH, SOUTH)
    )
    made = DatabaseGauges(database, regions=regions, is_leader=lead.is_leader, lost=lambda: lead.lost, clock=clock)
    yield made
    made._clear()


async def add(database: Database, table: Any, *rows: dict[str, Any]) -> None:
    async with database.write() as session:
        await session.execute(insert(table), list(rows))


def values(gauge: Gauge) -> dict[tuple[str, ...], float]:
    return dict(gauge.read())


def job(status: str, **columns: Any) -> dict[str, Any]:
    defaults = {"worker_id": None, "rule_id": None, "next_attempt_at": None, "ended_at": None, "created_at": NOW}
    return job_row(status=status, **{**defaults, **columns})


def rule(number: int, **columns: Any) -> dict[str, Any]:
    return {
        "id": number,
        "created_at": NOW,
        "updated_at": NOW,
        "domain_id": "d" * 32,
        "domain_name": "acme",
        "creator_id": "u" * 32,
        "source_region": NORTH,
        "namespace": TEAM,
        "repository": "web",
        "target_region": SOUTH,
        "target_namespace": f"to-{number}",
        "override": False,
        "sync_auto": True,
        "latest_job_id": 0,
        **columns,
    }


async def test_open_jobs_are_exported_by_state_and_target_region(database: Database, gauges: DatabaseGauges):
    held = NOW + timedelta(hours=1)
    await add(
        database,
        SyncJobRow,
        job("waiting", tag="v1"),
        job("waiting", tag="v2", created_at=datetime.now(UTC) - timedelta(hours=1)),
        job("waiting", tag="v3", next_attempt_at=held),
        job("running", tag="v4", created_at=NOW - timedelta(hours=2)),
        job("waiting", tag="v5", target_region="was-removed"),
        job("success", tag="v6", ended_at=NOW),
    )

    await gauges.refresh()

    assert {labels: value for labels, value in values(JOBS).items() if value} == {
        ("waiting", SOUTH): 2,
        ("held", SOUTH): 1,
        ("running", SOUTH): 1,
        ("waiting", "other"): 1,
    }
    assert values(JOBS)["running", NORTH] == 0
    assert values(OLDEST_WAITING_JOB)[SOUTH,] == pytest.approx(3600, abs=600)
    assert values(OLDEST_WAITING_JOB)[NORTH,] == 0
    assert sample("tagferry_leader") == 1


async def test_rules_have_their_jobs_and_their_last_success(database: Database, gauges: DatabaseGauges):
    await add(database, SyncRuleRow, rule(1), rule(2, sync_auto=False), rule(3))
    await add(
        database,
        SyncJobRow,
        job("waiting", rule_id=1, tag="v1"),
        job("running", rule_id=1, tag="v2"),
        job("success", rule_id=1, tag="v3", ended_at=NOW - timedelta(hours=2)),
        job("success", rule_id=1, tag="v4", ended_at=NOW - timedelta(hours=1)),
        job("failed", rule_id=3, tag="v5", ended_at=NOW),
        job("success", tag="v6", ended_at=NOW),
        job("waiting", rule_id=99, tag="v7"),
    )

    await gauges.refresh()

    assert {labels: value for labels, value in values(RULE_JOBS).items() if value} == {
        ("1", "waiting"): 1,
        ("1", "running"): 1,
        ("other", "waiting"): 1,
    }
    assert values(RULE_JOBS)["3", "waiting"] == 0
    assert values(RULE_LAST_SUCCESS) == {("1",): pytest.approx((NOW - timedelta(hours=1)).timestamp(), abs=1)}
    assert sample("tagferry_rules", state="enabled") == 2
    assert sample("tagferry_rules", state="paused") == 1


async def test_more_rules_than_are_told_apart_count_together(
    database: Database, gauges: DatabaseGauges, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gauges_of_database, "_RULE_SUCCESSES", gauges_of_database._RULE_SUCCESSES.bindparams(most=2))
    await add(database, SyncRuleRow, rule(1), rule(2), rule(3), rule(4))
    await add(database, SyncJobRow, job("waiting", rule_id=3, tag="v1"), job("waiting", rule_id=4, tag="v2"))

    await gauges.refresh()

    assert values(RULE_JOBS)["other", "waiting"] == 2
    assert {number for number, _ in values(RULE_JOBS)} == {"1", "2", "other"}


async def test_workers_and_waiting_deliveries_are_exported(database: Database, gauges: DatabaseGauges):
    # This module may have been imported minutes ago.
    now = datetime.now(UTC)
    process = {"version": "1", "regions": [], "slots": 4, "running": 0, "is_leader": False, "started_at": now}
    await add(
        database,
        ProcessRow,
        {"id": "1", "name": "a", "seen_at": now, **process},
        {"id": "2", "name": "b", "seen_at": now - timedelta(minutes=10), **process},
        {"id": "3", "name": "c", "seen_at": now - timedelta(hours=5), **process},
        {"id": "4", "name": "d", "seen_at": now, **process, "slots": 0},
    )
    await add_deliveries(database, waiting=3, ended=2)

    await gauges.refresh()

    assert sample("tagferry_workers", state="alive") == 1
    assert sample("tagferry_workers", state="missing") == 1
    assert sample("tagferry_webhook_deliveries_pending") == 3


async def test_a_process_that_does_not_lead_exports_nothing_of_the_database(
    database: Database, gauges: DatabaseGauges, lead: Lead
):
    lead.is_held = False

    await gauges.refresh()

    assert sample("tagferry_leader") == 0
    assert sample("tagferry_jobs", state="waiting", target_region=SOUTH) is None
    assert sample("tagferry_workers", state="alive") is None


async def test_a_lost_lead_removes_the_series_at_once(gauges: DatabaseGauges, lead: Lead):
    keeping = asyncio.create_task(gauges.keep())

    async def is_exported() -> bool:
        return sample("tagferry_leader") == 1 and bool(values(JOBS))

    async def is_removed() -> bool:
        return sample("tagferry_leader") == 0 and not values(JOBS)

    try:
        await eventually(is_exported)
        lead.is_held = False
        lead.lost.set()
        await eventually(is_removed)
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])


async def test_without_the_database_values_are_exported_for_a_while_and_then_no_longer(
    database: Database, gauges: DatabaseGauges, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    await add(database, SyncJobRow, job("waiting"))
    await gauges.refresh()

    async def fail(*_: Any) -> None:
        raise DatabaseUnavailable("the database does not answer")

    monkeypatch.setattr(database, "rows", fail)
    clock.now += 20
    await gauges.refresh()
    assert sample("tagferry_jobs", state="waiting", target_region=SOUTH) == 1
    clock.now += 20
    await gauges.refresh()
    assert sample("tagferry_jobs", state="waiting", target_region=SOUTH) is None
    assert sample("tagferry_leader") == 1


async def test_a_slow_database_is_read_less_often(
    database: Database, gauges: DatabaseGauges, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    assert await gauges.refresh() == gauges_of_database.REFRESH_SECONDS
    rows = database.rows

    async def slowly(*arguments: Any) -> Any:
        clock.now += 1
        return await rows(*arguments)

    monkeypatch.setattr(database, "rows", slowly)
    assert await gauges.refresh() > 10 * gauges_of_database.REFRESH_SECONDS


async def add_deliveries(database: Database, *, waiting: int, ended: int) -> None:
    delivery = {
        "trigger_id": 1,
        "event_id": "e",
        "occurred_at": NOW,
        "tag": "v1",
        "digest": "sha256:" + "0" * 64,
        "pushed_by": None,
        "attempts": 0,
        "due_at": NOW,
        "detail": "",
    }
    await add_trigger(database)
    await add(database, DeliveryRow, *[{**delivery, "status": "waiting", "ended_at": None} for _ in range(waiting)])
    await add(database, DeliveryRow, *[{**delivery, "status": "success", "ended_at": NOW} for _ in range(ended)])


async def add_trigger(database: Database) -> None:
    named = {"creator_id": "u" * 32, "creator_name": "carol", "created_at": NOW}
    repository = {"region": NORTH, "namespace": TEAM, "name": "web", "category": "", "description": ""}
    await add(database, RepositoryRow, {"id": 1, **repository, "is_public": False, "updated_at": NOW, **named})
    texts = dict.fromkeys(("cluster_id", "cluster_name", "cluster_ns", "app_type", "application", "container"), "")
    kind = {"action": "update", "trigger_type": "all", "condition": ".*", "trigger_mode": "cce"}
    await add(
        database,
        TriggerRow,
        {"id": 1, "repository_id": 1, "name": "hook", "enabled": True, **kind, **texts, **named},
    )
