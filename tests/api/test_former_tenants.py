"""A tenant that takes the name of a deleted tenant gets no access to its data."""

import base64
import uuid
from dataclasses import astuple
from typing import Any

import pytest

from tagferry.accounts.model import AccessKey, Permission
from tagferry.db.tables import SyncRuleRow
from tagferry.errors import TagferryError
from tagferry.names import Namespace, Repository, Tag
from tagferry.signing import login_password
from tests.support import images
from tests.support.deployment import NORTH, SOUTH, TEAM, Answer, Deployment, eventually, name_in

SHOP, APP = Namespace("shop"), Repository("app")
NAME = name_in(SHOP)
REPOSITORY = f"/v2/manage/namespaces/{SHOP}/repos/{APP}"
LAYER = images.layer("former")
SAMPLE = images.image(LAYER)


async def tenant(ferry: Deployment, name: str) -> AccessKey:
    """A new user, who may write to the south's `team`, and creates the north's `shop`."""
    _, key = await ferry.user(name)
    await ferry.grant(name, SOUTH, TEAM, Permission.EDIT)
    async with ferry.client(key=key) as client:
        await client.create_organization(SHOP)
    return key


async def synchronize(ferry: Deployment, key: AccessKey, *tags: str) -> list[int]:
    body = {"imageTag": list(tags), "remoteNamespace": TEAM, "remoteRegionId": SOUTH}
    async with ferry.client(key=key) as client:
        return list((await client.start_sync(SHOP, APP, body)).tags)


async def history(ferry: Deployment, key: AccessKey, **terms: str) -> list[dict[str, Any]]:
    async with ferry.client(key=key) as client:
        return await client.list_jobs(SHOP, APP, limit=100, **terms)


async def administer(ferry: Deployment, method: str, path: str, *, body: Any = None, expected: int = 204) -> Answer:
    answer = await ferry.http(method, path, body=body, headers={"X-Auth-Token": await ferry.token()})
    assert answer.status == expected, answer.content
    return answer


async def give_up(ferry: Deployment) -> None:
    """Delete the organization with all that it holds."""
    await administer(ferry, "DELETE", REPOSITORY)
    await administer(ferry, "DELETE", f"/v2/manage/namespaces/{SHOP}")


async def ended(ferry: Deployment, key: AccessKey, count: int) -> None:
    async def are_ended() -> bool:
        jobs = await history(ferry, key)
        return len(jobs) == count and all(job["status"] not in ("waiting", "running") for job in jobs)

    await eventually(are_ended)


async def test_a_new_organization_shows_no_jobs_of_the_one_that_had_its_name(ferry: Deployment) -> None:
    first = await tenant(ferry, "first")
    await images.push(ferry.store(NORTH), NAME, SAMPLE, Tag("secret-release"))
    (former,) = await synchronize(ferry, first, "secret-release")
    await ended(ferry, first, 1)
    await give_up(ferry)

    second = await tenant(ferry, "second")

    assert await history(ferry, second) == []
    assert await history(ferry, second, jobs=str(former)) == []
    await images.push(ferry.store(NORTH), NAME, SAMPLE, Tag("v1"))
    await synchronize(ferry, second, "v1")
    assert [job["tag"] for job in await history(ferry, second)] == ["v1"]


async def test_a_new_repository_shows_no_jobs_of_the_one_that_had_its_name_and_keeps_its_rules(
    ferry: Deployment,
) -> None:
    key = await tenant(ferry, "first")
    await images.push(ferry.store(NORTH), NAME, SAMPLE, Tag("v1"))
    await synchronize(ferry, key, "v1")
    await ended(ferry, key, 1)
    rule = {"remoteRegionId": SOUTH, "remoteNamespace": TEAM, "syncAuto": True, "override": True}
    await administer(ferry, "POST", f"{REPOSITORY}/sync_repo", body=rule, expected=200)
    await administer(ferry, "DELETE", REPOSITORY)

    await images.push(ferry.store(NORTH), NAME, SAMPLE, Tag("v2"))

    assert await history(ferry, key) == []
    async with ferry.app.accounts.database.read() as session:
        assert len(list(await session.scalars(SyncRuleRow.__table__.select()))) == 1


async def test_jobs_of_an_organization_end_with_it_and_write_nothing_into_the_next_one(ferry: Deployment) -> None:
    held = ferry.hold(SOUTH)
    first = await tenant(ferry, "first")
    await images.push(ferry.store(NORTH), NAME, SAMPLE, Tag("v1"))
    await ferry.organization(SOUTH, SHOP)
    body = {"imageTag": ["v1"], "remoteNamespace": SHOP, "remoteRegionId": SOUTH}
    async with ferry.client() as client:
        (job,) = (await client.start_sync(SHOP, APP, body)).tags

    async def runs() -> bool:
        return [one["status"] for one in await history(ferry, first)] == ["running"]

    await eventually(runs)
    await ferry.app.accounts.organizations.delete(SOUTH, SHOP)
    await ferry.organization(SOUTH, SHOP)
    held.released.set()

    async def has_stopped() -> bool:
        return ferry.app.worker.snapshot(job) is None

    await eventually(has_stopped)
    (told,) = await history(ferry, first)
    assert (told["status"], told["reason"]) == ("cancel", "the organization shop of cn-north-208 was deleted")
    assert await held.head_manifest(NAME, Tag("v1")) is None


async def test_a_job_that_was_asked_for_before_its_organization_was_deleted_is_not_recorded_after_that(
    ferry: Deployment,
) -> None:
    first = await tenant(ferry, "first")
    await images.push(ferry.store(NORTH), NAME, SAMPLE, Tag("v1"))
    jobs = ferry.app.services.swr.sync._jobs
    create = jobs.create

    async def late(*arguments: Any, **options: Any) -> Any:
        await ferry.app.accounts.organizations.delete(NORTH, SHOP)
        await ferry.organization(NORTH, SHOP)
        return await create(*arguments, **options)

    jobs.create = late  # type: ignore[method-assign]
    with pytest.raises(
        TagferryError, match='organization "shop" in cn-north-4 does not exist; it has just been deleted'
    ):
        await synchronize(ferry, first, "v1")
    assert await history(ferry, ferry.admin.key) == []


async def test_a_new_organization_begins_without_blobs_and_upload_sessions(ferry: Deployment) -> None:
    await tenant(ferry, "first")
    store: Any = ferry.store(NORTH)
    blob = images.blob(LAYER)
    await store.write_blob(NAME, blob, images.opening(LAYER))
    session = await store.uploads.start(name_in(SHOP, "other"))
    # The state after a push that was authorized before the organization was deleted.
    await ferry.app.accounts.organizations.delete(NORTH, SHOP)

    second = await tenant(ferry, "second")

    assert await store.stat_blob(NAME, blob.digest) is None
    assert not store._layout.upload(name_in(SHOP, "other"), session).exists()
    login = f"{NORTH}@{second.access_key}:{login_password(*astuple(second))}"
    headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    mount = f"/v2/{SHOP}/mine/blobs/uploads/?mount={blob.digest}&from={NAME}"
    assert (await ferry.http("POST", mount, headers=headers)).status == 202


async def test_images_that_were_left_behind_are_no_new_tenants(ferry: Deployment) -> None:
    await tenant(ferry, "first")
    await images.push(ferry.store(NORTH), NAME, SAMPLE, Tag("v1"))
    await ferry.app.accounts.organizations.delete(NORTH, SHOP)

    answer = await ferry.http(
        "POST", "/v2/manage/namespaces", body={"namespace": SHOP}, headers={"X-Auth-Token": await ferry.token()}
    )

    status, _, message = answer.refused()
    assert status == 409
    assert message == (
        'the registry of "cn-north-4" still has images of a deleted organization "shop", such as "shop/app"; an '
        "administrator can assign them to a new one with: tagferry org create cn-north-4/shop"
    )


async def test_downloads_are_counted_anew(ferry: Deployment) -> None:
    await tenant(ferry, "first")
    downloads = ferry.app.services.swr.downloads
    downloads.count(NORTH, NAME)
    await downloads._write()
    await ferry.app.accounts.organizations.delete(NORTH, SHOP)

    assert await downloads.of(NORTH, NAME) == 0


async def test_what_a_deleted_user_had_is_nobodys_who_takes_the_name(ferry: Deployment) -> None:
    users, services = ferry.app.accounts.users, ferry.app.services
    password, key = await ferry.user("carol", team=Permission.MANAGE)
    token = await ferry.token(user="carol", password=password)
    carol = await users.find("carol")
    await users.delete(carol.user_id)
    await users.create("carol", f"other {uuid.uuid4().hex}", domain="elsewhere")

    again = await users.find("carol")

    assert again.user_id != carol.user_id
    assert await services.swr.organizations.list_for(again, NORTH) == []
    answer = await ferry.http("GET", "/v2/manage/namespaces", headers={"X-Auth-Token": token})
    assert answer.status == 401
    assert await services.iam.keys.list_of(again.user_id) == []
    assert key.access_key
