"""Sync jobs are cancelled, tried again, given a time, and found by their state."""

import asyncio
from datetime import datetime
from typing import Any

import pytest

from tagferry.accounts.model import AccessKey, Permission
from tagferry.errors import Refused
from tagferry.names import Namespace, Repository, Tag
from tests.support import images
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Deployment, eventually, name_in

APP = Repository("app")
JOBS = "/v2/manage/namespaces/team/repos/app/sync_job"
SYNC = "/v2/manage/namespaces/team/repos/app/sync_images"
SAMPLE = images.image()


@pytest.fixture
async def token(ferry: Deployment) -> str:
    for tag in ("v1", "v2", "v3"):
        await images.push(ferry.store(NORTH), name_in("team"), SAMPLE, Tag(tag))
    return await ferry.token()


async def post(ferry: Deployment, path: str, body: Any, token: str, **headers: str) -> Any:
    return await ferry.http("POST", path, body=body, headers={"X-Auth-Token": token, **headers})


async def started(ferry: Deployment, *tags: str, to: str = RELEASE, override: bool = False) -> list[int]:
    body = {"imageTag": list(tags), "remoteNamespace": to, "remoteRegionId": SOUTH, "override": override}
    async with ferry.client() as client:
        return list((await client.start_sync(TEAM, APP, body)).tags)


async def listed(ferry: Deployment, **terms: str) -> list[dict[str, Any]]:
    async with ferry.client() as client:
        return await client.list_jobs(TEAM, APP, limit=100, **terms)


async def statuses(ferry: Deployment, *job_ids: int) -> list[str]:
    async with ferry.client() as client:
        found = await client.sync_jobs(TEAM, APP, list(job_ids))
    return [found[job_id]["status"] for job_id in job_ids]


async def test_cancelled_tags_are_told_as_failed_to_who_waits_for_them(ferry: Deployment, token: str) -> None:
    held = ferry.hold(SOUTH)
    body = {"imageTag": ["v1", "v2"], "remoteNamespace": RELEASE, "remoteRegionId": SOUTH}
    waiting = asyncio.create_task(post(ferry, SYNC, body, token))
    running = await eventually(lambda: listed(ferry, status="running"))
    (job,) = [job["id"] for job in running if job["tag"] == "v1"] or [running[0]["id"]]
    tag = next(one["tag"] for one in running if one["id"] == job)

    answer = await post(ferry, f"{JOBS}/cancel", {"jobs": [job, 999_999]}, token)

    assert (answer.status, answer.document) == (200, {"cancelled": [job]})
    held.released.set()
    assert (await waiting).document == [tag]
    (cancelled,) = await listed(ferry, status="cancel")
    assert (cancelled["id"], cancelled["reason"]) == (job, "cancelled by admin")
    assert await held.head_manifest(name_in("release"), Tag(tag)) is None
    again = await post(ferry, f"{JOBS}/cancel", {"jobs": [job]}, token)
    assert (again.status, again.document) == (200, {"cancelled": []})


async def test_a_request_is_cancelled_as_a_whole_and_nothing_else_with_it(ferry: Deployment, token: str) -> None:
    ferry.hold(SOUTH)
    (other,) = await started(ferry, "v3")
    mine = await started(ferry, "v1", "v2")
    (request,) = {job["requestId"] for job in await listed(ferry) if job["id"] in mine}

    answer = await post(ferry, f"{JOBS}/cancel", {"requestId": request}, token)

    assert answer.document == {"cancelled": sorted(mine)}
    assert await statuses(ferry, *mine) == ["cancel", "cancel"]
    assert await statuses(ferry, other) in (["waiting"], ["running"])
    nothing = await post(ferry, f"{JOBS}/cancel", {"requestId": "of-nobody"}, token)
    assert nothing.document == {"cancelled": []}


async def test_jobs_of_another_repository_or_region_are_not_touched(ferry: Deployment, token: str) -> None:
    ferry.hold(SOUTH)
    (job,) = await started(ferry, "v1")

    for path, region in (
        ("/v2/manage/namespaces/team/repos/other/sync_job", NORTH),
        ("/v2/manage/namespaces/release/repos/app/sync_job", NORTH),
        (JOBS, SOUTH),
    ):
        for action, answered in (("cancel", {"cancelled": []}), ("retry", [])):
            answer = await ferry.http(
                "POST", f"{path}/{action}", region=region, body={"jobs": [job]}, headers={"X-Auth-Token": token}
            )
            assert answer.document.get("jobs", answer.document) == answered
    assert await statuses(ferry, job) in (["waiting"], ["running"])


async def test_who_may_not_start_a_synchronization_may_not_stop_or_repeat_it(ferry: Deployment, token: str) -> None:
    await ferry.organization(SOUTH, Namespace("other"))
    ferry.hold(SOUTH)
    allowed, refused = *await started(ferry, "v1"), *await started(ferry, "v2", to="other")
    _, key = await ferry.user("carol", team=Permission.READ)
    await ferry.grant("carol", SOUTH, RELEASE, Permission.EDIT)
    _, stranger = await ferry.user("mallory")

    async def call(key: AccessKey, action: str, jobs: list[int]) -> Any:
        async with ferry.client(key=key) as client:
            if action == "cancel":
                return await client.cancel_jobs(TEAM, APP, {"jobs": jobs})
            return (await client.retry_jobs(TEAM, APP, {"jobs": jobs})).tags

    with pytest.raises(Refused, match='user "mallory" needs the permission to read in the organization "team"'):
        await call(stranger, "cancel", [allowed])
    with pytest.raises(Refused, match='user "carol" needs the permission to edit in the organization "other"'):
        await call(key, "cancel", [allowed, refused])
    assert "cancel" not in await statuses(ferry, allowed, refused)
    assert await call(key, "cancel", [allowed]) == [allowed]
    async with ferry.client() as client:
        assert await client.cancel_jobs(TEAM, APP, {"jobs": [refused]}) == [refused]
    before = len(await listed(ferry))
    with pytest.raises(Refused, match='user "carol" needs the permission to edit in the organization "other"'):
        await call(key, "retry", [allowed, refused])
    assert len(await listed(ferry)) == before
    assert len(await call(key, "retry", [allowed])) == 1


async def test_what_goes_to_an_organization_that_is_deleted_is_cancelled_with_it(ferry: Deployment, token: str) -> None:
    await ferry.organization(SOUTH, Namespace("other"))
    ferry.hold(SOUTH)
    (job,) = await started(ferry, "v1", to="other")

    await ferry.app.accounts.organizations.delete(SOUTH, Namespace("other"))

    (told,) = await listed(ferry, jobs=str(job))
    assert (told["status"], told["reason"]) == ("cancel", "the organization other of cn-north-208 was deleted")


async def test_only_what_failed_is_tried_again_each_as_it_was_asked_for(ferry: Deployment, token: str) -> None:
    await ferry.organization(SOUTH, Namespace("other"))
    for tag, sample in (("v2", images.image(seed="else")), ("v3", SAMPLE)):
        await images.push(ferry.store(SOUTH), name_in("release"), sample, Tag(tag))
    good = await started(ferry, "v1", "v2", "v3")
    missing = await started(ferry, "new", override=True)
    elsewhere = await started(ferry, "new", to="other")
    every = [*good, *missing, *elsewhere]
    ended = await ferry.ended_jobs(name_in("team"), every)
    assert sorted(job["status"] for job in ended) == ["existed", "failed", "failed", "success", "success"]
    await images.push(ferry.store(NORTH), name_in("team"), SAMPLE, Tag("new"))

    answer = await post(ferry, f"{JOBS}/retry", {"jobs": every}, token)

    assert answer.status == 202
    assert [job["tag"] for job in answer.document["jobs"]] == ["new", "new"]
    again = await ferry.ended_jobs(name_in("team"), [job["id"] for job in answer.document["jobs"]])
    assert {(job["remoteNamespace"], job["override"], job["status"]) for job in again} == {
        ("release", True, "success"),
        ("other", False, "success"),
    }
    assert {job["requestId"] for job in again} == {answer.document["request_id"]}
    nothing = await post(ferry, f"{JOBS}/retry", {"jobs": good}, token)
    assert (nothing.status, nothing.document["jobs"]) == (202, [])


async def test_a_cancelled_request_is_tried_again_by_its_id(ferry: Deployment, token: str) -> None:
    held = ferry.hold(SOUTH)
    first = await started(ferry, "v1", "v2")
    request = (await listed(ferry))[0]["requestId"]
    await post(ferry, f"{JOBS}/cancel", {"requestId": request}, token)
    held.released.set()

    answer = await post(ferry, f"{JOBS}/retry", {"requestId": request}, token)

    second = [job["id"] for job in answer.document["jobs"]]
    assert set(first).isdisjoint(second)
    assert {job["status"] for job in await ferry.ended_jobs(name_in("team"), second)} == {"success"}


async def test_tags_that_take_longer_than_their_request_gave_them_end_as_timeout(ferry: Deployment, token: str) -> None:
    ferry.hold(SOUTH)
    body = {"imageTag": ["v1"], "remoteNamespace": RELEASE, "remoteRegionId": SOUTH, "timeoutSeconds": 3}

    answer = await post(ferry, SYNC, body, token)

    assert (answer.status, answer.document) == (200, ["v1"])
    (job,) = await listed(ferry)
    assert (job["status"], job["reason"]) == ("timeout", "the request's deadline passed")


@pytest.mark.parametrize(
    ("seconds", "code", "message"),
    [
        (0, "SVCSTG.SWR.4000014", "timeoutSeconds must be greater than 0: got 0"),
        (-1, "SVCSTG.SWR.4000014", "timeoutSeconds must be greater than 0: got -1"),
        (1e20, "SVCSTG.SWR.4000014", "timeoutSeconds must be less than or equal to 31622400: got 1e+20"),
        ("5", "SVCSTG.SWR.4001018", 'timeoutSeconds must be a number: got "5"'),
        (True, "SVCSTG.SWR.4001018", "timeoutSeconds must be a number: got True"),
    ],
)
async def test_a_time_that_is_none_is_refused(
    ferry: Deployment, token: str, seconds: Any, code: str, message: str
) -> None:
    body = {"imageTag": ["v1"], "remoteNamespace": RELEASE, "remoteRegionId": SOUTH, "timeoutSeconds": seconds}

    assert (await post(ferry, SYNC, body, token)).refused() == (400, code, message)


@pytest.mark.parametrize("action", ["cancel", "retry"])
async def test_it_must_be_clear_which_jobs_are_meant(ferry: Deployment, token: str, action: str) -> None:
    for body, code, message in (
        ({}, "4001014", "jobs or requestId is mandatory"),
        ({"jobs": [1], "requestId": "x"}, "4000014", "jobs and requestId cannot be combined"),
        ({"jobs": []}, "4000014", "jobs must not be empty"),
        ({"requestId": ""}, "4000014", "requestId must not be empty"),
        ({"jobs": ["1"]}, "4001018", 'jobs[0] must be a number: got "1"'),
        ({"jobs": [5, 0]}, "4000014", "jobs[1] must be the id of a sync job: got 0"),
        ({"jobs": [10**30]}, "4000014", "jobs[0] must be the id of a sync job: got 1000000000000000000000000000000"),
        ({"jobs": list(range(1, 502))}, "4000014", "jobs must name at most 500 jobs: got 501"),
    ):
        answer = await post(ferry, f"{JOBS}/{action}", body, token)
        assert answer.refused() == (400, f"SVCSTG.SWR.{code}", message)


async def test_jobs_tell_when_they_began_and_ended_and_are_found_by_state_and_request(
    ferry: Deployment, token: str
) -> None:
    held = ferry.hold(SOUTH)
    (done,) = await started(ferry, "v1")
    (under_way,) = await eventually(lambda: listed(ferry, status="running"))
    assert (under_way["endedAt"], under_way["attempts"], under_way["starts"]) == (None, 1, 1)
    held.released.set()
    (missing,) = await started(ferry, "none")
    await ferry.ended_jobs(name_in("team"), [done, missing])

    (job,) = await listed(ferry, status="success,existed")
    moments = [datetime.fromisoformat(job[name]) for name in ("createdAt", "startedAt", "endedAt")]
    assert job["id"] == done
    assert moments == sorted(moments)
    assert [one["id"] for one in await listed(ferry, status="failed")] == [missing]
    assert [one["id"] for one in await listed(ferry, request=job["requestId"])] == [done]
    assert await listed(ferry, request=job["requestId"], status="failed") == []


async def test_a_state_that_does_not_exist_is_refused(ferry: Deployment, token: str) -> None:
    with pytest.raises(
        Refused, match="filter must have statuses separated by ',' in status, out of waiting, running, success"
    ):
        await listed(ferry, status="done")
