"""Jobs of all repositories are listed by their ids, for callers who may read their source, in a bounded time."""

from datetime import UTC, datetime, timedelta
from itertools import count, product
from typing import Any

import pytest
from sqlalchemy import insert, update

from tagferry.accounts.access import AccessControl
from tagferry.accounts.model import Caller, Permission
from tagferry.accounts.shares import Shares
from tagferry.db.engine import Database
from tagferry.db.tables import RepositoryPermissionRow, RepositoryRow, SyncJobRow
from tagferry.errors import Denied
from tagferry.names import Namespace, Repository
from tagferry.sync.jobs.all_jobs import AllJobs, JobFilter
from tagferry.sync.jobs.model import JobStatus
from tests.support.job_rows import job_row
from tests.unit.sync.conftest import NORTH, RELEASE, SOUTH, TEAM, World

ADMIN = Caller(user_id="a" * 32, name="admin", domain_id="d" * 32, domain_name="acme", is_admin=True)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
WEB, APP = Repository("web"), Repository("app/core")


async def record(database: Database, *jobs: dict[str, Any]) -> list[int]:
    """Record jobs with these columns, an hour apart; returns their ids."""
    async with database.write() as session:
        before = len((await session.scalars(_IDS)).all())
        own = {"target_region": SOUTH, "status": "success"}
        rows = [
            job_row(**own | {"created_at": BEGIN + timedelta(hours=before + index), "tag": f"v{index}"} | job)
            for index, job in enumerate(jobs)
        ]
        for row in rows:
            await session.execute(insert(SyncJobRow).values(**row))
        return list((await session.scalars(_IDS)).all())[before:]


_IDS = SyncJobRow.__table__.select().with_only_columns(SyncJobRow.id).order_by(SyncJobRow.id)


async def ids(database: Database, wanted: JobFilter | None = None, caller: Caller = ADMIN, **terms: Any) -> list[int]:
    page = await AllJobs(database).page(caller, wanted or JobFilter(), **{"limit": 100} | terms)
    return [job.id for job in page.jobs]


async def test_pages_follow_each_other_without_gaps_while_jobs_are_added(database: Database):
    recorded = await record(database, *({} for _ in range(7)))
    listing, seen, marker = AllJobs(database), [], None
    while True:
        page = await listing.page(ADMIN, JobFilter(), limit=3, marker=marker)
        seen += [job.id for job in page.jobs]
        await record(database, {})
        if (marker := page.marker) is None:
            break

    assert seen == recorded[::-1]


async def test_a_full_last_page_has_no_marker(database: Database):
    recorded = await record(database, {}, {})

    page = await AllJobs(database).page(ADMIN, JobFilter(), limit=2)

    assert ([job.id for job in page.jobs], page.marker) == (recorded[::-1], None)


async def test_jobs_that_are_newer_than_one_are_listed(database: Database):
    recorded = await record(database, {}, {"status": "failed"}, {"status": "failed"}, {})

    failed = JobFilter(statuses=frozenset({JobStatus.FAILED}))

    assert await ids(database, failed, after=recorded[1]) == [recorded[2]]
    assert await ids(database, after=recorded[3]) == []


EVERY_FILTER: dict[str, list[Any]] = {
    "statuses": [frozenset(), frozenset({JobStatus.FAILED}), frozenset({JobStatus.FAILED, JobStatus.SUCCESS})],
    "region": [None, NORTH],
    "namespace": [None, TEAM, Namespace("none")],
    "repository": [None, WEB],
    "prefix": ["", "app/"],
    "target_region": [None, SOUTH],
    "target_namespace": [None, RELEASE],
    "operator": ["", "carol", "e" * 32, "nobody"],
    "request": ["", "request", "other"],
    "since": [None, BEGIN + timedelta(hours=5)],
    "until": [None, BEGIN + timedelta(hours=20)],
}


def expected(job: Any, wanted: JobFilter) -> bool:
    return (
        (not wanted.statuses or job.status in wanted.statuses)
        and wanted.region in (None, job.source_region)
        and wanted.namespace in (None, job.namespace)
        and wanted.repository in (None, job.repository)
        and job.repository.startswith(wanted.prefix)
        and wanted.target_region in (None, job.target_region)
        and wanted.target_namespace in (None, job.target_namespace)
        and wanted.operator in ("", job.operator_name, job.operator_id)
        and wanted.request in ("", job.request_id)
        and (wanted.since is None or job.created_at >= wanted.since)
        and (wanted.until is None or job.created_at < wanted.until)
    )


async def test_every_combination_of_filters_finds_exactly_the_jobs_that_match(database: Database, world: World):
    carol = world.caller.user_id
    await record(
        database,
        *(
            {
                "status": status,
                "source_region": source,
                "namespace": namespace,
                "repository": repository,
                "target_region": target,
                "operator_id": operator,
                "operator_name": {carol: "carol"}.get(operator, "former"),
            }
            for status, source, namespace, repository, target, operator in product(
                ["success", "failed"], [NORTH, SOUTH], [TEAM, "other"], [WEB, APP], [NORTH, SOUTH], [carol, "e" * 32]
            )
        ),
    )
    listing = AllJobs(database)
    everything = (await listing.page(ADMIN, JobFilter(), limit=1000)).jobs
    assert len(everything) == 64

    # All pairs of terms, and all terms at once.
    names = list(EVERY_FILTER)
    combinations = [
        {first: one, second: other}
        for index, first in enumerate(names)
        for second in names[index + 1 :]
        for one, other in product(EVERY_FILTER[first], EVERY_FILTER[second])
    ]
    combinations.append({name: values[-1] for name, values in EVERY_FILTER.items()})
    for terms in combinations:
        wanted = JobFilter(**terms)
        page = await listing.page(ADMIN, wanted, limit=1000)
        assert page.marker is None
        assert [job.id for job in page.jobs] == [job.id for job in everything if expected(job, wanted)], terms


async def test_a_prefix_has_no_wildcards(database: Database):
    await record(database, {"repository": "app_core"}, {"repository": "appxcore"})

    (job,) = (await AllJobs(database).page(ADMIN, JobFilter(prefix="app_"), limit=10)).jobs

    assert job.repository == "app_core"


async def test_times_of_processes_whose_clocks_differ_a_little_are_compared_exactly(database: Database):
    await record(database, {"created_at": BEGIN + timedelta(minutes=50)}, {"created_at": BEGIN}, {"created_at": BEGIN})

    assert len(await ids(database, JobFilter(since=BEGIN + timedelta(minutes=40)))) == 1
    assert len(await ids(database, JobFilter(until=BEGIN + timedelta(minutes=40)))) == 2


async def test_a_search_that_takes_too_long_ends_early_and_its_marker_continues_it(database: Database):
    recorded = await record(database, {"repository": APP}, *({} for _ in range(5)))
    # Every look at this clock is a second later than the one before.
    listing = AllJobs(database, clock=count().__next__, seconds=0.0, steps=(2, 2))
    wanted, found, markers = JobFilter(prefix="app/"), [], [10**9]
    while True:
        page = await listing.page(ADMIN, wanted, limit=1, marker=markers[-1])
        found += page.jobs
        if page.marker is None:
            break
        markers.append(page.marker)

    assert [job.id for job in found] == [recorded[0]]
    assert markers == [10**9, recorded[4], recorded[2]]


# Who may see which jobs. R: those that others of another domain requested, D: those of the caller's own domain.
SEEN = {
    "admin": "RD",
    "reader": "RD",
    "editor": "RD",
    "manager": "RD",
    "repository-reader": "RD",
    "of-the-target": "",
    "shared-with": "D",
    "shared-before": "",
    "stranger": "",
}


@pytest.fixture
async def people(world: World) -> dict[str, Caller]:
    """Users with different permissions in the private repository `team/web` of the north."""
    users, organizations, database = world.users, world.organizations, world.database
    found = {"admin": await users.find("admin")}
    for name in SEEN.keys() - {"admin"}:
        domain = {"shared-with": "partners", "shared-before": "former", "stranger": "strangers"}.get(name, "acme")
        found[name] = await users.create(name, "correct horse", domain=domain)
    for name, permission in {
        "reader": Permission.READ,
        "editor": Permission.EDIT,
        "manager": Permission.MANAGE,
    }.items():
        await organizations.grant(NORTH, TEAM, name, permission)
    await organizations.grant(SOUTH, RELEASE, "of-the-target", Permission.MANAGE)
    team = await AccessControl(database).require_organization(found["admin"], NORTH, TEAM, Permission.READ)
    assert team is not None
    async with database.write() as session:
        row = RepositoryRow(
            region=NORTH,
            namespace=TEAM,
            name=WEB,
            organization_id=team.id,
            category="other",
            description="",
            is_public=False,
            creator_id="",
            creator_name="",
            created_at=BEGIN,
            updated_at=BEGIN,
        )
        session.add(row)
        await session.flush()
        session.add(
            RepositoryPermissionRow(repository_id=row.id, user_id=found["repository-reader"].user_id, permission=1)
        )
    shares = Shares(database)
    await shares.create(found["admin"], row.id, "partners", deadline=None, description="")
    await shares.create(found["admin"], row.id, "former", deadline=BEGIN, description="")
    return {name: await users.find(name) for name in found}


@pytest.mark.parametrize("is_public", [False, True], ids=["private", "public"])
async def test_the_list_shows_the_same_jobs_as_the_list_of_each_repository(
    world: World, people: dict[str, Caller], is_public: bool
):
    assert world.process is not None
    service = world.process.service
    team = await AccessControl(world.database).require_organization(people["admin"], NORTH, TEAM, Permission.READ)
    assert team is not None
    async with world.database.write() as session:
        await session.execute(update(RepositoryRow).values(is_public=is_public))
    mine = {"source_organization_id": team.id}
    recorded: dict[str, tuple[int, int]] = {}
    for name, caller in people.items():
        other, own = await record(
            world.database, {**mine, "domain_id": "f" * 32}, {**mine, "domain_id": caller.domain_id}
        )
        recorded[name] = other, own
    (former,) = await record(world.database, {"source_organization_id": None})

    for name, caller in people.items():
        seen = "RD" if "R" in SEEN[name] else "D" if is_public or "D" in SEEN[name] else ""
        jobs = set(await ids(world.database, caller=caller))
        allowed = {job for job, letter in zip(recorded[name], "RD", strict=True) if letter in seen}
        assert set(recorded[name]) & jobs == allowed, name
        assert (former in jobs) == caller.is_admin
        some = await AllJobs(world.database).some(caller, [*recorded[name], former])
        assert {job.id for job in some} == {*recorded[name], former} & jobs
        missing = former + 1_000_000
        assert await AllJobs(world.database).count_readable(caller, [*recorded[name], former, missing]) == len(some)
        try:
            listed, _ = await service.jobs_of(caller, NORTH, TEAM, WEB, limit=1000, offset=0, descending=True)
        except Denied:
            assert not jobs, name
        else:
            # Administrators also see the jobs of former organizations, in the list of all repositories only.
            assert {job.id for job in listed} == jobs - {former}, name


async def test_a_permission_in_one_repository_shows_nothing_of_its_neighbours(world: World, people: dict[str, Caller]):
    team = await AccessControl(world.database).require_organization(people["admin"], NORTH, TEAM, Permission.READ)
    assert team is not None
    mine, *_ = await record(
        world.database,
        {"source_organization_id": team.id},
        {"source_organization_id": team.id, "repository": APP},
        {"source_organization_id": team.id, "source_region": SOUTH},
    )

    assert await ids(world.database, caller=people["repository-reader"]) == [mine]


async def test_callers_with_many_organizations_see_all_of_their_jobs(world: World, people: dict[str, Caller]):
    access, recorded = AccessControl(world.database), []
    for name in [Namespace(f"org-{number}") for number in range(40)]:
        await world.organizations.create(people["admin"], NORTH, name)
        await world.organizations.grant(NORTH, name, "stranger", Permission.READ)
        organization = await access.require_organization(people["admin"], NORTH, name, Permission.READ)
        assert organization is not None
        mine, _ = await record(world.database, {"namespace": name, "source_organization_id": organization.id}, {})
        recorded.append(mine)

    assert await ids(world.database, caller=people["stranger"]) == recorded[::-1]
