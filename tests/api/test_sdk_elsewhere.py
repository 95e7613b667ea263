"""The SWR SDK changes repositories and tags of a region whose registry is CNCF's."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from huaweicloudsdkswr.v2 import (
    CreateRepoRequest,
    CreateRepoRequestBody,
    CreateRepoTagRequest,
    CreateRepoTagRequestBody,
    DeleteNamespacesRequest,
    DeleteRepoRequest,
    DeleteRepoTagRequest,
    ListRepoDetailsRequest,
    ShowRepositoryRequest,
)

from tagferry.names import Tag
from tests.support import images
from tests.support.deployment import NORTH, Deployment, deployed, name_in
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


async def test_a_deleted_repository_s_name_stays_and_is_in_nobody_s_way(ferry: Deployment):
    await ask(ferry, "delete_repo", DeleteRepoRequest(**APP))

    listed = (await ask(ferry, "list_repo_details", ListRepoDetailsRequest(namespace="team"))).repos
    assert [(one.name, one.num_images) for one in listed] == [("app", 0)]
    body = CreateRepoRequestBody(repository="app", is_public=False, category="linux")
    await ask(ferry, "create_repo", CreateRepoRequest(namespace="team", body=body))
    assert (await ask(ferry, "show_repository", ShowRepositoryRequest(**APP))).category == "linux"
    await ask(ferry, "delete_repo", DeleteRepoRequest(**APP))
    await ask(ferry, "delete_namespaces", DeleteNamespacesRequest(namespace="team"))
