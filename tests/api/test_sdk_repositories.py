"""The unmodified SWR SDK creates, updates, lists and deletes repositories."""

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from huaweicloudsdkswr.v2 import (
    CreateNamespaceRequest,
    CreateNamespaceRequestBody,
    CreateRepoRequest,
    CreateRepoRequestBody,
    DeleteNamespacesRequest,
    DeleteRepoRequest,
    ListRepoDetailsRequest,
    ListReposDetailsRequest,
    ListRepositoryTagsRequest,
    ShowRepositoryRequest,
    ShowRepoTagRequest,
    UpdateRepoRequest,
    UpdateRepoRequestBody,
)

from tagferry.accounts.model import Permission
from tagferry.errors import Unsupported
from tagferry.names import RepositoryName, Tag
from tests.support import images
from tests.support.deployment import NORTH, Deployment, deployed, name_in
from tests.support.sdk_calls import ask, assert_filled, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """`team/pushed`, with two tags and nothing said of it."""
    async with deployed(tmp_path_factory.mktemp("repositories")) as deployment:
        for tag in ("v1", "v2"):
            await images.push(deployment.store(NORTH), name_in("team", "pushed"), images.image(seed=tag), Tag(tag))
        yield deployment


def create(name: str, *, namespace: str = "team", is_public: bool = False, **other: Any) -> CreateRepoRequest:
    body = CreateRepoRequestBody(repository=name, is_public=is_public, **other)
    return CreateRepoRequest(namespace=namespace, body=body)


def update(name: str, *, namespace: str = "team", is_public: bool = False, **other: Any) -> UpdateRepoRequest:
    body = UpdateRepoRequestBody(is_public=is_public, **other)
    return UpdateRepoRequest(namespace=namespace, repository=name, body=body)


def delete(name: str, *, namespace: str = "team") -> DeleteRepoRequest:
    return DeleteRepoRequest(namespace=namespace, repository=name)


async def show(ferry: Deployment, name: str, *, namespace: str = "team") -> Any:
    return await ask(ferry, "show_repository", ShowRepositoryRequest(namespace=namespace, repository=name))


async def listed(ferry: Deployment, **query: Any) -> dict[str, Any]:
    """Return the result of this query, which both lists agree on."""
    pages = (await ask(ferry, "list_repos_details", ListReposDetailsRequest(**query))).body or []
    marked = (await ask(ferry, "list_repo_details", ListRepoDetailsRequest(**query))).repos
    assert {one.name for one in pages} == {one.name for one in marked}
    return {one.name: one for one in pages}


async def test_a_created_repository_is_shown_and_listed_before_it_has_an_image(ferry: Deployment) -> None:
    await ask(ferry, "create_repo", create("shop/new", is_public=True, category="linux", description="the shop"))

    shown = await show(ferry, "shop$new")
    assert_filled(shown)
    assert (shown.name, shown.category, shown.description, shown.is_public) == ("shop/new", "linux", "the shop", True)
    assert (shown.creator_name, shown.num_images, shown.size) == ("admin", 0, 0)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(shown.created)) < timedelta(minutes=1)
    item = (await listed(ferry, namespace="team", name="shop/new"))["shop/new"]
    assert_filled(item)
    assert (item.category, item.description, item.is_public, item.tags) == ("linux", "the shop", True, [])
    tags = ListRepositoryTagsRequest(namespace="team", repository="shop/new")
    assert not (await ask(ferry, "list_repository_tags", tags)).body
    no_tag = ShowRepoTagRequest(namespace="team", repository="shop/new", tag="v1")
    assert (await refused(ferry, "show_repo_tag", no_tag))[:2] == (404, "SVCSTG.SWR.4040048")


async def test_a_push_to_a_created_repository_leaves_what_was_said_of_it(ferry: Deployment) -> None:
    await ask(ferry, "create_repo", create("filled", category="lang"))
    created = (await show(ferry, "filled")).created

    await images.push(ferry.store(NORTH), name_in("team", "filled"), images.image(), Tag("v1"))

    shown = await show(ferry, "filled")
    assert (shown.category, shown.num_images, shown.created) == ("lang", 1, created)
    assert shown.updated > created


async def test_what_only_the_registry_knows_is_private_and_can_be_said_more_of(ferry: Deployment) -> None:
    before = await show(ferry, "pushed")
    assert (before.category, before.description, before.is_public, before.num_images) == ("other", "", False, 2)

    await ask(ferry, "update_repo", update("pushed", is_public=True, category="database"))
    await ask(ferry, "update_repo", update("pushed", is_public=True, description="more"))

    after = await show(ferry, "pushed")
    assert (after.category, after.description, after.is_public, after.num_images) == ("database", "more", True, 2)
    assert (after.created, after.creator_name, after.id) == (before.created, before.creator_name, before.id)
    assert after.updated > before.updated
    assert "pushed" in await listed(ferry, category="database")
    assert "pushed" not in await listed(ferry, category="other")


async def test_a_repository_that_exists_is_not_created_again(ferry: Deployment) -> None:
    await ask(ferry, "create_repo", create("once"))
    for name in ("once", "pushed"):
        status, code, message = await refused(ferry, "create_repo", create(name))
        assert (status, code) == (409, "SVCSTG.SWR.4090006")
        assert message == f'the repository "team/{name}" already exists in cn-north-4'


async def downloads(ferry: Deployment, name: str) -> int:
    """How often its images were downloaded, once the lists and the repository itself agree."""
    shown: int = (await show(ferry, name)).num_download
    assert (await listed(ferry, name=name))[name].num_download == shown
    marked = (await ask(ferry, "list_repo_details", ListRepoDetailsRequest(name=name))).repos
    assert [one.num_download for one in marked] == [shown]
    return shown


async def test_downloads_of_images_are_counted_until_the_repository_is_deleted(ferry: Deployment) -> None:
    repository, sample = name_in("team", "wanted"), images.index()
    platform = sample.children[0]
    signature = images.artifact(subject=platform.manifest)
    for pushed, tag in ((sample, Tag("all")), (platform, Tag("one")), (signature, Tag("signature"))):
        await images.push(ferry.store(NORTH), repository, pushed, tag)
    login = f"{ferry.admin.name}:{ferry.admin.password}".encode()
    headers = {"Authorization": f"Basic {base64.b64encode(login).decode()}"}

    async def pull(reference: str, *, method: str = "GET", status: int = 200, **more: str) -> None:
        path = f"/v2/{repository}/manifests/{reference}"
        assert (await ferry.http(method, path, headers=headers | more)).status == status

    await pull("all", method="HEAD")
    await pull("none", status=404)
    await pull("signature")
    await pull("one", **{"If-None-Match": f'"{platform.digest}"'}, status=304)
    assert await downloads(ferry, "wanted") == 0
    await pull("all")
    await pull(platform.digest)
    assert await downloads(ferry, "wanted") == 1
    await pull("one")
    assert await downloads(ferry, "wanted") == 2

    await ask(ferry, "delete_repo", delete("wanted"))
    await images.push(ferry.store(NORTH), repository, platform, Tag("one"))
    assert await downloads(ferry, "wanted") == 0
    await ask(ferry, "delete_repo", delete("wanted"))


async def test_a_deleted_repository_is_gone_and_can_be_created_again(ferry: Deployment) -> None:
    sample = images.index()
    await ask(ferry, "create_repo", create("short/lived", category="arm"))
    await images.push(ferry.store(NORTH), name_in("team", "short/lived"), sample, Tag("v1"))

    await ask(ferry, "delete_repo", delete("short$lived"))

    no_repository = ShowRepositoryRequest(namespace="team", repository="short/lived")
    assert (await refused(ferry, "show_repository", no_repository))[:2] == (404, "SVCSTG.SWR.4040010")
    assert "short/lived" not in await listed(ferry)
    assert await ferry.store(NORTH).head_manifest(name_in("team", "short/lived"), sample.digest) is None
    assert (await refused(ferry, "delete_repo", delete("short/lived")))[:2] == (404, "SVCSTG.SWR.4040010")
    await ask(ferry, "create_repo", create("short/lived"))
    assert (await show(ferry, "short/lived")).category == ""
    await ask(ferry, "delete_repo", delete("short/lived"))
    assert (await refused(ferry, "show_repository", no_repository))[0] == 404


async def test_a_repository_may_be_named_as_what_stands_below_another(ferry: Deployment) -> None:
    await ask(ferry, "create_repo", create("below/tags", description="a name"))
    assert (await show(ferry, "below$tags")).description == "a name"
    await ask(ferry, "delete_repo", delete("below$tags"))
    no_repository = ShowRepositoryRequest(namespace="team", repository="below$tags")
    assert (await refused(ferry, "show_repository", no_repository))[:2] == (404, "SVCSTG.SWR.4040010")


async def test_what_a_registry_does_not_delete_keeps_its_record(
    ferry: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(repository: RepositoryName) -> None:
        raise Unsupported("this registry does not delete a manifest")

    monkeypatch.setattr(ferry.store(NORTH), "delete_repository", refuse)
    await images.push(ferry.store(NORTH), name_in("team", "kept"), images.image(), Tag("v1"))
    await ask(ferry, "update_repo", update("kept", description="kept"))

    answer = await refused(ferry, "delete_repo", delete("kept"))

    assert answer == (501, "SVCSTG.SWR.5010001", "this registry does not delete a manifest")
    shown = await show(ferry, "kept")
    assert (shown.description, shown.num_images) == ("kept", 1)


async def test_an_organization_with_a_repository_that_has_no_image_is_not_deleted(ferry: Deployment) -> None:
    body = CreateNamespaceRequestBody(namespace="brief")
    await ask(ferry, "create_namespace", CreateNamespaceRequest(body=body))
    await ask(ferry, "create_repo", create("empty", namespace="brief"))

    answer = await refused(ferry, "delete_namespaces", DeleteNamespacesRequest(namespace="brief"))
    assert answer[:2] == (409, "SVCSTG.SWR.4090023")
    assert "brief/empty" in answer[2]

    # What no tag leads to any more is no repository, and goes along.
    store, name = ferry.store(NORTH), name_in("brief", "untagged")
    await images.push(store, name, images.image(), Tag("v1"))
    await store.delete_manifest(name, Tag("v1"))
    await ask(ferry, "delete_repo", delete("empty", namespace="brief"))
    await ask(ferry, "delete_namespaces", DeleteNamespacesRequest(namespace="brief"))
    assert name not in [one async for one in store.list_repositories()]


async def test_a_marker_leads_through_all_repositories_once(ferry: Deployment) -> None:
    body = CreateNamespaceRequestBody(namespace="many")
    await ask(ferry, "create_namespace", CreateNamespaceRequest(body=body))
    names = [f"app{n}" for n in range(5)]
    for n, name in enumerate(names):
        await ask(ferry, "create_repo", create(name, namespace="many", is_public=n % 2 == 0))

    seen: list[str] = []
    marker: int | None = None
    for _ in range(len(names)):
        request = ListRepoDetailsRequest(namespace="many", limit=2, marker=marker)
        answer = await ask(ferry, "list_repo_details", request)
        for one in answer.repos:
            assert_filled(one)
            assert one.namespace_name == "many"
        seen += [one.name for one in answer.repos]
        marker = answer.next_marker
        if marker is None:
            break
    assert sorted(seen) == names
    past = await ask(ferry, "list_repo_details", ListRepoDetailsRequest(namespace="many", marker=2**31 - 1))
    assert (past.repos, past.next_marker) == ([], None)
    public = await ask(ferry, "list_repo_details", ListRepoDetailsRequest(namespace="many", is_public=True))
    private = await ask(ferry, "list_repo_details", ListRepoDetailsRequest(namespace="many", is_public=False))
    assert sorted(one.name for one in public.repos) == ["app0", "app2", "app4"]
    assert sorted(one.name for one in private.repos) == ["app1", "app3"]


@pytest.mark.parametrize(
    ("method", "request_", "code", "message"),
    [
        ("create_repo", create("Shop"), "4001029", "repository may contain only"),
        ("create_repo", create("a", category="games"), "4000014", "category must be one of app_server, linux"),
        ("create_repo", create("a", namespace="Team"), "4001028", "namespace may contain only"),
        ("create_repo", CreateRepoRequest("team", CreateRepoRequestBody(repository="a")), "4001014", "is_public"),
        ("create_repo", CreateRepoRequest("team", CreateRepoRequestBody(is_public=True)), "4001014", "repository"),
        ("create_repo", create("a", description=5), "4001018", "description must be a string: got 5"),
        ("create_repo", create("a", description="a\0b"), "4000014", "description must be text without NUL"),
        ("update_repo", update("pushed", description="\ud800"), "4000014", "description must be text without NUL"),
        ("update_repo", update("pushed", category="games"), "4000014", "category must be one of"),
        ("list_repo_details", ListRepoDetailsRequest(is_public="perhaps"), "4000014", "is_public must be true or"),
        ("list_repo_details", ListRepoDetailsRequest(marker="x"), "4000014", "marker must be a whole number"),
        ("list_repo_details", ListRepoDetailsRequest(limit=1001), "4000014", "limit must be a whole number"),
        ("list_repos_details", ListReposDetailsRequest(category="games"), "4000014", "category must be one of"),
    ],
)
async def test_a_bad_parameter_is_named(ferry: Deployment, method: str, request_: Any, code: str, message: str) -> None:
    answer = await refused(ferry, method, request_)
    assert answer[:2] == (400, f"SVCSTG.SWR.{code}")
    assert message in answer[2]


async def test_what_is_missing_is_told_by_its_kind(ferry: Deployment) -> None:
    for method, make in (("update_repo", update), ("delete_repo", delete)):
        assert (await refused(ferry, method, make("nothing")))[:2] == (404, "SVCSTG.SWR.4040010")
        missing = await refused(ferry, method, make("nothing", namespace="nobody"))
        assert missing[:2] == (404, "SVCSTG.SWR.4040058")
    assert (await refused(ferry, "create_repo", create("a", namespace="nobody")))[:2] == (404, "SVCSTG.SWR.4040058")


async def test_each_operation_needs_its_permission(ferry: Deployment) -> None:
    await ask(ferry, "create_repo", create("guarded"))
    _, reader = await ferry.user("reader", team=Permission.READ)
    _, editor = await ferry.user("editor", team=Permission.EDIT)

    for method, request in (("create_repo", create("by-reader")), ("update_repo", update("guarded"))):
        assert (await refused(ferry, method, request, key=reader))[:2] == (403, "SVCSTG.SWR.4039002")
    await ask(ferry, "create_repo", create("by-editor"), key=editor)
    await ask(ferry, "update_repo", update("by-editor", description="mine"), key=editor)
    shown = ShowRepositoryRequest(namespace="team", repository="by-editor")
    assert (await ask(ferry, "show_repository", shown, key=reader)).creator_name == "editor"
    assert (await refused(ferry, "delete_repo", delete("by-editor"), key=editor))[:2] == (403, "SVCSTG.SWR.4039002")
    for method, request in (
        ("create_repo", create("by-editor-for-all", is_public=True)),
        ("update_repo", update("by-editor", is_public=True)),
    ):
        status, code, message = await refused(ferry, method, request, key=editor)
        assert (status, code) == (403, "SVCSTG.SWR.4039002")
        assert 'user "editor" needs the permission to manage' in message
    _, manager = await ferry.user("manager", team=Permission.MANAGE)
    await ask(ferry, "update_repo", update("by-editor", is_public=True), key=manager)
    # A public repository stays public when another field is updated.
    await ask(ferry, "update_repo", update("by-editor", is_public=True, description="more"), key=editor)
    assert (await ask(ferry, "show_repository", shown, key=reader)).description == "more"
    hide = update("by-editor", is_public=False)
    assert (await refused(ferry, "update_repo", hide, key=editor))[:2] == (403, "SVCSTG.SWR.4039002")
    assert (await ask(ferry, "show_repository", shown, key=reader)).is_public is True
    hidden = ListRepoDetailsRequest(namespace="release")
    assert (await ask(ferry, "list_repo_details", hidden, key=reader)).repos == []
