"""Queries of jobs read an index, not every job, so that they stay fast with a long history."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import Engine

from tagferry.accounts.model import Caller
from tagferry.comparison.records import CopyRecords, SourceScope
from tagferry.coordination.pubsub import LocalMessageBus
from tagferry.db.engine import Database
from tagferry.names import Digest, Repository, RepositoryRef, Tag
from tagferry.sync.jobs.all_jobs import AllJobs, JobFilter
from tagferry.sync.jobs.history import SyncHistory
from tagferry.sync.jobs.model import JobStatus, NewJob, SyncRequest
from tagferry.sync.jobs.repository_jobs import RepositoryJobs
from tagferry.sync.jobs.searches import ReferrerSearches, Target
from tagferry.sync.jobs.store import JobStore
from tagferry.sync.jobs.summary import HOURS, JobSummaries
from tests.support.schemas import inspected
from tests.unit.sync.conftest import NORTH, RELEASE, REPO, SOUTH, TEAM, V1

CALLER = Caller(user_id="u" * 32, name="carol", domain_id="d" * 32, domain_name="acme", is_admin=False)
SOURCE = RepositoryRef(NORTH, TEAM, REPO)

Executed = list[tuple[str, Any]]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(f"sqlite+aiosqlite:///{tmp_path / 'tagferry.db'}")
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database, LocalMessageBus())


@contextmanager
def executed() -> Iterator[Executed]:
    """Record the statements on jobs."""
    statements: Executed = []

    def record(_: object, __: object, statement: str, parameters: Any, ___: object, many: bool) -> None:
        if "sync_jobs" in statement:
            statements.append((statement, parameters[0] if many else parameters))

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", record)


def plans(database: Database, statements: Executed) -> list[str]:
    """Return SQLite's plan of each statement, as one text."""

    def explain(connection: Connection) -> list[str]:
        found = []
        for statement, parameters in statements:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            found.append("; ".join(str(row.detail) for row in rows))
        return found

    url = database.url.render_as_string(hide_password=False)
    return inspected(url, explain)


async def record(
    jobs: JobStore, *tags: str, status: JobStatus = JobStatus.WAITING, search_error: str | None = None
) -> None:
    wanted = SyncRequest(
        id="call",
        caller=CALLER,
        source_region=NORTH,
        namespace=TEAM,
        repository=Repository(REPO),
        tags=tuple(Tag(tag) for tag in tags),
        target_region=SOUTH,
        target_namespace=RELEASE,
    )
    await jobs.create(
        wanted,
        [NewJob(tag, status, search_error=search_error) for tag in wanted.tags],
        max_concurrent_requests_per_user=100,
    )


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize(
    ("terms", "index"),
    [
        ({}, "ix_sync_jobs_repository"),
        ({"organization_id": 7}, "ix_sync_jobs_repository"),
        ({"statuses": [JobStatus.FAILED]}, "ix_sync_jobs_repository_status"),
        ({"statuses": [JobStatus.FAILED], "organization_id": 7}, "ix_sync_jobs_repository_status"),
        ({"statuses": [JobStatus.FAILED, JobStatus.TIMEOUT]}, "ix_sync_jobs_repository_status"),
    ],
    ids=str,
)
async def test_a_page_of_jobs_reads_only_as_many_as_it_shows(
    jobs: JobStore, database: Database, terms: dict[str, Any], index: str, descending: bool
):
    with executed() as statements:
        await RepositoryJobs(database).of_repository(NORTH, TEAM, REPO, limit=10, descending=descending, **terms)

    (plan,) = plans(database, statements)
    assert f"USING INDEX {index} (" in plan or f"USING COVERING INDEX {index} (" in plan
    assert ("status=?" in plan) == ("statuses" in terms)
    assert "SCAN sync_jobs" not in plan
    # Several statuses are merged by their ids, of which there are as many as the page has.
    assert plan.count("TEMP B-TREE") <= (1 if len(terms.get("statuses", ())) > 1 else 0)


@pytest.mark.parametrize("statuses", [[], [JobStatus.SUCCESS], [JobStatus.SUCCESS, JobStatus.FAILED]], ids=len)
async def test_jobs_are_counted_in_an_index_alone(jobs: JobStore, database: Database, statuses: list[JobStatus]):
    await record(jobs, "v1", "v2", status=JobStatus.SUCCESS)

    with executed() as statements:
        terms: dict[str, Any] = {"limit": 1, "statuses": statuses}
        first, _ = await RepositoryJobs(database).of_repository(NORTH, TEAM, REPO, **terms)
        await RepositoryJobs(database).of_repository(NORTH, TEAM, REPO, organization_id=7, offset=1, **terms)

    assert len(first) == 1
    counted = [one for one in statements if "count(" in one[0]]
    # A page after the end of the list is counted by itself.
    assert len(counted) == 3
    counts = [plan.rpartition("SCALAR SUBQUERY")[2] for plan in plans(database, counted)]
    assert all("USING COVERING INDEX ix_sync_jobs_repository" in plan for plan in counts)


@pytest.mark.parametrize(
    ("limit", "offset", "shown"), [(2, 0, 2), (2, 1, 2), (2, 2, 1), (None, 0, 3), (2, 9, 0)], ids=str
)
async def test_a_page_of_jobs_is_read_and_counted_by_one_statement(
    jobs: JobStore, database: Database, limit: int | None, offset: int, shown: int
):
    await record(jobs, "v1", "v2", "v3")

    with executed() as statements:
        page, total = await RepositoryJobs(database).of_repository(NORTH, TEAM, REPO, limit=limit, offset=offset)

    assert (len(page), total) == (shown, 3)
    # A page after the end has no row with the count.
    assert len(statements) == (1 if shown else 2)


async def test_a_new_request_reads_only_open_jobs(jobs: JobStore, database: Database):
    with executed() as statements:
        await record(jobs, *(f"v{number}" for number in range(100)))

    read = [
        plan
        for plan, (statement, _) in zip(plans(database, statements), statements, strict=True)
        if statement.startswith("SELECT")
    ]
    assert len(read) == 2
    open_only = ("ix_sync_jobs_route (", "ix_sync_jobs_operator (", "ix_sync_jobs_queue (", "AND status=?)")
    steps = [step for plan in read for step in plan.split("; ") if " sync_jobs" in step]
    assert len(steps) == 4
    assert all(any(index in step for index in open_only) for step in steps), steps


async def test_the_history_of_a_tag_reads_only_the_jobs_of_that_tag(jobs: JobStore, database: Database):
    searches = ReferrerSearches(database)
    await record(jobs, V1, status=JobStatus.SUCCESS, search_error="no answer")
    with executed() as statements:
        await SyncHistory(database).of_tag(SOURCE, V1, Digest.of(b""))
        await searches.due(SOURCE, V1, [Target(SOUTH, RELEASE)])

    read = plans(database, statements)
    assert len(read) > 4
    assert all("tag=?" in plan or "ix_sync_jobs_search_error (" in plan for plan in read), read


async def test_a_comparison_reads_only_the_jobs_of_its_repository_tags_and_digest(jobs: JobStore, database: Database):
    await record(jobs, V1, status=JobStatus.SUCCESS)
    records = CopyRecords(database)
    with executed() as statements:
        assert await records.targets(SourceScope(SOURCE, organization_id=7, domain_id="d" * 32)) == []
        await records.conversions(RepositoryRef(SOUTH, RELEASE, REPO), [V1])
        await records.holders(Digest.of(b""))

    assert [plan.partition("USING INDEX ")[2].partition(")")[0] for plan in plans(database, statements)] == [
        "ix_sync_jobs_repository (source_region=? AND namespace=? AND repository=?",
        "ix_sync_jobs_target (target_region=? AND target_namespace=? AND repository=? AND tag=? AND status=?",
        "ix_sync_jobs_digest (digest=?",
    ]


async def test_the_database_has_the_indexes_of_lists_over_repositories(database: Database):
    queries = {
        "SELECT id FROM sync_jobs WHERE source_region = 'a' ORDER BY id DESC": "ix_sync_jobs_region",
        "SELECT id FROM sync_jobs WHERE source_region = 'a' AND status = 'failed' ORDER BY id": (
            "ix_sync_jobs_region_status"
        ),
        "SELECT id FROM sync_jobs WHERE operator_id = 'a' ORDER BY id DESC": "ix_sync_jobs_operator_id",
    }

    found = plans(database, [(str(text(query)), ()) for query in queries])

    for plan, index in zip(found, queries.values(), strict=True):
        assert f"COVERING INDEX {index} (" in plan
        assert "TEMP B-TREE" not in plan


async def test_jobs_of_the_last_day_and_open_ones_are_counted_in_indexes_alone(jobs: JobStore, database: Database):
    await record(jobs, "v1", "v2", status=JobStatus.SUCCESS)
    admin = Caller(user_id="a" * 32, name="admin", domain_id="d" * 32, domain_name="acme", is_admin=True)

    with executed() as statements:
        assert (await JobSummaries(database).of(admin)).succeeded == 2

    *opened, ended = plans(database, statements)
    assert ended.count("COVERING INDEX ix_sync_jobs_ended_at (ended_at>? AND ended_at<?)") == HOURS
    assert "SCAN sync_jobs" not in "".join([*opened, ended])


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (JobFilter(), "USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (JobFilter(prefix="shop/"), "USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (JobFilter(statuses=frozenset({JobStatus.FAILED})), "ix_sync_jobs_status (status=? AND id>? AND id<?)"),
        (JobFilter(namespace=TEAM), "ix_sync_jobs_namespace (namespace=? AND id>? AND id<?)"),
        (JobFilter(target_region=SOUTH), "ix_sync_jobs_target_region (target_region=? AND id>? AND id<?)"),
        (JobFilter(operator="carol"), "ix_sync_jobs_operator_id (operator_id=? AND id>? AND id<?)"),
        (JobFilter(request="call"), "ix_sync_jobs_request_id (request_id=? AND rowid>? AND rowid<?)"),
        (
            JobFilter(region=NORTH, namespace=TEAM, repository=Repository(REPO)),
            "ix_sync_jobs_repository (source_region=? AND namespace=? AND repository=? AND id>? AND id<?)",
        ),
        (JobFilter(statuses=frozenset(JobStatus), namespace=TEAM, target_region=SOUTH, operator="carol"), "id>?"),
    ],
    ids=["all", "prefix", "status", "namespace", "target", "operator", "request", "repository", "several"],
)
async def test_a_page_of_jobs_of_all_repositories_reads_an_index_in_the_order_of_ids(
    jobs: JobStore, database: Database, wanted: JobFilter, index: str
):
    await record(jobs, "v1", "v2")
    with executed() as statements:
        await AllJobs(database).page(replace(CALLER, is_admin=True), wanted, limit=10)

    found = plans(database, statements)
    assert any(index in plan for plan in found), found
    assert not any("SCAN sync_jobs" in plan for plan in found)
