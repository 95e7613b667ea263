"""Jobs of all repositories are listed, shown, cancelled and retried, each under the permissions of its repositories."""

from typing import Any

import pytest
from sqlalchemy import update

from tagferry.accounts.model import AccessKey, Permission
from tagferry.db.tables import SyncJobRow
from tagferry.names import Namespace, Repository, Tag
from tests.support import images
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Answer, Deployment, eventually, name_in

JOBS = "/v2/manage/sync_jobs"
SAMPLE, OTHER = images.image(), images.image(b"other")
WEB, APP = Repository("web"), Repository("app/core")


@pytest.fixture
async def token(ferry: Deployment) -> str:
    for name in (name_in(TEAM, WEB), name_in(TEAM, APP), name_in(RELEASE, WEB)):
        for tag in ("v1", "v2"):
            await images.push(ferry.store(NORTH), name, SAMPLE, Tag(tag))
    return await ferry.token()


async def call(ferry: Deployment, method: str, path: str, token: str, body: Any = None) -> Answer:
    return await ferry.http(method, path, body=body, headers={"X-Auth-Token": token})


async def synced(
    ferry: Deployment, namespace: Namespace, repository: Repository, *tags: str, to: str = RELEASE
) -> list[int]:
    body = {"imageTag": list(tags), "remoteNamespace": to, "remoteRegionId": SOUTH}
    async with ferry.client() as client:
        return list((await client.start_sync(namespace, repository, body)).tags)


async def listed(ferry: Deployment, token: str, query: str = "") -> list[int]:
    answer = await call(ferry, "GET", f"{JOBS}?{query}", token)
    assert answer.status == 200, answer.content
    return [job["id"] for job in answer.document["jobs"]]


async def ended(ferry: Deployment, token: str, jobs: list[int]) -> list[dict[str, Any]]:
    async def look() -> list[dict[str, Any]]:
        found = [(await call(ferry, "GET", f"{JOBS}/{job}", token)).document for job in jobs]
        return [] if any(job["status"] in ("waiting", "running") for job in found) else found

    return await eventually(look)


async def outsider(ferry: Deployment) -> tuple[str, AccessKey]:
    """A user who may read `team` only, and write the target."""
    _, key = await ferry.user("carol", team=Permission.READ)
    await ferry.grant("carol", SOUTH, RELEASE, Permission.EDIT)
    return await ferry.token(user="carol", password="password of carol"), key


async def test_jobs_of_all_repositories_are_listed_newest_first_and_page_by_page(ferry: Deployment, token: str):
    jobs = [*await synced(ferry, TEAM, WEB, "v1", "v2"), *await synced(ferry, TEAM, APP, "v1")]
    await ended(ferry, token, jobs)

    first = (await call(ferry, "GET", f"{JOBS}?limit=2", token)).document
    second = (await call(ferry, "GET", f"{JOBS}?limit=2&marker={first['nextMarker']}", token)).document

    assert [job["id"] for job in (*first["jobs"], *second["jobs"])] == jobs[::-1]
    assert second["nextMarker"] is None
    job = second["jobs"][0]
    assert (job["sourceRegionId"], job["namespace"], job["repoName"], job["tag"]) == (NORTH, TEAM, WEB, "v1")
    assert (job["remoteRegionId"], job["remoteNamespace"], job["status"]) == (SOUTH, RELEASE, "success")
    assert (job["isAutomatic"], job["ruleId"]) == (False, None)


async def test_jobs_are_found_by_every_filter(ferry: Deployment, token: str):
    web, app = await synced(ferry, TEAM, WEB, "v1", "v9"), await synced(ferry, TEAM, APP, "v1")
    (other,) = await synced(ferry, RELEASE, WEB, "v1", to=TEAM)
    await ended(ferry, token, [*web, *app, other])
    failed = web[1:]

    assert await listed(ferry, token, "status=failed,timeout") == failed
    assert await listed(ferry, token, f"namespace={RELEASE}") == [other]
    assert await listed(ferry, token, "namespace=team&repository=app/core") == app
    assert await listed(ferry, token, "namespace=team&repository=app*") == app
    assert await listed(ferry, token, f"remote_region={SOUTH}&remote_namespace={TEAM}") == [other]
    assert await listed(ferry, token, f"region={SOUTH}") == []
    assert len(await listed(ferry, token, "operator=admin&since=2020-01-01")) == 4
    assert await listed(ferry, token, "until=2020-01-01T00:00:00Z") == []


@pytest.mark.parametrize("field", ["region", "remote_region", "namespace", "remote_namespace", "operator"])
async def test_a_filter_that_names_nothing_known_is_refused(ferry: Deployment, token: str, field: str):
    status, _, message = (await call(ferry, "GET", f"{JOBS}?status=failed&{field}=nowhere", token)).refused()

    assert (status, message.startswith(f"{field} must be ")) == (400, True)
    assert message.endswith('got "nowhere"')


async def test_a_name_that_exists_or_that_a_job_has_is_known(ferry: Deployment, token: str):
    (job,) = await synced(ferry, TEAM, WEB, "v1")
    await ended(ferry, token, [job])
    gone: dict[str, Any] = {"target_region": "gone", "target_namespace": "former", "operator_id": "0" * 32}
    async with ferry.app.accounts.database.write() as session:
        await session.execute(update(SyncJobRow).values(gone))

    for known in (
        *(f"region={SOUTH}", f"remote_region={NORTH}", f"namespace={RELEASE}", f"remote_namespace={TEAM}"),
        *("operator=admin", "remote_region=gone", "remote_namespace=former", f"operator={gone['operator_id']}"),
    ):
        assert await listed(ferry, token, f"{known}&status=failed") == []


async def test_an_organization_that_the_caller_may_not_read_is_unknown_to_it(ferry: Deployment, token: str):
    carol, _ = await outsider(ferry)
    await ferry.organization(NORTH, Namespace("hidden"))
    hidden = (await call(ferry, "GET", f"{JOBS}?namespace=hidden", carol)).refused()
    missing = (await call(ferry, "GET", f"{JOBS}?namespace=missing", carol)).refused()

    assert hidden[2].replace("hidden", "missing") == missing[2]
    assert await listed(ferry, carol, f"namespace={TEAM}") == []
    assert await listed(ferry, carol, "operator=nobody") == await listed(ferry, carol, "operator=admin") == []
    assert await listed(ferry, token, "namespace=hidden") == []


async def test_selected_jobs_are_returned_without_those_that_the_caller_may_not_see(ferry: Deployment, token: str):
    (mine,), (other,) = await synced(ferry, TEAM, WEB, "v1"), await synced(ferry, RELEASE, WEB, "v1", to=TEAM)
    carol, _ = await outsider(ferry)

    assert await listed(ferry, token, f"jobs={mine},999,{other},{mine}") == [other, mine]
    assert await listed(ferry, carol, f"jobs={mine},{other}") == [mine]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=done", "status"),
        ("status=failed,", "status"),
        ("region=A", "region"),
        ("namespace=-", "namespace"),
        ("repository=A*", "repository"),
        ("repository=*a", "repository"),
        ("remote_region=_", "remote_region"),
        ("operator=%00", "operator"),
        ("since=yesterday", "since"),
        ("until=0001-01-01", "until"),
        ("since=2024-01-02&until=2024-01-01", "until"),
        ("marker=0", "marker"),
        ("marker=-1", "marker"),
        ("marker=1e3", "marker"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("jobs=x", "jobs"),
        ("jobs=1,0", "jobs"),
        ("jobs=1&limit=2", "jobs"),
        (f"jobs={','.join(str(number) for number in range(1, 202))}", "jobs"),
    ],
)
async def test_an_invalid_filter_is_refused_by_its_name(ferry: Deployment, token: str, query: str, field: str):
    status, _, message = (await call(ferry, "GET", f"{JOBS}?{query}", token)).refused()

    assert (status, message.split(" ")[0]) == (400, field)


async def test_a_job_is_shown_by_its_id_only_to_those_who_may_read_its_source(ferry: Deployment, token: str):
    (mine,) = await synced(ferry, TEAM, WEB, "v1")
    (other,) = await synced(ferry, RELEASE, WEB, "v1", to=TEAM)
    carol, _ = await outsider(ferry)

    assert (await call(ferry, "GET", f"{JOBS}/{mine}", carol)).document["id"] == mine
    assert await listed(ferry, carol) == [mine]
    hidden = (await call(ferry, "GET", f"{JOBS}/{other}", carol)).refused()
    missing = (await call(ferry, "GET", f"{JOBS}/999999", carol)).refused()
    assert hidden[0] == missing[0] == 404
    assert hidden[2].replace(str(other), "N") == missing[2].replace("999999", "N") == 'sync job "N" does not exist'
    assert (await call(ferry, "GET", f"{JOBS}/x", carol)).refused()[0] == 400


async def test_a_job_shows_its_timeline_and_what_it_really_moved(ferry: Deployment, token: str):
    (job,) = await synced(ferry, TEAM, WEB, "v1")
    (shown,) = await ended(ferry, token, [job])

    size = sum(len(content) for content in SAMPLE.all_blobs.values())
    assert shown["uploaded"] == {"blobs": 2, "bytes": size}
    assert shown["mounted"] == shown["present"] == {"blobs": 0, "bytes": 0}
    assert [event["event"] for event in shown["timeline"]] == [
        *["queued", "started", "compared", "planned", "blob", "blob", "verified", "tag_written", "ended"]
    ]
    assert shown["timeline"][1].keys() == {"at", "event", "attempt", "worker"}
    assert shown["timeline"][4].keys() == {"at", "event", "attempt", "digest", "bytes", "method"}
    assert shown["timeline"][-1]["status"] == "success"


async def test_a_timeline_names_the_repository_that_blobs_were_mounted_from_only_to_those_who_may_read_it(
    ferry: Deployment, token: str
):
    await images.push(ferry.store(SOUTH), name_in(RELEASE, "secret"), SAMPLE, Tag("v1"))
    await ended(ferry, token, await synced(ferry, RELEASE, WEB, "v1", to=TEAM))
    (job,) = await synced(ferry, TEAM, WEB, "v1")
    await ended(ferry, token, [job])
    carol, _ = await outsider(ferry)

    def sources(answer: Answer) -> set[str]:
        return {event["mountedFrom"] for event in answer.document["timeline"] if "mountedFrom" in event}

    assert sources(await call(ferry, "GET", f"{JOBS}/{job}", token)) == {"team/web"}
    hidden = await call(ferry, "GET", f"{JOBS}/{job}", carol)
    assert (sources(hidden), hidden.document["mounted"]["blobs"]) == (set(), 2)


async def test_each_of_the_selected_jobs_is_cancelled_if_the_caller_may_write_its_target(ferry: Deployment, token: str):
    await ferry.organization(SOUTH, Namespace("other"))
    held = ferry.hold(SOUTH)
    (web,), (app,) = await synced(ferry, TEAM, WEB, "v1"), await synced(ferry, TEAM, APP, "v1")
    (refused,), (hidden,) = (
        await synced(ferry, TEAM, WEB, "v2", to="other"),
        await synced(ferry, RELEASE, WEB, "v1", to=TEAM),
    )
    carol, _ = await outsider(ferry)

    answer = await call(ferry, "POST", f"{JOBS}/cancel", carol, {"jobs": [web, refused, hidden, 999, app, web]})

    assert answer.status == 200
    assert [(job["id"], job["cancelled"]) for job in answer.document["jobs"]] == [
        (web, True),
        (refused, False),
        (hidden, False),
        (999, False),
        (app, True),
    ]
    assert answer.document["jobs"][1]["reason"].startswith(
        'user "carol" needs the permission to edit in the organization "oth'
    )
    assert answer.document["jobs"][2]["reason"] == f'sync job "{hidden}" does not exist'
    assert [job["status"] for job in await ended(ferry, token, [web, app])] == ["cancel", "cancel"]
    again = await call(ferry, "POST", f"{JOBS}/cancel", carol, {"jobs": [web]})
    assert again.document["jobs"] == [{"id": web, "cancelled": False, "reason": "it has ended already"}]
    held.released.set()
    assert "cancel" not in [job["status"] for job in await ended(ferry, token, [refused, hidden])]


async def test_jobs_of_several_repositories_are_retried_by_one_request(ferry: Deployment, token: str):
    failed = [*await synced(ferry, TEAM, WEB, "v9"), *await synced(ferry, TEAM, APP, "v9")]
    (done,) = await synced(ferry, TEAM, WEB, "v1")
    await ended(ferry, token, [*failed, done])
    for repository in (WEB, APP):
        await images.push(ferry.store(NORTH), name_in(TEAM, repository), SAMPLE, Tag("v9"))

    answer = await call(ferry, "POST", f"{JOBS}/retry", token, {"jobs": [*failed, done, 999]})

    assert answer.status == 202
    assert [job["retried"] for job in answer.document["jobs"]] == [True, True, False, False]
    reasons = [job["reason"] for job in answer.document["jobs"]]
    assert reasons[2:] == [
        "its status is success, and only jobs that failed can be retried",
        'sync job "999" does not exist',
    ]
    repeated = await ended(ferry, token, [job["job"] for job in answer.document["jobs"][:2]])
    assert [(job["repoName"], job["tag"], job["status"]) for job in repeated] == [
        (WEB, "v9", "success"),
        (APP, "v9", "success"),
    ]
    assert {job["requestId"] for job in repeated} == {answer.document["requestId"]}


async def test_a_conflict_is_retried_only_with_override(ferry: Deployment, token: str):
    await images.push(ferry.store(SOUTH), name_in(RELEASE, WEB), OTHER, Tag("v1"))
    jobs = await synced(ferry, TEAM, WEB, "v1")
    (conflict,) = await ended(ferry, token, jobs)
    assert conflict["status"] == "existed"

    (refused,) = (await call(ferry, "POST", f"{JOBS}/retry", token, {"jobs": jobs})).document["jobs"]
    (done,) = (await call(ferry, "POST", f"{JOBS}/retry", token, {"jobs": jobs, "override": True})).document["jobs"]

    assert (refused["retried"], refused["job"]) == (False, None)
    assert refused["reason"].endswith("retry it with override to replace that image")
    (replaced,) = await ended(ferry, token, [done["job"]])
    assert (replaced["status"], replaced["override"]) == ("success", True)


async def test_a_retry_needs_the_permissions_of_a_synchronization_for_each_job(ferry: Deployment, token: str):
    (mine,) = await synced(ferry, TEAM, WEB, "v9")
    (other,) = await synced(ferry, RELEASE, WEB, "v9", to=TEAM)
    await ended(ferry, token, [mine, other])
    await ferry.user("reader", team=Permission.READ)
    reader = await ferry.token(user="reader", password="password of reader")

    answer = await call(ferry, "POST", f"{JOBS}/retry", reader, {"jobs": [mine, other]})

    assert [job["retried"] for job in answer.document["jobs"]] == [False, False]
    first, second = (job["reason"] for job in answer.document["jobs"])
    assert first.startswith('user "reader" needs the permission to edit in the organization "release"')
    assert second == f'sync job "{other}" does not exist'
    assert await listed(ferry, reader) == [mine]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "jobs"),
        ({"jobs": []}, "jobs must not be empty"),
        ({"jobs": [0]}, "jobs[0] must be the id of a sync job"),
        ({"jobs": list(range(1, 202))}, "jobs must name at most 200 jobs"),
        ({"jobs": ["1"]}, "jobs[0]"),
    ],
)
@pytest.mark.parametrize("action", ["cancel", "retry"])
async def test_an_invalid_selection_is_refused(ferry: Deployment, token: str, action: str, body: Any, message: str):
    status, _, said = (await call(ferry, "POST", f"{JOBS}/{action}", token, body)).refused()

    assert status == 400
    assert message in said
