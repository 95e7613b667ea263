"""Copies are explained by the records of jobs and rules, on both databases."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tagferry.comparison.records import CopyRecords, SourceScope
from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow, SyncRuleRow
from tagferry.names import Digest, Namespace, RegionId, Repository, RepositoryRef, Tag
from tests.support.postgres import PostgresServer
from tests.support.schemas import sqlite_in

NORTH, SOUTH = RegionId("cn-north-4"), RegionId("cn-north-208")
TEAM, RELEASE, BACKUP = Namespace("team"), Namespace("release"), Namespace("backup")
SOURCE = RepositoryRef(NORTH, TEAM, Repository("app"))
TARGET = RepositoryRef(SOUTH, RELEASE, Repository("app"))
OLD, NEW, CONVERTED = (Digest.of(text) for text in (b"old", b"new", b"converted"))
V1, V2 = Tag("v1"), Tag("v2")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_in(tmp_path)
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.url(server.new_database(like=request.getfixturevalue("postgres_template")))


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = Database(url)
    yield opened
    await opened.close()


@pytest.fixture
def records(database: Database) -> CopyRecords:
    return CopyRecords(database)


async def add(database: Database, **values: Any) -> None:
    now = datetime.now(UTC)
    common = {
        "created_at": now,
        "updated_at": now,
        "domain_id": "d",
        "domain_name": "acme",
        "source_region": NORTH,
        "namespace": TEAM,
        "repository": "app",
        "target_region": SOUTH,
        "target_namespace": RELEASE,
        "override": False,
    }
    job = {"request_id": "r", "operator_id": "u", "operator_name": "u", "tag": V1, "status": "success"}
    rule = {"creator_id": "u", "sync_auto": False, "latest_job_id": 0}
    row: Any = SyncRuleRow(**common | rule | values) if "sync_auto" in values else SyncJobRow(**common | job | values)
    async with database.write() as session:
        session.add(row)


async def test_the_targets_of_rules_come_before_those_of_the_newest_jobs(database: Database, records: CopyRecords):
    await add(database, target_namespace=RELEASE)
    await add(database, target_namespace=BACKUP, status="failed")
    await add(database, target_region=NORTH, target_namespace=RELEASE, sync_auto=True)
    await add(database, namespace=RELEASE, target_namespace=TEAM)

    targets = await records.targets(SourceScope(SOURCE))

    assert [str(target) for target in targets] == [
        f"{NORTH}/release/app",
        f"{SOUTH}/backup/app",
        f"{SOUTH}/release/app",
    ]


async def test_guests_see_the_records_of_their_domain_and_nobody_those_of_a_former_organization(
    database: Database, records: CopyRecords
):
    await add(database, target_namespace=RELEASE, domain_id="d", source_organization_id=1)
    await add(database, target_namespace=BACKUP, domain_id="e", source_organization_id=2)
    await add(database, target_region=NORTH, target_namespace=BACKUP, domain_id="e", sync_auto=True)

    async def names(**scope: Any) -> list[str]:
        return [target.organization for target in await records.targets(SourceScope(SOURCE, **scope))]

    assert await names(domain_id="d") == [f"{SOUTH}/release"]
    assert await names(organization_id=2) == [f"{NORTH}/backup", f"{SOUTH}/backup"]
    assert await names(organization_id=3, domain_id="d") == []


async def test_conversions_are_those_of_the_newest_successful_jobs_of_each_tag(
    database: Database, records: CopyRecords
):
    rewritten = {"digests": {OLD: CONVERTED}, "left_behind": []}
    await add(database, digest=CONVERTED, rewritten=rewritten)
    await add(database, digest=CONVERTED, rewritten={"digests": {NEW: OLD}, "left_behind": []}, status="failed")
    await add(database, tag=V2, digest=NEW)
    await add(database, target_namespace=BACKUP, rewritten={"digests": {NEW: OLD}, "left_behind": []})

    assert await records.conversions(TARGET, [V1, V2]) == {(V1, OLD, CONVERTED)}
    for _ in range(10):
        await add(database, digest=NEW, rewritten={"digests": {}, "left_behind": ["sha256-x.sig"]})
    assert await records.conversions(TARGET, [V1, V2]) == set()


async def test_an_image_is_held_at_the_target_and_unless_it_was_converted_at_the_source(
    database: Database, records: CopyRecords
):
    await add(database, digest=OLD)
    await add(database, digest=CONVERTED, target_namespace=BACKUP, rewritten={"digests": {OLD: CONVERTED}})

    assert await records.holders(OLD) == [TARGET, SOURCE]
    assert [str(one) for one in await records.holders(CONVERTED)] == [f"{SOUTH}/backup/app"]
    assert await records.holders(NEW) == []
