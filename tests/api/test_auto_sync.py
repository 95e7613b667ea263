"""Rules for automatic synchronization, as the unmodified SWR SDK for Python makes, lists and deletes them."""

from base64 import b64encode
from typing import Any

import pytest
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkswr.v2 import (
    CreateImageSyncRepoRequest,
    CreateImageSyncRepoRequestBody,
    CreateRepoRequest,
    CreateRepoRequestBody,
    CreateRepoTagRequest,
    CreateRepoTagRequestBody,
    DeleteImageSyncRepoRequest,
    DeleteImageSyncRepoRequestBody,
    DeleteRepoRequest,
    DeleteRepoTagRequest,
    ListImageAutoSyncReposDetailsRequest,
)

from tagferry.accounts.model import Permission
from tagferry.names import Tag
from tests.support import images
from tests.support.deployment import NORTH, RELEASE, SOUTH, Deployment, calling, eventually, name_in

V1 = Tag("v1")
PATH = "/v2/manage/namespaces/team/repos/app/sync_repo"
TARGET = {"remoteRegionId": SOUTH, "remoteNamespace": "release"}


@pytest.fixture
async def app(ferry: Deployment) -> Deployment:
    """The repository `team/app` exists."""
    await images.push(ferry.store(NORTH), name_in("team"), images.image(seed="first"), V1)
    return ferry


async def create(ferry: Deployment, *, repository: str = "app", key: Any = None, **fields: Any) -> Any:
    values = {"remote_region_id": SOUTH, "remote_namespace": "release"} | fields
    body = CreateImageSyncRepoRequestBody(**values)
    request = CreateImageSyncRepoRequest(namespace="team", repository=repository, body=body)
    return await calling(ferry.sdk(key=key).create_image_sync_repo, request)


async def rules(ferry: Deployment, *, repository: str = "app", key: Any = None) -> list[Any]:
    request = ListImageAutoSyncReposDetailsRequest(namespace="team", repository=repository)
    # The SDK reports an empty array as None.
    return (await calling(ferry.sdk(key=key).list_image_auto_sync_repos_details, request)).body or []


async def delete(ferry: Deployment, *, region: str = SOUTH, namespace: str = "release", key: Any = None) -> Any:
    body = DeleteImageSyncRepoRequestBody(remote_region_id=region, remote_namespace=namespace)
    request = DeleteImageSyncRepoRequest(namespace="team", repository="app", body=body)
    return await calling(ferry.sdk(key=key).delete_image_sync_repo, request)


async def refusal(call: Any) -> tuple[int, str, str]:
    with pytest.raises(ClientRequestException) as caught:
        await call
    return caught.value.status_code, caught.value.error_code, caught.value.error_msg


async def test_a_rule_is_made_listed_and_deleted(app: Deployment):
    assert (await create(app, sync_auto=True, override=True)).status_code == 200

    (rule,) = await rules(app)
    assert (rule.namespace, rule.repo_name) == ("team", "app")
    assert (rule.remote_region_id, rule.remote_namespace) == (SOUTH, "release")
    assert (rule.sync_auto, rule.override) == (True, True)
    assert rule.domain_name == "tagferry"
    assert rule.created_at.endswith("Z")
    assert rule.id > 0

    assert (await delete(app)).status_code == 200
    assert await rules(app) == []


async def test_a_rule_is_off_and_overrides_nothing_unless_it_says_so(app: Deployment):
    await create(app)
    assert [(rule.sync_auto, rule.override) for rule in await rules(app)] == [(False, False)]


async def test_the_same_rule_again_changes_it(app: Deployment):
    await create(app, sync_auto=True)
    (before,) = await rules(app)
    await create(app, sync_auto=True, override=True)
    (after,) = await rules(app)

    assert (after.id, after.created_at, after.override) == (before.id, before.created_at, True)


async def test_a_repository_may_have_rules_to_several_places_and_another_has_none_of_them(app: Deployment):
    await create(app)
    await create(app, remote_region_id=NORTH)
    await images.push(app.store(NORTH), name_in("team", "shop/web"), images.image(), V1)
    await create(app, repository="shop/web")

    assert [(rule.remote_region_id, rule.remote_namespace) for rule in await rules(app)] == [
        (SOUTH, "release"),
        (NORTH, "release"),
    ]
    assert [rule.repo_name for rule in await rules(app, repository="shop/web")] == ["shop/web"]


async def test_what_is_pushed_over_http_crosses_and_its_job_tells_of_the_rule(app: Deployment):
    await create(app, sync_auto=True, override=True)
    (rule,) = await rules(app)
    sample = images.image(seed="second")
    await images.push(app.store(NORTH), name_in("team"), sample)
    login = {"Authorization": basic(app), "Content-Type": sample.manifest.media_type}

    pushed = await app.http("PUT", "/v2/team/app/manifests/v2", body=sample.manifest.raw, headers=login)

    assert pushed.status == 201
    assert await eventually(lambda: app.store(SOUTH).head_manifest(name_in("release"), Tag("v2")))
    async with app.client() as client:
        jobs = await client.sync_jobs(name_in("team").namespace, name_in("team").repository, [1])
    assert jobs[1]["requestId"].startswith(f"rule-{rule.id}-")
    assert await app.store(SOUTH).head_manifest(name_in("release"), V1) is None


async def test_an_image_that_was_deleted_over_http_crosses_again_when_it_is_pushed_again(app: Deployment):
    await create(app, sync_auto=True)
    sample = images.image(seed="first")
    login = {"Authorization": basic(app), "Content-Type": sample.manifest.media_type}
    deleted = await app.http("DELETE", "/v2/team/app/manifests/v1", headers=login)
    assert deleted.status == 202

    await app.http("PUT", "/v2/team/app/manifests/v1", body=sample.manifest.raw, headers=login)

    assert await eventually(lambda: app.store(SOUTH).head_manifest(name_in("release"), V1))


@pytest.mark.parametrize("what", ["tag", "repository"])
async def test_an_image_that_the_api_deleted_crosses_again_when_it_is_pushed_again(app: Deployment, what: str):
    await create(app, sync_auto=True)
    sample = images.image(seed="first")
    login = {"Authorization": basic(app), "Content-Type": sample.manifest.media_type}
    if what == "tag":
        gone = DeleteRepoTagRequest(namespace="team", repository="app", tag="v1")
        await calling(app.sdk().delete_repo_tag, gone)
    else:
        await calling(app.sdk().delete_repo, DeleteRepoRequest(namespace="team", repository="app"))
        await images.push(app.store(NORTH), name_in("team"), sample)

    await app.http("PUT", "/v2/team/app/manifests/v1", body=sample.manifest.raw, headers=login)

    assert await eventually(lambda: app.store(SOUTH).head_manifest(name_in("release"), V1))


async def test_a_tag_that_the_api_created_crosses(app: Deployment):
    await create(app, sync_auto=True)
    body = CreateRepoTagRequestBody(source_tag="v1", destination_tag="stable")
    request = CreateRepoTagRequest(namespace="team", repository="app", body=body)

    await calling(app.sdk().create_repo_tag, request)

    assert await eventually(lambda: app.store(SOUTH).head_manifest(name_in("release"), Tag("stable")))


@pytest.mark.parametrize("sync_auto", [True, False])
async def test_a_rule_can_be_made_for_a_repository_that_has_no_image_yet(ferry: Deployment, sync_auto: bool):
    body = CreateRepoRequestBody(repository="app", is_public=False)
    await calling(ferry.sdk().create_repo, CreateRepoRequest(namespace="team", body=body))
    await create(ferry, sync_auto=sync_auto)
    await create(ferry, sync_auto=True)

    sample = images.image(seed="first")
    await images.push(ferry.store(NORTH), name_in("team"), sample)
    login = {"Authorization": basic(ferry), "Content-Type": sample.manifest.media_type}
    await ferry.http("PUT", "/v2/team/app/manifests/v1", body=sample.manifest.raw, headers=login)

    assert await eventually(lambda: ferry.store(SOUTH).head_manifest(name_in("release"), V1))


async def test_a_rule_that_is_not_there_cannot_be_deleted(app: Deployment):
    await create(app)
    status, code, message = await refusal(delete(app, region=NORTH))
    assert (status, code) == (400, "SVCSTG.SWR.4001158")
    assert 'rule from "cn-north-4/team/app" to "cn-north-4/release" does not exist' in message


async def test_what_sync_images_refuses_no_rule_may_ask_for(app: Deployment):
    cases: list[tuple[dict[str, str | bool], str, int, str]] = [
        ({"remote_region_id": "nowhere"}, "app", 400, "SVCSTG.SWR.4000014"),
        ({"remote_region_id": NORTH, "remote_namespace": "team"}, "app", 400, "SVCSTG.SWR.4000014"),
        ({"remote_namespace": "No"}, "app", 400, "SVCSTG.SWR.4001028"),
        ({"remote_namespace": "nowhere"}, "app", 404, "SVCSTG.SWR.4040058"),
        ({}, "No", 400, "SVCSTG.SWR.4001029"),
        ({}, "nothing-here", 404, "SVCSTG.SWR.4040010"),
        ({"sync_auto": True}, "nothing-here", 404, "SVCSTG.SWR.4040010"),
    ]
    for fields, repository, status, code in cases:
        told = await refusal(create(app, repository=repository, **fields))
        assert told[:2] == (status, code), (fields, repository, told)
    assert await rules(app) == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"remoteNamespace": "release"}, "SVCSTG.SWR.4001014"),
        (TARGET | {"syncAuto": "yes"}, "SVCSTG.SWR.4001018"),
        (TARGET | {"override": 1}, "SVCSTG.SWR.4001018"),
        ([], "SVCSTG.SWR.4001018"),
    ],
)
async def test_a_body_that_is_not_as_documented_is_refused(app: Deployment, body: Any, code: str):
    answer = await app.http("POST", PATH, body=body, headers={"X-Auth-Token": await app.token()})
    assert answer.refused()[:2] == (400, code)


async def test_nobody_makes_sees_or_deletes_rules_without_permission(app: Deployment):
    _, reader = await app.user("reader", team=Permission.READ)
    _, stranger = await app.user("stranger")
    await create(app)

    assert (await refusal(create(app, key=reader)))[:2] == (403, "SVCSTG.SWR.4039002")
    assert (await refusal(delete(app, key=reader)))[:2] == (403, "SVCSTG.SWR.4039002")
    assert (await refusal(rules(app, key=stranger)))[:2] == (403, "SVCSTG.SWR.4039002")
    assert (await refusal(delete(app, key=stranger)))[:2] == (403, "SVCSTG.SWR.4039002")
    assert len(await rules(app, key=reader)) == 1


async def test_a_creator_who_may_no_longer_write_the_target_can_still_end_the_rule(app: Deployment):
    _, carol = await app.user("carol", team=Permission.READ)
    await app.grant("carol", SOUTH, RELEASE, Permission.EDIT)
    await create(app, key=carol)
    await app.grant("carol", SOUTH, RELEASE, Permission.READ)

    await delete(app, key=carol)

    assert await rules(app) == []


def basic(ferry: Deployment) -> str:
    return "Basic " + b64encode(f"{ferry.admin.name}:{ferry.admin.password}".encode()).decode()
