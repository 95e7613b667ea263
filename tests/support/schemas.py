"""Databases of earlier schema revisions, with jobs in every state."""

import asyncio
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, create_engine, insert, inspect, make_url

from tagferry.db import migrations
from tagferry.db.engine import Database

Result = TypeVar("Result")

MIGRATIONS = Path(migrations.__file__).parent
REVISIONS = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]
"""All revisions, newest first."""
FORMER_WORKER = 77
"""The worker of the jobs that are recorded as running, if the revision has workers."""

_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class OldJob:
    """A recorded job from `north`'s `team/app` to `south`.

    Attributes:
        after: which of the jobs it has to wait for, counted from 1.
    """

    tag: str
    status: str
    override: bool = False
    to: str = "release"
    after: int | None = None


JOBS = (
    OldJob("v1", "success"),
    OldJob("v1", "running"),
    OldJob("v2", "waiting"),
    OldJob("v1", "waiting", override=True, after=2),
    OldJob("v1", "waiting", after=4),
    OldJob("v1", "waiting", to="other"),
)
"""Jobs in every state, three of them on the same route; in an empty database their ids are 1 to 6."""
ACCOUNTS: dict[str, dict[str, Any]] = {
    "domains": {"id": "1", "name": "acme"},
    "users": {
        "id": "2",
        "domain_id": "1",
        "name": "carol",
        "password_hash": "",
        "is_admin": False,
        "created_at": _MOMENT,
    },
    "access_keys": {"access_key": "AK", "user_id": "2", "secret_encrypted": "", "created_at": _MOMENT},
    "tokens": {"token_hash": "3", "user_id": "2", "issued_at": _MOMENT, "expires_at": _MOMENT},
    "organizations": {
        "id": 4,
        "region": "north",
        "name": "team",
        "domain_id": "1",
        "creator_id": "2",
        "creator_name": "carol",
        "created_at": _MOMENT,
    },
    "organization_permissions": {"organization_id": 4, "user_id": "2", "auth": 7, "permission": 7},
}
"""A row of each table of accounts, whose first revision has all of them."""


def inspected(url: str, look: Callable[[Connection], Result]) -> Result:
    """Return the result of `look` on a plain connection to a database."""
    engine = create_engine(make_url(url).set(drivername=url.partition(":")[0].removesuffix("+aiosqlite")))
    try:
        with engine.connect() as connection:
            found = look(connection)
            connection.commit()
    finally:
        engine.dispose()
    return found


def sqlite_in(folder: Path) -> str:
    """Return the URL of the default database in this directory; creates it with empty tables if it is new."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "tagferry.db"
    if not file.exists():
        file.write_bytes(_empty_sqlite())
    return f"sqlite:///{file}"


@cache
def _empty_sqlite() -> bytes:
    """Create a migrated database once per process: all migrations take longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tagferry.db"

        async def migrate() -> None:
            database = Database(f"sqlite:///{file}")
            await database.migrate()
            await database.close()

        with ThreadPoolExecutor(1) as aside:
            aside.submit(asyncio.run, migrate()).result()
        return file.read_bytes()


def migrate_to(connection: Connection, revision: str) -> None:
    """Create the schema of a revision."""
    command.upgrade(_alembic(connection), revision)


def take_back_to(connection: Connection, revision: str) -> None:
    """Downgrade the schema to an earlier revision."""
    command.downgrade(_alembic(connection), revision)


def add_jobs(connection: Connection, jobs: tuple[OldJob, ...] = JOBS, **other: Any) -> None:
    """Record jobs as the code of the database's revision would."""
    table = Table("sync_jobs", MetaData(), autoload_with=connection)
    if inspect(connection).has_table("workers"):
        workers = Table("workers", MetaData(), autoload_with=connection)
        connection.execute(insert(workers).values(id=FORMER_WORKER, name="gone", started_at=_MOMENT))
    for number, job in enumerate(jobs, start=1):
        is_running, has_ended = job.status == "running", job.status not in ("waiting", "running")
        row = {
            "request_id": f"call-{number}",
            "created_at": _MOMENT,
            "updated_at": _MOMENT,
            "domain_id": "d" * 32,
            "domain_name": "acme",
            "operator_id": "u" * 32,
            "operator_name": "carol",
            "source_region": "north",
            "namespace": "team",
            "repository": "app",
            "tag": job.tag,
            "target_region": "south",
            "target_namespace": job.to,
            "override": job.override,
            "status": job.status,
            "reason": "",
            "bytes_total": 0,
            "bytes_done": 0,
            "turn": number,
            "fair_position": number,
            "after_id": job.after,
            "blocked_by": job.after,
            "worker_id": FORMER_WORKER if is_running else None,
            _attempts(table): int(is_running or has_ended),
            "started_at": _MOMENT if is_running or has_ended else None,
            "ended_at": _MOMENT if has_ended else None,
            **other,
        }
        known = {name: value for name, value in row.items() if name in table.columns}
        connection.execute(insert(table).values(**known))


def _attempts(table: Table) -> str:
    """Return the column that counts how often a job was started."""
    return "attempts" if "failures" in table.columns else "starts"


def add_accounts(connection: Connection) -> None:
    """Record a user and all rows that refer to it, as the code of the database's revision would."""
    for name, row in ACCOUNTS.items():
        table = Table(name, MetaData(), autoload_with=connection)
        known = {name: value for name, value in row.items() if name in table.columns}
        connection.execute(insert(table).values(**known))


def _alembic(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config
