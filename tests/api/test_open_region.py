"""A region whose registry governs its organizations: what administrators and others find of them at every door."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from huaweicloudsdkswr.v2 import (
    CreateImageSyncRepoRequest,
    CreateImageSyncRepoRequestBody,
    CreateManualImageSyncRepoRequest,
    CreateManualImageSyncRepoRequestBody,
    CreateNamespaceAuthRequest,
    CreateNamespaceRequest,
    CreateNamespaceRequestBody,
    CreateUserRepositoryAuthRequest,
    DeleteNamespacesRequest,
    ListNamespacesRequest,
    ListRepoDetailsRequest,
    ListReposDetailsRequest,
    ListRepositoryTagsRequest,
    ShowDomainOverviewRequest,
    ShowNamespaceRequest,
    ShowRepositoryRequest,
    UserAuth,
)

from tagferry.accounts.model import AccessKey
from tagferry.names import Tag
from tests.support import images
from tests.support.deployment import NORTH, SOUTH, Deployment, deployed, name_in
from tests.support.docker_registry import docker_registry
from tests.support.sdk_calls import ask, assert_filled, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORBIDDEN, MISSING = (403, "SVCSTG.SWR.4039002"), (404, "SVCSTG.SWR.4040058")
TAKE_IN = "an administrator can let users into it with: tagferry org create cn-north-208"
REPOSITORY = {"namespace": "theirs", "repository": "app"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """`team/app` in the north, `theirs/app` and `theirs/tools/cli` in the open south, and `team` recorded in both."""
    folder = tmp_path_factory.mktemp("open")
    (folder / "registry").mkdir()
    with docker_registry(folder / "registry") as registry:
        south = {"listen": "", "registry": registry.url, "organizations": "open"}
        async with deployed(folder / "data", regions={NORTH: {"listen": ""}, SOUTH: south}) as deployment:
            await images.push(deployment.store(NORTH), name_in("team"), images.image(), Tag("v1"))
            for name in (name_in("theirs"), name_in("theirs", "tools/cli")):
                await images.push(deployment.store(SOUTH), name, images.image(), Tag("v1"))
            yield deployment


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def user(ferry: Deployment) -> AccessKey:
    """A user without permissions."""
    return (await ferry.user("carol"))[1]


async def in_south(ferry: Deployment, method: str, request: Any, key: AccessKey | None = None) -> Any:
    return await ask(ferry, method, request, region=SOUTH, key=key)


async def refused_in_south(ferry: Deployment, method: str, request: Any, key: AccessKey | None = None) -> Any:
    return await refused(ferry, method, request, region=SOUTH, key=key)


async def organizations(ferry: Deployment, key: AccessKey | None = None) -> list[str]:
    return [one.name for one in (await in_south(ferry, "list_namespaces", ListNamespacesRequest(), key)).namespaces]


async def repositories(ferry: Deployment, key: AccessKey | None = None, **query: Any) -> list[str]:
    """Return the repositories, which both lists and the overview agree on."""
    listed = (await in_south(ferry, "list_repos_details", ListReposDetailsRequest(**query), key)).body or []
    marked = (await in_south(ferry, "list_repo_details", ListRepoDetailsRequest(**query), key)).repos
    names = [f"{one.namespace}/{one.name}" for one in listed]
    assert sorted(f"{one.namespace_name}/{one.name}" for one in marked) == names
    if not query:
        overview = await in_south(ferry, "show_domain_overview", ShowDomainOverviewRequest(), key)
        assert overview.repo_num == len(names)
    return names


def create(name: str) -> CreateNamespaceRequest:
    return CreateNamespaceRequest(body=CreateNamespaceRequestBody(namespace=name))


def sync(source: str, target: str, region: str) -> CreateManualImageSyncRepoRequest:
    body = CreateManualImageSyncRepoRequestBody(
        image_tag=["v1"], override=False, remote_namespace=target, remote_region_id=region
    )
    return CreateManualImageSyncRepoRequest(namespace=source, repository="app", body=body)


async def test_administrators_find_what_only_the_registry_knows(ferry: Deployment) -> None:
    assert await organizations(ferry) == ["release", "team", "theirs"]
    shown = await in_south(ferry, "show_namespace", ShowNamespaceRequest(namespace="theirs"))
    assert_filled(shown)
    assert (shown.name, shown.creator_name, shown.auth) == ("theirs", "", 7)
    assert await repositories(ferry) == ["theirs/app", "theirs/tools/cli"]
    assert await repositories(ferry, namespace="theirs", name="cli") == ["theirs/tools/cli"]
    assert await repositories(ferry, namespace="team") == []
    overview = await in_south(ferry, "show_domain_overview", ShowDomainOverviewRequest())
    assert (overview.namspace_num, overview.image_num) == (3, 2)
    repository = await in_south(ferry, "show_repository", ShowRepositoryRequest(**REPOSITORY))
    assert_filled(repository)
    assert (repository.ns_id, repository.num_images, repository.creator_name) == (shown.id, 1, "")
    tags = await in_south(ferry, "list_repository_tags", ListRepositoryTagsRequest(**REPOSITORY))
    assert [one.tag for one in tags.body] == ["v1"]
    missing = await refused_in_south(ferry, "show_namespace", ShowNamespaceRequest(namespace="nobody"))
    assert missing[:2] == MISSING
    assert "the registry lists no repository in it" in missing[2]


async def test_administrators_synchronize_from_and_to_what_only_the_registry_knows(ferry: Deployment) -> None:
    assert not (await in_south(ferry, "create_manual_image_sync_repo", sync("theirs", "release", NORTH))).body
    assert [tag async for tag in ferry.store(NORTH).list_tags(name_in("release"))] == ["v1"]
    assert not (await ask(ferry, "create_manual_image_sync_repo", sync("team", "fresh", SOUTH))).body
    assert [tag async for tag in ferry.store(SOUTH).list_tags(name_in("fresh"))] == ["v1"]
    assert "fresh" in await organizations(ferry)
    body = CreateImageSyncRepoRequestBody(
        remote_region_id=NORTH, remote_namespace="release", sync_auto=False, override=False
    )
    await in_south(ferry, "create_image_sync_repo", CreateImageSyncRepoRequest(**REPOSITORY, body=body))
    unknown = await refused_in_south(ferry, "create_manual_image_sync_repo", sync("theirs", "nobody", NORTH))
    assert unknown[:2] == MISSING
    assert unknown[2].endswith("remoteNamespace must be one of the target region's: create it first, or check its name")


async def test_others_are_told_who_lets_them_in(ferry: Deployment, user: AccessKey) -> None:
    assert (await organizations(ferry, user), await repositories(ferry, user)) == ([], [])
    for method, request in (
        ("show_namespace", ShowNamespaceRequest(namespace="theirs")),
        ("show_repository", ShowRepositoryRequest(**REPOSITORY)),
        ("list_repository_tags", ListRepositoryTagsRequest(**REPOSITORY)),
        ("create_manual_image_sync_repo", sync("theirs", "release", NORTH)),
        ("delete_namespaces", DeleteNamespacesRequest(namespace="theirs")),
    ):
        status, code, message = await refused_in_south(ferry, method, request, user)
        assert (status, code) == MISSING
        assert message == (
            f'organization "theirs" in cn-north-208 does not exist; if the region\'s registry has it, {TAKE_IN}/theirs'
        )


async def test_nobody_makes_itself_the_manager_of_what_the_registry_has(ferry: Deployment, user: AccessKey) -> None:
    status, code, message = await refused_in_south(ferry, "create_namespace", create("theirs"), user)
    assert (status, code) == FORBIDDEN
    assert message == f"the registry of cn-north-208 governs its organizations; {TAKE_IN}/theirs"
    await ask(ferry, "create_namespace", create("carols"), key=user)


async def test_one_repository_is_opened_to_somebody(ferry: Deployment) -> None:
    _, key = await ferry.user("dave")
    guest = await ferry.app.accounts.users.find("dave")
    body = [UserAuth(user_id=guest.user_id, user_name="dave", auth=1)]
    await in_south(ferry, "create_user_repository_auth", CreateUserRepositoryAuthRequest(**REPOSITORY, body=body))
    assert await repositories(ferry, key) == ["theirs/app"]
    tags = await in_south(ferry, "list_repository_tags", ListRepositoryTagsRequest(**REPOSITORY), key)
    assert [one.tag for one in tags.body] == ["v1"]


async def test_an_organization_on_record_lets_users_in_and_goes_without_its_images(ferry: Deployment) -> None:
    _, key = await ferry.user("erin")
    erin = await ferry.app.accounts.users.find("erin")
    permit = CreateNamespaceAuthRequest(
        namespace="theirs", body=[UserAuth(user_id=erin.user_id, user_name="erin", auth=1)]
    )
    status, code, message = await refused_in_south(ferry, "create_namespace_auth", permit)
    assert (status, code) == MISSING
    assert "create it before you grant permissions in it" in message

    await in_south(ferry, "create_namespace", create("theirs"))
    await in_south(ferry, "create_namespace_auth", permit)
    assert await organizations(ferry, key) == ["theirs"]
    assert await repositories(ferry, key) == ["theirs/app", "theirs/tools/cli"]

    await in_south(ferry, "delete_namespaces", DeleteNamespacesRequest(namespace="theirs"))
    assert (await organizations(ferry, key), await repositories(ferry, key)) == ([], [])
    assert "theirs" in await organizations(ferry)
    assert "theirs/app" in await repositories(ferry)
    again = await refused_in_south(ferry, "delete_namespaces", DeleteNamespacesRequest(namespace="theirs"))
    assert again[:2] == MISSING
    assert "it has no record; organizations are managed in the registry" in again[2]
    assert "theirs/app" in await repositories(ferry)
