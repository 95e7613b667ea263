"""Upgrades of an empty database and of every earlier revision with data, and downgrades, on both databases."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, insert, inspect, select, text

from tagferry import __version__
from tagferry.coordination.backend import coordination_of
from tagferry.coordination.pubsub import LocalMessageBus
from tagferry.db.engine import Database
from tagferry.db.tables import AccessKeyRow, Base, DomainRow, SyncJobRow, UserRow
from tagferry.errors import Unavailable
from tagferry.names import Namespace, RegionId, Repository
from tagferry.sync.jobs.model import JobStatus, JobUpdate, SyncJob
from tagferry.sync.jobs.queue import JobQueue
from tagferry.sync.jobs.repository_jobs import RepositoryJobs
from tagferry.sync.jobs.store import JobStore
from tests.support.schemas import (
    ACCOUNTS,
    JOBS,
    MIGRATIONS,
    REVISIONS,
    OldJob,
    add_accounts,
    add_jobs,
    inspected,
    migrate_to,
    take_back_to,
)

NORTH, SOUTH = RegionId("north"), RegionId("south")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'tagferry.db'}"
    server = request.getfixturevalue("postgres")
    empty: str = server.url(server.new_database())
    return empty


async def migrate(url: str) -> None:
    database = Database(url)
    try:
        await database.migrate()
    finally:
        await database.close()


def old(connection: Connection, revision: str) -> None:
    """Create a database of an earlier revision with accounts and jobs."""
    migrate_to(connection, revision)
    add_accounts(connection)
    add_jobs(connection)


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, Base.metadata))


def accounts(connection: Connection) -> dict[str, int]:
    """Return the number of rows of each account table."""
    return {name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in ACCOUNTS}  # noqa: S608


async def recorded(database: Database) -> list[SyncJob]:
    jobs, _ = await RepositoryJobs(database).of_repository(
        NORTH, Namespace("team"), Repository("app"), limit=100, descending=False
    )
    return jobs


async def require_that_the_jobs_are_run(database: Database) -> None:
    """Assert that a worker of the current code runs all open jobs in order."""
    bus, membership = LocalMessageBus(), coordination_of(database)
    jobs, queue = JobStore(database, bus), JobQueue(database, bus, membership, regions=[NORTH, SOUTH])
    me = await membership.join()
    await queue.requeue_lost()
    order = []
    while claimed := await queue.claim(me, 10):
        order.append([job.id for job in claimed])
        for job in claimed:
            await jobs.end(JobUpdate(job.id, JobStatus.SUCCESS), worker_id=me)
    await membership.leave()
    assert order == [[2, 3, 6], [4], [5]]


async def test_migrations_create_every_table_and_change_nothing_when_run_again(url: str):
    await migrate(url)
    tables = inspected(url, lambda connection: set(inspect(connection).get_table_names()))
    assert tables == {*Base.metadata.tables, "alembic_version"}
    database = Database(url)
    async with database.write() as session:
        session.add(DomainRow(id="1", name="acme"))

    await database.migrate()

    async with database.read() as session:
        assert list(await session.scalars(select(DomainRow.name))) == ["acme"]
    await database.close()


async def test_the_migrated_schema_matches_the_code(url: str):
    await migrate(url)

    assert inspected(url, differences) == []


def test_the_comparison_of_schemas_detects_a_difference(url: str):
    assert inspected(url, differences) != []


def test_the_revisions_are_linear():
    assert len(ScriptDirectory(str(MIGRATIONS)).get_heads()) == 1


@pytest.mark.long
@pytest.mark.parametrize("revision", REVISIONS)
async def test_an_older_database_is_upgraded_with_its_data(url: str, revision: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.coordination.postgres.GRACE_SECONDS", 0.0)
    inspected(url, lambda connection: old(connection, revision))
    database = Database(url)

    await database.migrate()

    assert inspected(url, differences) == []
    assert inspected(url, accounts) == dict.fromkeys(ACCOUNTS, 1)
    kept = await recorded(database)
    told = [(job.tag, job.override, job.target_namespace) for job in kept]
    assert told == [(job.tag, job.override, job.to) for job in JOBS]
    assert [job.status for job in kept if job.id != 2] == [JOBS[0].status, *["waiting"] * 4]
    assert kept[0].ended_at is not None
    await require_that_the_jobs_are_run(database)
    await database.close()


async def test_users_and_keys_of_earlier_revisions_are_enabled(url: str):
    inspected(url, lambda connection: old(connection, "0009"))
    database = Database(url)

    await database.migrate()

    async with database.read() as session:
        (user,) = await session.scalars(select(UserRow))
        (key,) = await session.scalars(select(AccessKeyRow))
    assert (user.name, user.enabled, user.description) == ("carol", True, None)
    assert (key.user_id, key.enabled, key.last_used_at) == (user.id, True, None)
    await database.close()


async def test_the_rule_of_a_job_is_taken_from_its_request_id(url: str):
    requests = {
        "rule-7-0123456789abcdef": 7,
        "rule-1234567890123-ff": 1234567890123,
        "rule-7-": None,
        "rule-7-xyz": None,
        "rule-7x-ff": None,
        "rule--ff": None,
        "my-rule-7-ff": None,
        "0123456789abcdef0123456789abcdef": None,
    }

    def prepare(connection: Connection) -> None:
        migrate_to(connection, "0022")
        add_jobs(connection, (OldJob("v1", "success"),) * len(requests))
        for number, request_id in enumerate(requests, start=1):
            change = text("UPDATE sync_jobs SET request_id = :request_id WHERE id = :id")
            connection.execute(change, {"request_id": request_id, "id": number})

    inspected(url, prepare)
    database = Database(url)

    await database.migrate()

    async with database.read() as session:
        rows = (await session.execute(select(SyncJobRow.request_id, SyncJobRow.rule_id))).all()
    assert {row.request_id: row.rule_id for row in rows} == requests
    await database.close()


RENAMED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sync_jobs": (
        {"turn": 5, "after_id": 6, "unsearched": "no answer", "losses": 1, "attempts": 2, "starts": 3},
        {
            "fair_position": 5,
            "blocked_by": 6,
            "search_error": "no answer",
            "lost_workers": 1,
            "failures": 2,
            "attempts": 3,
        },
    ),
    "sync_rules": ({"arrival_id": 7}, {"latest_job_id": 7}),
    "sync_rule_tags": ({"arrival_id": 8, "came_through": ["north/team"]}, {"latest_job_id": 8, "hops": ["north/team"]}),
    "retention_tags": ({"is_attachment": True}, {"is_attached_artifact": True}),
    "organization_permissions": ({"auth": 3}, {"permission": 3}),
    "repository_permissions": ({"auth": 1}, {"permission": 1}),
}
"""Columns of each table before and after they got standard names."""


async def test_renamed_columns_and_tables_keep_their_values(url: str):
    inspected(url, lambda connection: migrate_to(connection, "0024"))
    inspected(url, add_accounts)
    inspected(url, add_renamed)

    inspected(url, lambda connection: migrate_to(connection, "0025"))
    assert inspected(url, lambda connection: renamed(connection, 1)) == {
        name: new for name, (_, new) in RENAMED.items()
    }
    assert inspected(url, lambda connection: sessions(connection, "upload_sessions")) == [
        ("address", "app", "d", "http://u")
    ]

    inspected(url, lambda connection: take_back_to(connection, "0024"))
    assert inspected(url, lambda connection: renamed(connection, 0)) == {
        name: old for name, (old, _) in RENAMED.items()
    }
    assert inspected(url, lambda connection: sessions(connection, "blob_uploads")) == [
        ("address", "app", "d", "http://u")
    ]


def sessions(connection: Connection, table: str) -> list[tuple[str, ...]]:
    rows = connection.execute(text(f"SELECT address, repository, digest, location FROM {table}"))  # noqa: S608
    return [tuple(row) for row in rows]


def renamed(connection: Connection, version: int) -> dict[str, dict[str, Any]]:
    """Return the values of the renamed columns of each table's only row; version 0 is before, 1 after."""
    found = {}
    for name, versions in RENAMED.items():
        table = Table(name, MetaData(), autoload_with=connection)
        row = connection.execute(select(*(table.c[column] for column in versions[version]))).one()
        found[name] = dict(row._mapping)
    return found


def add_renamed(connection: Connection) -> None:
    """Add a row to each table with renamed columns, as of revision 0023."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    add_jobs(connection, (OldJob("v1", "success"),), **RENAMED["sync_jobs"][0])
    connection.execute(text("UPDATE organization_permissions SET auth = 3"))
    made = {"created_at": moment, "updated_at": moment}
    creator = {"creator_id": "2", "creator_name": "carol"}
    way = {"source_region": "north", "namespace": "team", "repository": "app", "target_region": "south"}
    rows: dict[str, dict[str, Any]] = {
        "sync_rules": {
            "id": 1,
            "domain_id": "1",
            "domain_name": "acme",
            "creator_id": "2",
            "target_namespace": "release",
            "override": False,
            "sync_auto": True,
            **way,
            **made,
        },
        "sync_rule_tags": {"rule_id": 1, "tag": "v1"},
        "repositories": {
            "id": 1,
            "region": "north",
            "namespace": "team",
            "name": "app",
            "category": "other",
            "description": "",
            "is_public": False,
            **creator,
            **made,
        },
        "repository_permissions": {"repository_id": 1, "user_id": "2"},
        "retention_policies": {"id": 1, "repository_id": 1, "rules": [], **made},
        "retention_tags": {"policy_id": 1, "tag": "v1", "digest": "d", "pushed_at": moment, "built_at": moment},
        "blob_uploads": {
            "address": "address",
            "repository": "app",
            "digest": "d",
            "location": "http://u",
            "updated_at": moment,
        },
    }
    for name, row in rows.items():
        table = Table(name, MetaData(), autoload_with=connection)
        connection.execute(insert(table).values(**row, **RENAMED.get(name, ({}, {}))[0]))


@pytest.mark.long
@pytest.mark.parametrize("revision", REVISIONS[1:])
async def test_a_database_can_be_downgraded_and_upgraded_again(
    url: str, revision: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.coordination.postgres.GRACE_SECONDS", 0.0)
    inspected(url, lambda connection: old(connection, "head"))
    inspected(url, lambda connection: take_back_to(connection, revision))
    kept = inspected(url, lambda connection: connection.execute(text("SELECT tag FROM sync_jobs ORDER BY id")).all())
    assert [row.tag for row in kept] == [job.tag for job in JOBS]
    assert inspected(url, accounts) == dict.fromkeys(ACCOUNTS, 1)
    database = Database(url)

    await database.migrate()

    assert inspected(url, differences) == []
    await require_that_the_jobs_are_run(database)
    await database.close()


async def test_processes_that_start_together_upgrade_the_database_once(url: str):
    inspected(url, lambda connection: old(connection, REVISIONS[-1]))

    await asyncio.gather(*(migrate(url) for _ in range(4)))

    assert inspected(url, differences) == []


async def test_a_database_of_a_newer_version_is_refused(url: str):
    await migrate(url)
    inspected(url, lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))

    with pytest.raises(Unavailable) as refused:
        await migrate(url)

    assert refused.value.message == (
        f"the database has revision 9999, which tagferry {__version__} does not support; "
        "use the newer version that upgraded it, or restore the backup from before the upgrade"
    )
