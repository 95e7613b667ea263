import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from tagferry.automation.triggers.deliveries import Deliveries
from tagferry.coordination.pubsub import LocalMessageBus
from tagferry.db.engine import Database
from tagferry.db.tables import RetentionDeletionRow
from tagferry.housekeeping import run_housekeeping
from tagferry.sync.jobs.store import JobStore
from tests.support.deployment import eventually
from tests.unit.automation.retention.conftest import Keeper, rule


async def test_old_deletion_records_are_deleted_and_newer_ones_kept(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.housekeeping._PAUSE_SECONDS", 0.01)
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
        run_housekeeping(keeper.regions, jobs, keeper.history, deliveries, kept=timedelta(days=30))
    )

    async def is_left() -> bool:
        return await keeper.deleted() == [("v2", "date_rule")]

    await eventually(is_left)
    work.cancel()
    await asyncio.wait([work])
