import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from tagferry.audit.log import AuditLog
from tagferry.automation.triggers.deliveries import Deliveries
from tagferry.coordination.pubsub import LocalMessageBus
from tagferry.db.engine import Database
from tagferry.db.tables import RetentionDeletionRow
from tagferry.housekeeping import Housekeeping
from tagferry.names import Digest, RegionId, RepositoryName
from tagferry.regions import Region, Regions
from tagferry.registry.storage.store import DiskStore
from tagferry.sync.jobs.store import JobStore
from tests.support.deployment import eventually
from tests.support.images import blob, opening
from tests.unit.automation.retention.conftest import Keeper, rule


def audit(database: Database) -> AuditLog:
    return AuditLog(database, kept=timedelta(days=90), max_records=1000)


async def test_old_deletion_records_are_deleted_and_newer_ones_kept(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.housekeeping._INTERVAL_SECONDS", 0.01)
    keeper = Keeper(database)
    await keeper.add_repository()
    await keeper.push("v1", "v2", "v3", days=9)
    await keeper.retention.run(await keeper.policy(rule("date_rule", 1)))
    async with database.write() as session:
        old = datetime.now(UTC) - timedelta(days=31)
        await session.execute(
            update(RetentionDeletionRow).where(RetentionDeletionRow.tag != "v2").values(created_at=old)
        )

    jobs, deliveries = JobStore(database, LocalMessageBus()), Deliveries(database, LocalMessageBus())
    work = asyncio.create_task(
        Housekeeping(keeper.regions, jobs, keeper.history, deliveries, audit(database), kept=timedelta(days=30)).run()
    )

    async def is_left() -> bool:
        return await keeper.deleted() == [("v2", "date_rule")]

    await eventually(is_left)
    work.cancel()
    await asyncio.wait([work])


async def test_records_that_cannot_be_deleted_do_not_keep_others(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.housekeeping._INTERVAL_SECONDS", 0.01)
    keeper = Keeper(database)
    jobs, deliveries = JobStore(database, LocalMessageBus()), Deliveries(database, LocalMessageBus())
    pruned = asyncio.Event()

    async def fail(*, ended_before: datetime) -> int:
        raise OperationalError(str(ended_before), None, Exception("locked"))

    async def prune(*, ended_before: datetime) -> int:
        pruned.set()
        return 0

    monkeypatch.setattr(jobs, "prune", fail)
    monkeypatch.setattr(deliveries, "prune", prune)
    work = asyncio.create_task(
        Housekeeping(keeper.regions, jobs, keeper.history, deliveries, audit(database), kept=timedelta(days=30)).run()
    )

    await asyncio.wait_for(pruned.wait(), 30)
    work.cancel()
    await asyncio.wait([work])


async def test_a_region_whose_garbage_cannot_be_collected_does_not_affect_others(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.housekeeping._INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr("tagferry.housekeeping._GRACE_SECONDS", -1.0)
    app, garbage = RepositoryName("team/app"), b"no manifest refers to it"
    failing, working = [await DiskStore.open(tmp_path / name) for name in ("failing", "working")]

    async def fail(_: float) -> int:
        raise OSError("the directory cannot be read")

    monkeypatch.setattr(failing.garbage, "collect", fail)
    await working.write_blob(app, blob(garbage), opening(garbage))
    regions = Regions(
        [
            Region(id=RegionId("cn-north-4"), url="http://failing", store=failing),
            Region(id=RegionId("cn-north-208"), url="http://working", store=working),
        ]
    )
    keeper = Keeper(database)
    jobs, deliveries = JobStore(database, LocalMessageBus()), Deliveries(database, LocalMessageBus())
    work = asyncio.create_task(
        Housekeeping(regions, jobs, keeper.history, deliveries, audit(database), kept=timedelta(days=30)).run()
    )

    async def is_collected() -> bool:
        return await working.stat_blob(app, Digest.of(garbage)) is None

    await eventually(is_collected)
    assert not work.done()
    work.cancel()
    await asyncio.wait([work])
    for store in (failing, working):
        await store.close()
