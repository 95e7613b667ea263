"""Quotas of users and organizations are enforced by all APIs, and shown by SWR's operation."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from huaweicloudsdkswr.v2 import ListQuotasRequest

from tagferry.accounts.model import Permission
from tagferry.names import RepositoryName, Tag
from tagferry.registry.storage.store import DiskStore
from tests.support import images
from tests.support.deployment import NORTH, SOUTH, TEAM, Deployment, deployed, name_in
from tests.support.sdk_calls import ask

KIB = 1024


@pytest.fixture
async def ferry(tmp_path: Path) -> AsyncIterator[Deployment]:
    quotas = {"organizations": 2, "repositories": 3, "bytes": 100 * KIB, "uploads": 4}
    async with deployed(tmp_path / "data", quotas=quotas) as deployment:
        await deployment.user("carol", team=Permission.MANAGE)
        yield deployment


class Pusher:
    """Pushes as docker does."""

    def __init__(self, ferry: Deployment, http: aiohttp.ClientSession) -> None:
        self._base, self._http = f"{ferry.urls[NORTH]}/v2", http

    async def blob(self, content: bytes, repository: str = "team/app", *, at_once: bool = True) -> tuple[int, str]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        async with self._http.post(f"{self._base}/{repository}/blobs/uploads/") as begun:
            if begun.status != 202:
                return begun.status, (await begun.json())["errors"][0]["message"]
            location = begun.headers["Location"]
        url = f"{self._base.removesuffix('/v2')}{location}"
        if at_once:
            return await self._ended(self._http.put(f"{url}?digest={digest}", data=content))

        async def trickle() -> AsyncIterator[bytes]:
            for start in range(0, len(content), 8 * KIB):
                yield content[start : start + 8 * KIB]
                await asyncio.sleep(0)

        status = await self._ended(self._http.patch(url, data=trickle()))
        return status if status[0] != 202 else await self._ended(self._http.put(f"{url}?digest={digest}"))

    async def _ended(self, request: Any) -> tuple[int, str]:
        try:
            async with request as answer:
                text = (await answer.json())["errors"][0]["message"] if answer.status >= 400 else ""
                return answer.status, text
        except aiohttp.ClientConnectionError:
            return 403, "cut off"


@pytest.fixture
async def pusher(ferry: Deployment) -> AsyncIterator[Pusher]:
    headers = {"Authorization": aiohttp.encode_basic_auth("carol", "password of carol")}
    async with aiohttp.ClientSession(headers=headers) as http:
        yield Pusher(ferry, http)


def noise(size: int, seed: str = "") -> bytes:
    return hashlib.shake_128(seed.encode()).digest(size)


async def shown(ferry: Deployment, organization: str = "team") -> dict[str, tuple[int, int]]:
    path = f"/v2/manage/projects/{'a' * 32}/quotas?namespace={organization}"
    answer = await ferry.http("GET", path, headers={"X-Auth-Token": await ferry.token()})
    assert answer.status == 200, answer.content
    return {item["quota_key"]: (item["used"], item["quota_limit"]) for item in answer.document["quotas"]}


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_push_beyond_the_bytes_is_refused_and_leaves_nothing(ferry: Deployment, pusher: Pusher, at_once: bool):
    assert (await pusher.blob(noise(60 * KIB)))[0] == 201
    assert (await pusher.blob(noise(40 * KIB, "to the bound"), at_once=at_once))[0] == 201

    status, message = await pusher.blob(noise(1, "past it"), at_once=at_once)

    assert status == 403
    assert message == (
        'quota exceeded: organization "team" uses 100 KiB of 100 KiB, which leaves too little for this request; '
        "delete images, or ask an administrator for a higher quota"
    )
    used = await shown(ferry)
    assert used["storage"] == (100 * KIB, 100 * KIB)
    assert used["upload"] == (0, 4)


async def test_what_comes_in_chunks_is_stopped_at_the_bound_and_not_kept(ferry: Deployment, pusher: Pusher):
    status, _ = await pusher.blob(noise(500 * KIB), at_once=False)

    assert status == 403
    assert (await shown(ferry))["storage"][0] == 0
    assert (await shown(ferry))["upload"][0] == 0


async def test_pushes_at_the_same_time_do_not_pass_the_bound_together(ferry: Deployment, pusher: Pusher):
    pushed = await asyncio.gather(*(pusher.blob(noise(30 * KIB, str(one)), at_once=False) for one in range(4)))

    assert sum(status == 201 for status, _ in pushed) <= 3
    assert (await shown(ferry))["storage"][0] <= 100 * KIB


async def test_room_that_is_made_can_be_used_at_once(ferry: Deployment, pusher: Pusher):
    store = ferry.store(NORTH)
    assert (await pusher.blob(noise(90 * KIB)))[0] == 201
    assert (await pusher.blob(noise(90 * KIB, "more")))[0] == 403

    await store.delete_repository(name_in("team"))

    assert (await pusher.blob(noise(90 * KIB, "more")))[0] == 201


async def test_the_same_content_again_takes_no_more_room(pusher: Pusher):
    for _ in range(3):
        assert (await pusher.blob(noise(45 * KIB)))[0] == 201
    assert (await pusher.blob(noise(45 * KIB, "other")))[0] == 201


async def test_a_synchronization_into_a_full_organization_fails_with_the_reason(ferry: Deployment):
    await images.push(ferry.store(NORTH), name_in("team"), images.image(noise(60 * KIB)), Tag("v1"))
    await images.push(ferry.store(SOUTH), name_in("team", "other"), images.image(noise(60 * KIB, "there")), Tag("v1"))
    jobs = await ferry.start_sync(name_in("team"), [Tag("v1")], TEAM)

    (job,) = await ferry.ended_jobs(name_in("team"), jobs)

    assert job["status"] == "failed"
    assert job["reason"].startswith('quota exceeded: organization "team" uses 60')
    assert await ferry.store(SOUTH).head_manifest(name_in("team"), Tag("v1")) is None


async def test_a_blob_that_is_mounted_counts(ferry: Deployment, pusher: Pusher):
    content = noise(60 * KIB)
    assert (await pusher.blob(content))[0] == 201
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"

    async with pusher._http.post(f"{pusher._base}/team/b/blobs/uploads/?mount={digest}&from=team/app") as mounted:
        assert mounted.status == 403


async def test_manifests_count(ferry: Deployment):
    store = ferry.store(NORTH)
    await images.push(store, name_in("team"), images.image(), Tag("v1"))
    held = (await shown(ferry))["storage"][0]

    await store.delete_manifest(name_in("team"), images.image().digest)

    assert (await shown(ferry))["storage"][0] < held


async def test_an_organization_has_so_many_upload_sessions(ferry: Deployment, pusher: Pusher):
    begun = []
    for _ in range(5):
        async with pusher._http.post(f"{pusher._base}/team/app/blobs/uploads/") as answer:
            begun.append((answer.status, answer.headers.get("Location")))
    assert [status for status, _ in begun] == [202] * 4 + [403]

    async with pusher._http.delete(f"{pusher._base.removesuffix('/v2')}{begun[0][1]}") as ended:
        assert ended.status == 204
    async with pusher._http.post(f"{pusher._base}/team/app/blobs/uploads/") as answer:
        assert answer.status == 202


async def test_sessions_and_bytes_are_counted_again_after_a_restart(tmp_path: Path):
    root = tmp_path / "registry"
    store = DiskStore(root)
    name = RepositoryName("team/app")
    await store.write_blob(name, images.blob(b"x" * 1000), images.opening(b"x" * 1000))
    session = await store.uploads.start(name)

    async def some() -> AsyncIterator[bytes]:
        yield b"y" * 500

    await store.uploads.append(name, session, some())
    await store.close()

    again = DiskStore(root)
    usage = await again.quotas.usage("team")
    await again.close()

    assert (usage.bytes, list(usage.uploads.values()), usage.repositories) == (1500, [500], {"team/app"})


async def test_an_organization_has_so_many_repositories_by_whichever_door(ferry: Deployment, pusher: Pusher):
    token = await ferry.token(user="carol", password="password of carol")

    async def create(name: str) -> int:
        body = {"repository": name, "is_public": False}
        path = "/v2/manage/namespaces/team/repos"
        return (await ferry.http("POST", path, body=body, headers={"X-Auth-Token": token})).status

    assert await create("a") == 201
    assert (await pusher.blob(b"1", "team/b"))[0] == 201
    assert await create("c") == 201
    assert await create("d") == 403
    status, message = await pusher.blob(b"1", "team/e")
    assert status == 403
    assert message.startswith('quota exceeded: organization "team" has 3 of 3 repositories')
    assert (await pusher.blob(b"2", "team/b"))[0] == 201
    assert (await shown(ferry))["repository"] == (3, 3)


async def test_a_user_creates_so_many_organizations_and_an_administrator_any_number(ferry: Deployment):
    token, admins = await ferry.token(user="carol", password="password of carol"), await ferry.token()

    async def create(name: str, token: str) -> Any:
        return await ferry.http(
            "POST", "/v2/manage/namespaces", body={"namespace": name}, headers={"X-Auth-Token": token}
        )

    answers = await asyncio.gather(*(create(f"carols{one}", token) for one in range(5)))

    assert sorted(answer.status for answer in answers) == [201, 201, 403, 403, 403]
    refused = next(answer for answer in answers if answer.status == 403)
    status, code, message = refused.refused()
    assert (status, code) == (403, "SVCSTG.SWR.4030001")
    assert message.startswith(
        'quota exceeded: user "carol" has created 2 of 2 organizations in cn-north-4; delete one, or ask'
    )
    for one in range(3):
        assert (await create(f"admins{one}", admins)).status == 201


async def test_an_administrator_gives_an_organization_other_quotas(ferry: Deployment, pusher: Pusher):
    await ferry.app.accounts.quotas.set(NORTH, TEAM, {"bytes": 200 * KIB, "repositories": -1})
    assert (await pusher.blob(noise(190 * KIB)))[0] == 201
    used = await shown(ferry)
    assert (used["storage"], used["repository"]) == ((190 * KIB, 200 * KIB), (1, -1))

    await ferry.app.accounts.quotas.set(NORTH, TEAM, {"bytes": None})

    assert (await pusher.blob(noise(1, "more")))[0] == 403


async def test_the_sdk_reads_the_quotas_of_the_callers_fullest_organization(ferry: Deployment):
    await images.push(ferry.store(NORTH), name_in("release"), images.image(noise(10 * KIB)), Tag("v1"))

    quotas = (await ask(ferry, "list_quotas", ListQuotasRequest())).quotas

    found = {quota.quota_key: quota for quota in quotas}
    assert list(found) == ["namespace", "repository", "storage", "upload"]
    assert (found["namespace"].used, found["namespace"].quota_limit) == (2, -1)
    assert found["storage"].used > 10 * KIB
    assert (found["storage"].unit, found["storage"].quota_limit) == ("B", 100 * KIB)


async def test_the_quotas_of_an_organization_are_for_those_to_see_who_may_read_it(ferry: Deployment):
    token = await ferry.token(user="carol", password="password of carol")
    path = f"/v2/manage/projects/{'a' * 32}/quotas?namespace=release"

    assert (await ferry.http("GET", path, headers={"X-Auth-Token": token})).status == 403
