"""Images are synchronized by plain HTTP with an IAM token, as curl would."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tagferry.names import Tag
from tests.support import images
from tests.support.deployment import NORTH, SOUTH, Answer, Deployment, deployed, eventually, name_in

V1 = Tag("V1")
REPOSITORY = "/v2/manage/namespaces/team/repos/app"
WANTED = {"imageTag": ["V1"], "remoteNamespace": "release", "remoteRegionId": SOUTH}


async def sync(
    ferry: Deployment, body: Any = WANTED, *, path: str = REPOSITORY, token: str | None = None, **headers: str
) -> Answer:
    sent = {"X-Auth-Token": token or await ferry.token(), **{name.replace("_", "-"): headers[name] for name in headers}}
    return await ferry.http("POST", f"{path}/sync_images", body=body, headers=sent)


async def jobs(ferry: Deployment, path: str = REPOSITORY) -> list[dict[str, Any]]:
    answer = await ferry.http("GET", f"{path}/sync_job", headers={"X-Auth-Token": await ferry.token()})
    assert answer.status == 200, answer.content
    listed: list[dict[str, Any]] = answer.document
    return listed


async def ended(ferry: Deployment, *tags: str) -> bool:
    """Return whether all jobs of these tags have ended."""
    return not any(job["tag"] in tags and job["status"] in ("waiting", "running") for job in await jobs(ferry))


@pytest.mark.parametrize(
    "content_type",
    [
        {},
        {"Content_Type": "application/json"},
        {"Content_Type": "application/json;charset=utf-8"},
        {"Content_Type": "application/json; charset=utf-8"},
        {"Content_Type": "Application/JSON;Charset=UTF-8"},
        {"Content_Type": 'application/json;charset="utf-8"'},
    ],
)
async def test_each_documented_content_type_is_taken_and_none_means_json(
    ferry: Deployment, content_type: dict[str, str]
) -> None:
    sample = images.image()
    await images.push(ferry.store(NORTH), name_in("team"), sample, V1)

    answer = await sync(ferry, **content_type)

    assert (answer.status, answer.content) == (200, b"[]")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Request-Id"]
    arrived = await ferry.store(SOUTH).get_manifest(name_in("release"), V1)
    assert arrived.raw == sample.manifest.raw


async def test_every_request_has_an_id_of_its_own(ferry: Deployment) -> None:
    await images.push(ferry.store(NORTH), name_in("team"), images.image(), V1)
    token = await ferry.token()
    answers = [await sync(ferry, token=token) for _ in range(3)]
    assert len({answer.headers["X-Request-Id"] for answer in answers}) == 3
    assert {job["requestId"] for job in await jobs(ferry)} <= {answer.headers["X-Request-Id"] for answer in answers}


async def test_a_tag_that_is_named_twice_is_synchronized_once(ferry: Deployment) -> None:
    await images.push(ferry.store(NORTH), name_in("team"), images.image(), V1)

    answer = await sync(ferry, {**WANTED, "imageTag": ["V1", "V1"]})

    assert (answer.status, answer.document) == (200, [])
    assert [job["tag"] for job in await jobs(ferry)] == ["V1"]


async def test_a_missing_tag_that_is_named_twice_is_listed_once(ferry: Deployment) -> None:
    await images.push(ferry.store(NORTH), name_in("team"), images.image(), V1)
    answer = await sync(ferry, {**WANTED, "imageTag": ["gone", "V1", "gone"]})
    assert (answer.status, answer.document) == (200, ["gone"])


@pytest.mark.parametrize("more", [{"unknown": 1, "imagetag": "no"}, {"override": None}, {"override": False}])
async def test_unknown_fields_are_ignored_and_override_may_be_null(ferry: Deployment, more: dict[str, Any]) -> None:
    await images.push(ferry.store(NORTH), name_in("team"), images.image(), V1)

    answer = await sync(ferry, {**WANTED, **more})

    assert (answer.status, answer.document) == (200, [])
    assert [(job["status"], job["override"]) for job in await jobs(ferry)] == [("success", False)]


@pytest.mark.parametrize("sent", ["shop$web", "shop%24web", "shop%2Fweb", "shop%2fweb", "shop/web"])
async def test_a_slash_in_the_repository_may_be_sent_in_every_way_that_clients_have(
    ferry: Deployment, sent: str
) -> None:
    await images.push(ferry.store(NORTH), name_in("team", "shop/web"), images.image(), V1)

    answer = await sync(ferry, path=f"/v2/manage/namespaces/team/repos/{sent}")

    assert (answer.status, answer.document) == (200, [])
    assert await ferry.store(SOUTH).head_manifest(name_in("release", "shop/web"), V1)


async def test_a_repository_may_be_called_as_a_part_of_the_api_is(ferry: Deployment) -> None:
    await images.push(ferry.store(NORTH), name_in("team", "sync_images"), images.image(), V1)
    answer = await sync(ferry, path="/v2/manage/namespaces/team/repos/sync_images")
    assert (answer.status, answer.document) == (200, [])


async def test_an_image_may_go_to_another_organization_of_the_same_region(ferry: Deployment) -> None:
    await images.push(ferry.store(NORTH), name_in("team"), images.image(), V1)
    answer = await sync(ferry, {**WANTED, "remoteRegionId": NORTH})
    assert (answer.status, answer.document) == (200, [])
    assert await ferry.store(NORTH).head_manifest(name_in("release"), V1)


async def test_a_caller_that_prefers_not_to_wait_gets_the_jobs_at_once(ferry: Deployment) -> None:
    await images.push(ferry.store(NORTH), name_in("team"), images.image(), V1)
    target = ferry.hold(SOUTH)

    answer = await sync(ferry, Prefer="respond-async")

    assert answer.status == 202
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert answer.document["request_id"] == answer.headers["X-Request-Id"]
    (started,) = answer.document["jobs"]
    (job,) = await jobs(ferry)
    assert started == {"id": job["id"], "tag": "V1"}
    assert job["status"] in ("waiting", "running")
    target.released.set()
    assert (await sync(ferry)).document == []


async def test_a_job_tells_how_its_copy_goes_while_that_runs_and_only_then(ferry: Deployment) -> None:
    sample = images.image()
    await images.push(ferry.store(NORTH), name_in("team"), sample, V1)
    target = ferry.hold(SOUTH)
    await sync(ferry, Prefer="respond-async")

    async def with_a_rate() -> dict[str, Any] | None:
        (job,) = await jobs(ferry)
        return job if job["bytesPerSecond"] is not None and job["blobsDone"] == job["blobsTotal"] else None

    running = await eventually(with_a_rate)
    target.released.set()
    await eventually(lambda: ended(ferry, "V1"))
    (after,) = await jobs(ferry)

    assert running is not None
    assert (running["blobsTotal"], running["secondsLeft"]) == (len(sample.all_blobs), 0)
    assert isinstance(running["bytesPerSecond"], int)
    names = ("blobsTotal", "blobsDone", "bytesPerSecond", "secondsLeft")
    assert [after[name] for name in names] == [None] * len(names)


async def test_a_wait_that_runs_out_is_told_and_the_same_call_joins_what_goes_on(ferry: Deployment) -> None:
    await images.push(ferry.store(NORTH), name_in("team"), images.image(), V1)
    target, token = ferry.hold(SOUTH), await ferry.token()

    expired = await sync(ferry, token=token, Prefer="wait=0")

    status, code, message = expired.refused()
    assert (status, code) == (504, "SVCSTG.SWR.5040021")
    assert "repeat the request to rejoin it" in message
    assert expired.headers["X-Request-Id"] in message
    joined = asyncio.create_task(sync(ferry, token=token))

    async def waits() -> bool:
        return bool(ferry.app.services.swr.sync._waiter._waiting)

    await eventually(waits)
    assert not joined.done()
    target.released.set()
    answer = await joined
    assert (answer.status, answer.document) == (200, [])
    assert [(job["status"], job["requestId"]) for job in await jobs(ferry)] == [
        ("success", expired.headers["X-Request-Id"])
    ]


@pytest.mark.parametrize(
    ("preferred", "applied"),
    [
        ("wait=20", "wait=20"),
        ('Wait = "7"', "wait=7"),
        ("handling=strict, wait=5", "wait=5"),
        ("wait=99999", "wait=60"),
        ("wait=1000000000000", "wait=60"),
    ],
)
async def test_a_preferred_wait_is_confirmed_up_to_the_configured_maximum(
    tmp_path: Path, preferred: str, applied: str
) -> None:
    async with deployed(tmp_path / "data", sync={"max_wait_seconds": 60}) as ferry:
        await images.push(ferry.store(NORTH), name_in("team"), images.image(), V1)
        answer = await sync(ferry, Prefer=preferred)
        assert (answer.status, answer.headers["Preference-Applied"]) == (200, applied)


@pytest.mark.parametrize("preferred", ["", "wait", "wait=", "wait=soon", "wait=-1", "wait=1e3", "x" * 4000, ",;=,"])
async def test_a_preference_that_cannot_be_read_is_ignored(ferry: Deployment, preferred: str) -> None:
    await images.push(ferry.store(NORTH), name_in("team"), images.image(), V1)
    answer = await sync(ferry, Prefer=preferred)
    assert (answer.status, answer.document) == (200, [])
    assert "Preference-Applied" not in answer.headers


async def test_a_client_that_hangs_up_does_not_stop_the_synchronization(ferry: Deployment) -> None:
    await images.push(ferry.store(NORTH), name_in("team"), images.image(), V1)
    target, token = ferry.hold(SOUTH), await ferry.token()
    impatient = asyncio.create_task(sync(ferry, token=token))
    await eventually(lambda: jobs(ferry))
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)

    target.released.set()

    await eventually(lambda: ended(ferry, "V1"))
    assert [job["status"] for job in await jobs(ferry)] == ["success"]
    assert await target.head_manifest(name_in("release"), V1)


async def test_a_user_with_too_many_synchronizations_in_flight_is_asked_to_wait(tmp_path: Path) -> None:
    async with deployed(tmp_path / "data", sync={"max_concurrent_requests_per_user": 2}) as ferry:
        for tag in ("V1", "V2", "V3"):
            await images.push(ferry.store(NORTH), name_in("team"), images.image(seed=tag), Tag(tag))
        target, token = ferry.hold(SOUTH), await ferry.token()
        for tag in ("V1", "V2"):
            await sync(ferry, {**WANTED, "imageTag": [tag]}, token=token, Prefer="respond-async")

        refused = await sync(ferry, {**WANTED, "imageTag": ["V3"]}, token=token)

        status, code, message = refused.refused()
        assert (status, code) == (429, "APIGW.0308")
        assert "2 syncs in progress" in message
        assert int(refused.headers["Retry-After"]) >= 1
        assert {job["tag"] for job in await jobs(ferry)} == {"V1", "V2"}
        target.released.set()
        await eventually(lambda: ended(ferry, "V1", "V2"))
        assert (await sync(ferry, {**WANTED, "imageTag": ["V3"]}, token=token)).document == []


async def test_a_configured_repository_stands_for_the_samples_placeholders(tmp_path: Path) -> None:
    regions: dict[str, dict[str, Any]] = {
        NORTH: {"listen": "", "placeholder_repository": "team/shop/web"},
        SOUTH: {"listen": ""},
    }
    async with deployed(tmp_path / "data", regions=regions) as ferry:
        await images.push(ferry.store(NORTH), name_in("team", "shop/web"), images.image(), V1)
        for sent in (
            "%7Bnamespace%7D/repos/%7Brepository%7D",
            "%7bnamespace%7d/repos/%7brepository%7d",
            "{namespace}/repos/{repository}",
            "/repos/",
            "{namespace}/repos/",
            "/repos/{repository}",
            "/repos/shop$web",
        ):
            answer = await sync(ferry, path=f"/v2/manage/namespaces/{sent}")
            assert (answer.status, answer.document) == (200, []), sent
        assert await ferry.store(SOUTH).head_manifest(name_in("release", "shop/web"), V1)

        headers = {"X-Auth-Token": await ferry.token()}
        for method, path, status in (
            ("GET", "/v2/manage/namespaces//repos//sync_job?filter=limit::10|offset::0|order::desc", 200),
            ("GET", "/v2/manage/namespaces//repos//tags", 200),
            ("GET", "/v3/manage/namespaces//repos//tags", 200),
            ("GET", "/v2/manage/namespaces//repos//tags/V1", 200),
            ("GET", "/v2/manage/namespaces//repos/", 200),
            ("GET", "/v2/manage/namespaces//repositories//access-domains", 200),
            ("GET", "/v2/manage/namespaces//access", 200),
            ("GET", "/v2/manage/namespaces/", 200),
            ("GET", "/v2/manage/namespaces/release/repos//tags", 400),
            ("GET", "/v2/manage/namespaces///repos//tags", 404),
            ("DELETE", "/v2/manage/namespaces//repos/", 404),
            ("DELETE", "/v2/manage/namespaces//repos//tags/v1", 404),
            ("DELETE", "/v2/manage/namespaces/{namespace}/repos/{repository}", 400),
            ("DELETE", "/v2/manage/namespaces/", 404),
        ):
            assert (await ferry.http(method, path, headers=headers)).status == status, path


async def test_names_that_are_empty_are_refused_where_no_repository_stands_for_them(ferry: Deployment) -> None:
    answer = (await sync(ferry, path="/v2/manage/namespaces//repos/")).refused()
    assert answer[:2] == (404, "APIGW.0101")
    assert answer[2].endswith("; a name in the path is empty: set the organization and the repository in the request")


async def test_a_region_whose_registry_is_elsewhere_says_where(tmp_path: Path) -> None:
    elsewhere = "http://127.0.0.1:1"
    regions: dict[str, dict[str, Any]] = {NORTH: {"listen": "", "registry": elsewhere}, SOUTH: {"listen": ""}}
    async with deployed(tmp_path / "data", regions=regions) as ferry:
        answer = await ferry.http("GET", "/v2/")
        assert answer.status == 404
        assert elsewhere in answer.document["errors"][0]["message"]


async def test_a_source_that_cannot_be_reached_is_told_as_such(tmp_path: Path) -> None:
    regions: dict[str, dict[str, Any]] = {
        NORTH: {"listen": "", "registry": "http://127.0.0.1:1"},
        SOUTH: {"listen": ""},
    }
    async with deployed(tmp_path / "data", regions=regions, sync={"retry_minutes": 0}) as ferry:
        answer = await sync(ferry)
        assert (answer.status, answer.document) == (200, ["V1"])
        (job,) = await jobs(ferry)
        assert job["status"] == "failed"
        assert "127.0.0.1:1" in job["reason"]
        assert (job["failures"], job["nextAttemptAt"], job["lastError"]) == (1, None, job["reason"])


async def test_headers_are_spelled_as_documented_for_clients_that_look_at_their_case(ferry: Deployment) -> None:
    answer = await ferry.http("GET", f"{REPOSITORY}/sync_job", headers={"X-Auth-Token": await ferry.token()})
    assert "Content-Range" in list(answer.headers)
    secret = await ferry.http("POST", "/v2/manage/utils/secret", headers={"X-Auth-Token": await ferry.token()})
    assert {"X-Swr-Dockerlogin", "X-Swr-Expireat"} <= set(map(str, secret.headers))
