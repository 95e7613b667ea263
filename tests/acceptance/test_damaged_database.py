"""With an unusable database every command ends with one sentence that says what to do, and no request with a guess."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from psycopg import OperationalError
from sqlalchemy import make_url

from tagferry.db.faults import fault_of, too_old
from tests.support.deployment import Deployment, deployed
from tests.support.postgres import PostgresServer
from tests.support.processes import free_port
from tests.support.schemas import sqlite_in

pytestmark = pytest.mark.long

COMMANDS = (
    ["serve"],
    ["user", "list"],
    ["user", "create", "carol"],
    ["key", "list", "admin"],
    ["org", "list", "north"],
    ["org", "create", "north/team"],
)
Ruin = Callable[[Path], None]


def configured(folder: Path, **settings: str) -> Path:
    config = folder / "tagferry.toml"
    lines = [f'{name} = "{value}"' for name, value in settings.items()]
    config.write_text("\n".join([*lines, "[regions.north]", f'listen = "127.0.0.1:{free_port()}"', ""]))
    return config


def refused(config: Path, command: list[str]) -> str:
    """Return the error of a failing command, which is one line."""
    program = [sys.executable, "-c", "from tagferry.cli import main; main()", *command, "--config", str(config)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    return errors[0].removeprefix("error: ")


def overwrite(file: Path) -> None:
    file.write_bytes(b"this is a letter to my aunt" * 1000)


def flip_the_schema(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[100:600] = os.urandom(500)
    file.write_bytes(content)


def cut_in_half(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def make_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def be_another_programs(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE recipes (id INTEGER PRIMARY KEY)")
    connection.close()


def lose_the_users(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        for table in ("users", "organizations", "workers", "access_keys"):
            connection.execute(f"DROP TABLE {table}")
    connection.close()


def empty(file: Path) -> None:
    os.truncate(file, 0)
    (file.parent / "secret.key").write_bytes(Fernet.generate_key())


RUINS: dict[Ruin, str] = {
    overwrite: 'tagferry.db" is damaged or not an SQLite database; restore it from a backup',
    flip_the_schema: "restore it from a backup",
    cut_in_half: 'tagferry.db" is damaged; stop tagferry and restore it from a backup',
    make_a_folder: 'tagferry.db" is a directory; name a file in database_url',
    be_another_programs: 'tagferry.db" contains tables of another program, such as "recipes"; name another database',
    lose_the_users: "restore it from a backup",
    empty: 'tagferry.db" is empty, although there is data beside it; restore it from a backup',
}


@pytest.mark.parametrize("ruin", RUINS)
def test_a_damaged_database_file_ends_commands_with_one_sentence(tmp_path: Path, ruin: Ruin) -> None:
    config = configured(tmp_path)
    sqlite_in(tmp_path / "tagferry-data")
    ruin(tmp_path / "tagferry-data" / "tagferry.db")

    for command in COMMANDS if ruin is cut_in_half else COMMANDS[:2]:
        assert RUINS[ruin] in refused(config, command), command


def test_a_locked_database_is_waited_for_and_then_named(tmp_path: Path) -> None:
    config = configured(tmp_path)
    sqlite_in(tmp_path / "tagferry-data")
    holder = sqlite3.connect(tmp_path / "tagferry-data" / "tagferry.db", isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")

    assert 'tagferry.db" is locked by another process' in refused(config, ["user", "list"])
    holder.close()


async def test_a_page_that_is_damaged_later_makes_requests_and_readiness_503(tmp_path: Path) -> None:
    async with deployed(tmp_path / "data") as ferry:
        token = await ferry.token()
        await damage(ferry, tmp_path / "data" / "tagferry.db")

        answer = await ferry.http("GET", "/v2/manage/namespaces", headers={"X-Auth-Token": token})

        assert answer.refused()[0] == 503
        assert answer.document["error_msg"] == "the database is damaged"
        pushed = await ferry.http(
            "POST", "/v2/team/app/blobs/uploads/", headers={"Authorization": "Basic YWRtaW46eA=="}
        )
        assert (pushed.status, pushed.document["errors"][0]["message"]) == (503, "the database is damaged")
        ready = await ferry.http("GET", "/readyz")
        assert ready.status == 503
        assert str(tmp_path) not in ready.content.decode()


async def damage(ferry: Deployment, file: Path) -> None:
    """Overwrite every page of the running server's database but the first."""
    async with ferry.app.accounts.database.write() as session:
        await session.connection()
    await ferry.app.accounts.database._engine.dispose()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.close()
    with file.open("r+b") as opened:
        opened.write(b"\xff" * (opened.seek(0, os.SEEK_END) - opened.seek(size)))


def missing_user(server: PostgresServer) -> str:
    return server.url(server.new_database()).replace("postgres@", "nobody@")


def missing_database(server: PostgresServer) -> str:
    return server.url("nosuch")


def without_privileges(server: PostgresServer) -> str:
    name = server.new_database()
    server.run("CREATE ROLE poor LOGIN", database="postgres")
    server.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC", database=name)
    return server.url(name).replace("postgres@", "poor@")


def standby(server: PostgresServer) -> str:
    name = server.new_database()
    server.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on", database="postgres")
    return server.url(name)


def exhausted(server: PostgresServer) -> str:
    server.run("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0", database="postgres")
    return server.url(server.new_database()).replace("postgres@", "crowded@")


def shared_with_another_program(server: PostgresServer) -> str:
    name = server.new_database()
    server.run("CREATE TABLE users (id int)", database=name)
    return server.url(name)


def gone(server: PostgresServer) -> str:
    return server.url(server.new_database(), port=free_port())


POSTGRES: dict[Callable[[PostgresServer], str], str] = {
    missing_user: "PostgreSQL refused the login (",
    missing_database: "PostgreSQL has no such database (",
    without_privileges: "PostgreSQL refused access (",
    standby: "PostgreSQL accepts no writes (",
    exhausted: "PostgreSQL accepts no more connections (",
    shared_with_another_program: 'contains tables of another program, such as "users"',
    gone: "the database does not answer: ",
}


@pytest.mark.parametrize("fault", POSTGRES)
def test_an_unusable_postgresql_ends_the_start_with_one_sentence(
    tmp_path: Path, postgres: PostgresServer, fault: Callable[[PostgresServer], str]
) -> None:
    config = configured(tmp_path, database_url=fault(postgres))

    assert POSTGRES[fault] in refused(config, ["serve"])


def test_postgresqls_errors_about_logins_and_its_state_are_recognized() -> None:
    url = make_url("postgresql+psycopg://me:hunter2@db.example.com/tagferry")
    said = {
        'connection failed: FATAL:  password authentication failed for user "me"': "check the user and the password",
        "connection failed: fe_sendauth: no password supplied": "check the user and the password",
        "FATAL:  sorry, too many clients already": "accepts no more connections",
        "server closed the connection unexpectedly": "the database does not answer",
    }
    for text, told in said.items():
        fault = fault_of(OperationalError(text), url)
        assert fault is not None
        assert told in fault.detail
        assert fault.message in ("the database cannot be used", "the database does not answer")
    assert too_old(110022).detail == "PostgreSQL 11 is too old; tagferry needs version 12 or later"
