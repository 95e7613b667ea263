"""The SWR SDK changes repositories and tags of a region whose registry is CNCF's."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from huaweicloudsdkswr.v2 import (
    CreateRepoRequest,
    CreateRepoRequestBody,
    CreateRepoTagRequest,
    CreateRepoTagRequestBody,
    CreateRetentionRequest,
    CreateRetentionRequestBody,
    DeleteNamespacesRequest,
    DeleteRepoRequest,
    DeleteRepoTagRequest,
    ListRepoDetailsRequest,
    ListRepositoryTagsRequest,
    ListRetentionHistoriesRequest,
    ListRetentionsRequest,
    Rule,
    ShowRepositoryRequest,
)

from tagferry.names import Tag
from tests.support import images
from tests.support.deployment import NORTH, Deployment, deployed, eventually, name_in
from tests.support.docker_registry import docker_registry
from tests.support.sdk_calls import ask, refused

V1, APP = Tag("v1"), {"namespace": "team", "repository": "app"}


@pytest.fixture
async def ferry(tmp_path: Path) -> AsyncIterator[Deployment]:
    """`team/app` with one tag."""
    folder = tmp_path / "registry"
    folder.mkdir()
    with docker_registry(folder) as registry:
        async with deployed(tmp_path / "data", regions={NORTH: {"listen": "", "registry": registry.url}}) as deployment:
            await images.push(deployment.store(NORTH), name_in("team"), images.index(), V1)
            yield deployment


async def test_a_tag_is_deleted_unless_another_would_lose_its_image(ferry: Deployment):
    body = CreateRepoTagRequestBody(source_tag="v1", destination_tag="stable")
    await ask(ferry, "create_repo_tag", CreateRepoTagRequest(body=body, **APP))

    status, code, message = await refused(ferry, "delete_repo_tag", DeleteRepoTagRequest(tag="v1", **APP))
    assert (status, code) == (409, "SVCSTG.SWR.4090048")
    assert "cannot delete team/app:v1 alone, and stable would lose its image" in message

    await images.push(ferry.store(NORTH), name_in("team"), images.image(seed="other"), Tag("stable"))
    await ask(ferry, "delete_repo_tag", DeleteRepoTagRequest(tag="v1", **APP))
    assert [tag async for tag in ferry.store(NORTH).list_tags(name_in("team"))] == ["stable"]


async def test_a_deleted_repository_is_gone_though_its_registry_goes_on_naming_it(ferry: Deployment):
    await ask(ferry, "delete_repo", DeleteRepoRequest(**APP))

    assert [name async for name in ferry.store(NORTH).list_repositories()] == ["team/app"]
    assert (await ask(ferry, "list_repo_details", ListRepoDetailsRequest(namespace="team"))).repos == []
    for method, request in (
        ("show_repository", ShowRepositoryRequest(**APP)),
        ("delete_repo", DeleteRepoRequest(**APP)),
        ("list_repository_tags", ListRepositoryTagsRequest(**APP)),
        ("delete_repo_tag", DeleteRepoTagRequest(tag="v1", **APP)),
    ):
        assert (await refused(ferry, method, request))[:2] == (404, "SVCSTG.SWR.4040010")
    body = CreateRepoRequestBody(repository="app", is_public=False, category="linux")
    await ask(ferry, "create_repo", CreateRepoRequest(namespace="team", body=body))
    assert (await ask(ferry, "show_repository", ShowRepositoryRequest(**APP))).category == "linux"
    await ask(ferry, "delete_repo", DeleteRepoRequest(**APP))
    await ask(ferry, "delete_namespaces", DeleteNamespacesRequest(namespace="team"))


async def test_a_policy_deletes_what_was_first_seen_before_the_tags_that_it_keeps(ferry: Deployment):
    body = CreateRetentionRequestBody(algorithm="or", rules=[Rule(template="tag_rule", params={"num": "1"})])
    created = await ask(ferry, "create_retention", CreateRetentionRequest(body=body, **APP))
    services, store = ferry.app.services.swr, ferry.store(NORTH)

    async def has_looked() -> bool:
        return bool(await services.retention._observed_tags.of(created.id))

    await eventually(has_looked)
    await images.push(store, name_in("team"), images.image(seed="new"), Tag("v2"))
    policy = await services.retention_policies.find(created.id)
    assert policy is not None

    assert await services.retention.run(policy) == 1

    assert [tag async for tag in store.list_tags(name_in("team"))] == ["v2"]
    assert await store.head_manifest(name_in("team"), images.index().digest) is None
    history = await ask(ferry, "list_retention_histories", ListRetentionHistoriesRequest(**APP))
    assert [(one.tag, one.retention_id) for one in history.retention_log] == [("v1", created.id)]


async def test_where_the_registry_does_not_delete_no_policy_is_made(tmp_path: Path):
    with docker_registry(tmp_path, deletes=False) as registry:
        async with deployed(tmp_path / "data", regions={NORTH: {"listen": "", "registry": registry.url}}) as ferry:
            await images.push(ferry.store(NORTH), name_in("team"), images.image(), V1)
            body = CreateRetentionRequestBody(algorithm="or", rules=[Rule(template="tag_rule", params={"num": "1"})])
            refusal = await refused(ferry, "create_retention", CreateRetentionRequest(body=body, **APP))
            assert refusal[:2] == (501, "SVCSTG.SWR.5010001")
            assert f"registry {NORTH} does not delete a manifest" in refusal[2]
            assert not (await ask(ferry, "list_retentions", ListRetentionsRequest(**APP))).body
            assert await ferry.app.services.swr.repositories.find(NORTH, name_in("team")) is None
