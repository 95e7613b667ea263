"""The application runs policies at the interval of its settings, also after a restart."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tagferry.accounts.repositories import RepositoryMetadata
from tagferry.app import App, ensure_admin, open_accounts, open_app
from tagferry.automation.retention.rules import RuleSet
from tagferry.db.tables import ClockRow
from tagferry.names import Namespace, RegionId, RepositoryName, Tag
from tagferry.settings import Settings
from tests.support.deployment import eventually
from tests.support.images import image, push
from tests.support.schemas import sqlite_in

NORTH, TEAM, APP = RegionId("cn-north-4"), Namespace("team"), RepositoryName("team/app")
RULES = RuleSet.parse([{"template": "tag_rule", "params": {"num": "1"}, "tag_selectors": []}])


async def push_all(app: App, *tags: str) -> None:
    for tag in tags:
        await push(app.services.swr.regions[NORTH].store, APP, image(seed=tag), Tag(tag))


async def only(app: App, tag: str) -> None:
    """Wait until just this tag is left."""

    async def is_alone() -> bool:
        return [one async for one in app.services.swr.regions[NORTH].store.list_tags(APP)] == [tag]

    await eventually(is_alone)


async def test_policies_run_again_and_again_and_after_a_restart(tmp_path: Path):
    sqlite_in(tmp_path)
    regions = {NORTH: {"listen": "127.0.0.1:5004"}}
    settings = Settings.parse({"data_dir": tmp_path, "regions": regions, "retention": {"interval_hours": 1e-5}})
    async with open_app(settings) as app:
        await ensure_admin(app.accounts)
        admin = await app.accounts.users.find("admin")
        await app.accounts.organizations.create(admin, NORTH, TEAM)
        await push_all(app, "v1", "v2")
        record = await app.services.swr.repositories.create(admin, NORTH, APP, RepositoryMetadata())
        await app.services.swr.retention_policies.create(record.id, RULES)
        await only(app, "v2")
        await push_all(app, "v3")
        await only(app, "v3")

    async with open_app(settings) as app:
        await push_all(app, "v4")
        await only(app, "v4")

        async def all_are_told() -> bool:
            deletions, _ = await app.services.swr.retention_history.of_repository(record.id, limit=10, offset=0)
            return [one.tag for one in deletions] == ["v3", "v2", "v1"]

        await eventually(all_are_told)


async def test_after_a_year_without_a_trace_nothing_is_deleted_at_the_start(tmp_path: Path):
    sqlite_in(tmp_path)
    regions = {NORTH: {"listen": "127.0.0.1:5004"}}
    settings = Settings.parse({"data_dir": tmp_path, "regions": regions, "retention": {"interval_hours": 1e-5}})
    async with open_accounts(settings) as accounts, accounts.database.write() as session:
        session.add(ClockRow(id=1, seen_at=datetime.now(UTC) - timedelta(days=365)))
    async with open_app(settings) as app:
        await ensure_admin(app.accounts)
        admin = await app.accounts.users.find("admin")
        await app.accounts.organizations.create(admin, NORTH, TEAM)
        await push_all(app, "v1", "v2")
        record = await app.services.swr.repositories.create(admin, NORTH, APP, RepositoryMetadata())
        policy = await app.services.swr.retention_policies.create(record.id, RULES)

        for _ in range(5):
            app.services.swr.retention.wake()
            await asyncio.sleep(0.05)

        assert await app.services.swr.retention_policies.due(ran_before=datetime.now(UTC)) == [(policy, NORTH)]
        assert [one async for one in app.services.swr.regions[NORTH].store.list_tags(APP)] == ["v1", "v2"]
