"""PostgreSQL finds a page of jobs of all repositories in its indexes, also when it plans for any values."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Composed, Literal
from sqlalchemy import event, text
from sqlalchemy.engine import Engine

from tagferry.accounts.model import Caller
from tagferry.db.engine import Database
from tagferry.names import Namespace, RegionId, Repository
from tagferry.sync.jobs.all_jobs import AllJobs, JobFilter
from tagferry.sync.jobs.model import JobStatus
from tagferry.sync.jobs.summary import JobSummaries
from tests.support.postgres import PostgresServer

ADMIN = Caller(user_id="a" * 32, name="admin", domain_id="d" * 32, domain_name="acme", is_admin=True)
READER = Caller(user_id="r" * 32, name="reader", domain_id="e" * 32, domain_name="other", is_admin=False)
NORTH, TEAM = RegionId("north"), Namespace("team")
JOBS = 40_000
FEW = 500
"""Blocks that a page may read; all jobs have several thousand."""

# Of 400 repositories, each has as many jobs; whatever is rare is old.
_RECORD = """
    INSERT INTO sync_jobs (request_id, created_at, updated_at, domain_id, domain_name, operator_id, operator_name,
        source_region, namespace, repository, tag, target_region, target_namespace, override, status, reason,
        bytes_total, bytes_done, ended_at)
    SELECT 'request-' || n, now(), now(), repeat('d', 32), 'acme',
        CASE WHEN n <= 10 THEN 'former' ELSE repeat('u', 32) END, 'carol', 'north', 'team', 'app-' || n % 400, 'v1',
        CASE WHEN n <= 10 THEN 'west' ELSE 'south' END, 'team', false,
        CASE WHEN n <= 10 THEN 'timeout' ELSE 'success' END, '', 0, 0, now() - (:jobs - n) * interval '1 second'
    FROM generate_series(1, :jobs) AS n
"""


@pytest.fixture(scope="module")
def history_url(postgres: PostgresServer, postgres_template: str) -> str:
    """A database with a history of jobs."""
    return postgres.url(postgres.new_database(like=postgres_template))


@pytest.fixture
async def history(history_url: str) -> AsyncIterator[Database]:
    database = Database(history_url)
    async with database.write() as session:
        if await session.scalar(text("SELECT count(*) FROM sync_jobs")) == 0:
            await session.execute(text(_RECORD), {"jobs": JOBS})
            await session.execute(text("ANALYZE"))
    yield database
    await database.close()


@contextmanager
def executed() -> Iterator[list[tuple[str, Any]]]:
    """Record the statements on jobs."""
    statements: list[tuple[str, Any]] = []

    def record(_: object, __: object, statement: str, parameters: Any, *___: object) -> None:
        if "sync_jobs" in statement:
            statements.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", record)


def blocks_read(connection: "psycopg.Connection[Any]", statement: str, parameters: dict[str, Any]) -> int:
    """Return how many blocks a prepared statement reads, from the disk or the cache."""
    names = list(parameters)
    numbered = re.sub(r"%\((\w+)\)s", lambda found: f"${names.index(found[1]) + 1}", statement)
    connection.execute(f"PREPARE page AS {numbered}".encode())
    values = Composed([Literal(value) for value in parameters.values()]).join(", ")
    call = SQL("EXECUTE page ({})").format(values) if names else SQL("EXECUTE page")
    row = connection.execute(SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ") + call).fetchone()
    connection.execute("DEALLOCATE page")
    assert row is not None
    plan: dict[str, int] = row[0][0]["Plan"]
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


FILTERS: dict[str, tuple[JobFilter, int]] = {
    "all": (JobFilter(), 10),
    "state": (JobFilter(statuses=frozenset({JobStatus.TIMEOUT})), 10),
    "states": (JobFilter(statuses=frozenset({JobStatus.TIMEOUT, JobStatus.FAILED})), 10),
    "target": (JobFilter(target_region=RegionId("west")), 10),
    "user": (JobFilter(operator="former"), 10),
    "user and target": (JobFilter(operator="former", target_region=RegionId("south")), 0),
    "state and organization": (JobFilter(statuses=frozenset({JobStatus.SUCCESS}), namespace=TEAM), 10),
    "request": (JobFilter(request="request-7"), 1),
    "repository": (JobFilter(region=NORTH, namespace=TEAM, repository=Repository("app-99")), 10),
    "repository of any region": (JobFilter(namespace=TEAM, repository=Repository("app-99")), 10),
    "repository without jobs": (JobFilter(namespace=TEAM, repository=Repository("web")), 0),
}
"""Filters, and how many jobs of a page of 10 they find."""


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize(("wanted", "found"), FILTERS.values(), ids=FILTERS)
async def test_a_page_reads_few_blocks(history: Database, history_url: str, wanted: JobFilter, found: int, mode: str):
    with executed() as statements:
        page = await AllJobs(history, seconds=60).page(ADMIN, wanted, limit=10)

    assert len(page.jobs) == found
    with psycopg.connect(history_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"SET plan_cache_mode = {mode}".encode())
        read = [blocks_read(connection, *one) for one in statements]
    assert sum(read) < FEW, read


async def test_a_summary_reads_each_job_once(history: Database):
    with executed() as statements:
        summary = await JobSummaries(history).of(READER)

    assert (summary.succeeded, summary.is_partial) == (0, True)
    # Reading a job again to decide who may see it takes four blocks for each of them.
    assert [statement.count("FROM sync_jobs") for statement, _ in statements] == [1, 1, 1, 1]
