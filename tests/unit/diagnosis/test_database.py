"""The database is read, and never changed or created."""

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import insert, text
from sqlalchemy.exc import SQLAlchemyError

from tagferry.app import ensure_admin, open_accounts
from tagferry.db.engine import Database
from tagferry.db.read_only import read_only
from tagferry.db.tables import RegionHealthRow, RegistryCapabilitiesRow, SyncJobRow
from tagferry.db.url import parse_url
from tagferry.diagnosis.database import DatabaseFacts, inspect_database
from tagferry.diagnosis.model import Component, Finding, Level
from tagferry.names import Tag
from tagferry.settings import Settings
from tests.support.job_rows import job_row
from tests.support.postgres import PostgresServer
from tests.support.processes import free_port
from tests.support.schemas import REVISIONS, inspected, migrate_to


def settings(folder: Path, url: str = "", **terms: Any) -> Settings:
    regions = {"cn-north-4": {"listen": "127.0.0.1:1"}, "cn-north-208": {"registry": "https://hub.example"}}
    return Settings.parse({"data_dir": folder, "database_url": url, "regions": regions, **terms})


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def inspect(parsed: Settings) -> DatabaseFacts:
    return await asyncio.to_thread(inspect_database, parsed, 5.0)


def of_database(facts: DatabaseFacts) -> list[Finding]:
    return [finding for finding in facts.findings if finding.component is Component.DATABASE]


async def test_a_healthy_database_is_ok_and_shows_what_it_knows(database: Database, database_url: str, tmp_path: Path):
    now = datetime.now(UTC)
    health = {"region": "cn-north-208", "kind": "registry", "state": "refused", "reason": "no", "since": now}
    async with database.write() as session:
        await session.execute(insert(SyncJobRow), [job_row(status="success", tag="v1")])
        document = '{"lists_referrers": true}'
        known = {"address": "https://hub.example", "learned_at": now, "document": document}
        await session.execute(insert(RegistryCapabilitiesRow), [known])
        await session.execute(insert(RegionHealthRow), [{**health, "checked_at": now}])

    facts = await inspect(settings(tmp_path, database_url))

    (one,) = of_database(facts)
    assert one.level is Level.OK
    assert one.message.startswith("can be read, and has the newest schema; ")
    assert facts.samples["cn-north-208"] == [("release/web", Tag("v1"))]
    assert facts.capabilities["https://hub.example"].lists_referrers is True
    assert [(region, one.reason) for region, one in facts.health.items()] == [("cn-north-208", "no")]
    if database.is_shared:
        assert facts.clock_difference is not None
        assert abs(facts.clock_difference) < timedelta(minutes=1)
    else:
        assert facts.clock_difference is None


async def test_a_file_that_does_not_exist_is_not_created(tmp_path: Path):
    (one,) = of_database(await inspect(settings(tmp_path / "data")))
    assert (one.level, files(tmp_path)) == (Level.WARNING, [])

    (tmp_path / "secret.key").touch()
    (one,) = of_database(await inspect(settings(tmp_path)))
    assert one.level is Level.PROBLEM
    assert "although there is a key file" in one.message


async def test_a_database_that_nothing_uses_is_read_without_a_new_file(tmp_path: Path):
    parsed = settings(tmp_path)
    async with open_accounts(parsed) as accounts:
        await ensure_admin(accounts)
    before = files(tmp_path)

    (one,) = of_database(await inspect(parsed))

    assert one.level is Level.OK
    assert files(tmp_path) == before


async def test_an_older_schema_is_not_upgraded(tmp_path: Path):
    parsed = settings(tmp_path)
    tmp_path.joinpath("tagferry.db").touch()
    inspected(parsed.effective_database_url, lambda connection: migrate_to(connection, REVISIONS[1]))

    (one,) = of_database(await inspect(parsed))

    assert one.level is Level.WARNING
    assert "the schema is that of an older version" in one.message
    revision = "SELECT version_num FROM alembic_version"
    assert inspected(parsed.effective_database_url, lambda found: found.scalar(text(revision))) == REVISIONS[1]


async def test_the_schema_of_a_newer_version_is_a_problem(database_url: str, database: Database, tmp_path: Path):
    async with database.write() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        (one,) = of_database(await inspect(settings(tmp_path, database_url)))
    finally:
        async with database.write() as session:
            await session.execute(text("UPDATE alembic_version SET version_num = :newest"), {"newest": REVISIONS[0]})

    assert one.level is Level.PROBLEM
    assert "the database has revision 9999" in one.message
    assert "newer version" in one.fix


async def test_the_database_of_another_program_is_a_problem(tmp_path: Path):
    with sqlite3.connect(tmp_path / "tagferry.db") as connection:
        connection.execute("CREATE TABLE notes (id)")
    connection.close()

    (one,) = of_database(await inspect(settings(tmp_path)))

    assert one.level is Level.PROBLEM
    assert 'tables of another program, such as "notes"' in one.message


async def test_a_missing_table_is_a_problem(database_url: str, database: Database, tmp_path: Path):
    async with database.write() as session:
        await session.execute(text("ALTER TABLE audit_records RENAME TO lost_records"))
    try:
        (one,) = of_database(await inspect(settings(tmp_path, database_url)))
    finally:
        async with database.write() as session:
            await session.execute(text("ALTER TABLE lost_records RENAME TO audit_records"))

    assert one.level is Level.PROBLEM
    assert "audit_records" in one.message


async def test_a_server_that_accepts_no_writes_is_a_problem(
    tmp_path: Path, postgres: PostgresServer, postgres_template: str
):
    name = postgres.new_database(like=postgres_template)
    postgres.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on", database="postgres")
    (one,) = of_database(await inspect(settings(tmp_path, postgres.url(name))))

    assert one.level is Level.PROBLEM
    assert "writes" in one.message


@pytest.mark.parametrize(
    ("revoked", "part"),
    [
        ("DELETE ON sync_jobs", "read and change the table sync_jobs"),
        ("SELECT ON alembic_version", "permission denied for table alembic_version"),
        ("SELECT ON users", "read and change the table users"),
        ("USAGE ON SEQUENCE sync_jobs_id_seq", "take numbers from the sequence sync_jobs_id_seq"),
    ],
)
async def test_a_missing_privilege_is_a_problem_that_names_what_it_is_missing_on(
    tmp_path: Path, postgres: PostgresServer, postgres_template: str, revoked: str, part: str
):
    name = postgres.new_database(like=postgres_template)
    role = f"user_of_{name}"
    postgres.run(f"CREATE ROLE {role} LOGIN", database="postgres")
    for granted in ("SELECT, INSERT, UPDATE, DELETE ON ALL TABLES", "USAGE ON ALL SEQUENCES"):
        postgres.run(f"GRANT {granted} IN SCHEMA public TO {role}", database=name)
    url = postgres.url(name).replace("postgres@", f"{role}@")
    (before,) = of_database(await inspect(settings(tmp_path, url)))
    postgres.run(f"REVOKE {revoked} FROM {role}", database=name)

    (one,) = of_database(await inspect(settings(tmp_path, url)))

    assert (before.level, one.level) == (Level.OK, Level.PROBLEM)
    assert part in one.message
    assert "owner" in one.fix


async def test_a_damaged_file_is_a_problem(tmp_path: Path):
    parsed = settings(tmp_path)
    async with open_accounts(parsed) as accounts:
        await ensure_admin(accounts)
    file = tmp_path / "tagferry.db"
    content = bytearray(file.read_bytes())
    content[4096 : len(content) // 2] = bytes(len(content) // 2 - 4096)
    file.write_bytes(content)

    found = of_database(await inspect(parsed))

    assert {one.level for one in found} == {Level.PROBLEM}
    assert any("damaged" in one.message and "backup" in one.fix for one in found), found


async def test_a_file_that_is_no_database_is_a_problem(tmp_path: Path):
    (tmp_path / "tagferry.db").write_text("text" * 1000)

    (one,) = of_database(await inspect(settings(tmp_path)))

    assert one.level is Level.PROBLEM
    assert "not an SQLite database" in one.message


async def test_another_key_than_that_of_the_secrets_is_a_problem(tmp_path: Path):
    parsed = settings(tmp_path)
    async with open_accounts(parsed) as accounts:
        await ensure_admin(accounts)
    key = tmp_path / "secret.key"
    other = settings(tmp_path, secret_key=Fernet.generate_key().decode())
    (wrong,) = of_database(await inspect(other))
    key.unlink()
    (missing,) = of_database(await inspect(parsed))

    assert (wrong.level, missing.level) == (Level.PROBLEM, Level.PROBLEM)
    assert wrong.message == "1 of 1 secrets cannot be decrypted with the key"
    assert "there is no key in" in missing.message
    assert not key.exists()


async def test_a_server_that_does_not_run_is_a_problem_without_the_password(tmp_path: Path):
    pytest.importorskip("psycopg")
    url = f"postgresql+psycopg://u:s3cret@127.0.0.1:{free_port()}/tagferry"

    (one,) = of_database(await inspect(settings(tmp_path, url)))

    assert (one.level, one.subject) == (Level.PROBLEM, "127.0.0.1/tagferry")
    assert "does not answer" in one.message
    assert "s3cret" not in f"{one}"


async def test_a_url_that_is_none_is_a_problem_without_the_password(tmp_path: Path):
    for url in ("postgresql:u:s3cret@host/x", "nothing+here://u:s3cret@host/x", "postgresql+psycopg://u:s3cret@h:x/y"):
        (one,) = of_database(await inspect(settings(tmp_path, url)))
        assert (one.level, "s3cret" in f"{one}") == (Level.PROBLEM, False)


async def test_nothing_can_be_written(database_url: str, database: Database):
    def write() -> None:
        with read_only(parse_url(database_url)) as connection:
            connection.execute(text("DELETE FROM users"))

    with pytest.raises(SQLAlchemyError, match=r"read-?only"):
        await asyncio.to_thread(write)
