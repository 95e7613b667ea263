"""The unmodified SWR SDK lists and shows organizations, repositories, tags and jobs, with every documented field."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkswr.v2 import (
    CreateManualImageSyncRepoRequest,
    CreateManualImageSyncRepoRequestBody,
    CreateNamespaceRequest,
    CreateNamespaceRequestBody,
    DeleteNamespacesRequest,
    ListNamespacesRequest,
    ListReposDetailsRequest,
    ListRepositoryTagsRequest,
    ShowNamespaceRequest,
    ShowRepositoryRequest,
    ShowRepoTagRequest,
    ShowSyncJobRequest,
)

from tagferry.accounts.model import Permission
from tagferry.names import Tag
from tests.support import images
from tests.support.deployment import NORTH, SOUTH, Deployment, calling, deployed, name_in
from tests.support.sdk_calls import ask, assert_filled, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

INDEX = images.index()
TAGS = ("v1", "v2", "v10", "latest", "all")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """`team/app` with five tags, `team/shop/web`, `team/shop/api` and `release/app` with one each."""
    async with deployed(tmp_path_factory.mktemp("queries")) as deployment:
        store = deployment.store(NORTH)
        pushes = [(name_in("team"), images.image(seed=tag), tag) for tag in TAGS[:-1]]
        pushes.append((name_in("team"), INDEX, "all"))
        others = (name_in("team", "shop/web"), name_in("team", "shop/api"), name_in("release"))
        pushes += [(name, images.image(seed=name), "v1") for name in others]
        for name, sample, tag in pushes:
            await images.push(store, name, sample, Tag(tag))
            await asyncio.sleep(0.02)  # so that the file system's clock shows the order
        yield deployment


def create(name: str) -> CreateNamespaceRequest:
    return CreateNamespaceRequest(body=CreateNamespaceRequestBody(namespace=name))


async def test_an_organization_lives_from_its_creation_to_its_deletion(ferry: Deployment) -> None:
    await ask(ferry, "create_namespace", create("short-lived"))

    shown = await ask(ferry, "show_namespace", ShowNamespaceRequest(namespace="short-lived"))
    assert_filled(shown)
    assert (shown.name, shown.creator_name, shown.auth) == ("short-lived", "admin", 7)
    await ask(ferry, "delete_namespaces", DeleteNamespacesRequest(namespace="short-lived"))
    answer = await refused(ferry, "show_namespace", ShowNamespaceRequest(namespace="short-lived"))
    assert answer[:2] == (404, "SVCSTG.SWR.4040058")


async def test_organizations_are_listed_and_found_by_name(ferry: Deployment) -> None:
    listed = (await ask(ferry, "list_namespaces", ListNamespacesRequest())).namespaces
    assert [one.name for one in listed] == ["release", "team"]
    for one in listed:
        assert_filled(one)
    for request in (
        ListNamespacesRequest(namespace="team"),
        ListNamespacesRequest(filter="namespace::team|mode::visible"),
        ListNamespacesRequest(filter="namespace::team"),
    ):
        found = (await ask(ferry, "list_namespaces", request)).namespaces
        assert [one.name for one in found] == ["team"]
    assert (await ask(ferry, "list_namespaces", ListNamespacesRequest(namespace="tea"))).namespaces == []


async def test_a_user_sees_its_own_organizations_with_its_own_permission(ferry: Deployment) -> None:
    _, key = await ferry.user("looker", team=Permission.READ)
    listed = await calling(ferry.sdk(key=key).list_namespaces, ListNamespacesRequest())
    assert [(one.name, one.auth) for one in listed.namespaces] == [("team", 1)]
    repositories = await calling(ferry.sdk(key=key).list_repos_details, ListReposDetailsRequest())
    assert {one.namespace for one in repositories.body} == {"team"}
    with pytest.raises(ClientRequestException) as caught:
        await calling(ferry.sdk(key=key).delete_namespaces, DeleteNamespacesRequest(namespace="team"))
    assert caught.value.status_code == 403


async def test_an_organization_that_holds_images_is_not_deleted(ferry: Deployment) -> None:
    status, code, message = await refused(ferry, "delete_namespaces", DeleteNamespacesRequest(namespace="team"))
    assert (status, code) == (409, "SVCSTG.SWR.4090023")
    assert "team" in message
    assert (await ask(ferry, "show_namespace", ShowNamespaceRequest(namespace="team"))).name == "team"


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("team", 409, "SVCSTG.SWR.4090060"),
        ("manage", 400, "SVCSTG.SWR.4001028"),
        ("Team", 400, "SVCSTG.SWR.4001028"),
        ("1team", 400, "SVCSTG.SWR.4001028"),
    ],
)
async def test_an_organization_that_exists_or_may_not_be_is_refused(
    ferry: Deployment, name: str, status: int, code: str
) -> None:
    assert (await refused(ferry, "create_namespace", create(name)))[:2] == (status, code)


async def repositories(ferry: Deployment, **query: Any) -> tuple[list[str], str]:
    answer = await ask(ferry, "list_repos_details", ListReposDetailsRequest(**query))
    return [f"{one.namespace}/{one.name}" for one in answer.body or []], answer.content_range


@pytest.mark.parametrize(
    ("query", "names", "content_range"),
    [
        ({}, ["release/app", "team/app", "team/shop/api", "team/shop/web"], "0-4/4"),
        ({"namespace": "team"}, ["team/app", "team/shop/api", "team/shop/web"], "0-3/3"),
        ({"name": "shop"}, ["team/shop/api", "team/shop/web"], "0-2/2"),
        ({"filter": "namespace::team|name::app"}, ["team/app"], "0-1/1"),
        ({"namespace": "release", "filter": "namespace::team|name::app"}, ["team/app"], "0-1/1"),
        ({"limit": 2, "offset": 1}, ["team/app", "team/shop/api"], "1-2/4"),
        ({"filter": "limit::1|offset::3"}, ["team/shop/web"], "3-1/4"),
        ({"limit": 10, "offset": 4}, [], "4-0/4"),
        ({"limit": 1000, "offset": 100000}, [], "100000-0/4"),
        (
            {"order_column": "name", "order_type": "desc"},
            ["team/shop/web", "team/shop/api", "team/app", "release/app"],
            "0-4/4",
        ),
        ({"order_column": "tag_count", "order_type": "desc", "limit": 1, "offset": 0}, ["team/app"], "0-1/4"),
        (
            {"order_column": "updated_time", "order_type": "asc"},
            ["team/app", "team/shop/web", "team/shop/api", "release/app"],
            "0-4/4",
        ),
        ({"namespace": "nobody"}, [], "0-0/0"),
        ({"category": "database"}, [], "0-0/0"),
    ],
    ids=str,
)
async def test_repositories_are_filtered_ordered_and_paged(
    ferry: Deployment, query: dict[str, Any], names: list[str], content_range: str
) -> None:
    assert await repositories(ferry, **query) == (names, content_range)


async def test_a_listed_repository_has_every_field(ferry: Deployment) -> None:
    (item,) = (await ask(ferry, "list_repos_details", ListReposDetailsRequest(namespace="team", name="app"))).body
    assert_filled(item)
    host = ferry.urls[NORTH].removeprefix("http://")
    assert (item.name, item.namespace, item.path) == ("app", "team", f"{host}/team/app")
    assert (sorted(item.tags), item.num_images, item.total_range) == (sorted(TAGS), 5, 1)
    assert item.domain_name == "tagferry"


@pytest.mark.parametrize("sent", ["shop/web", "shop$web"])
async def test_a_shown_repository_has_every_field(ferry: Deployment, sent: str) -> None:
    shown = await ask(ferry, "show_repository", ShowRepositoryRequest(namespace="team", repository=sent))
    assert_filled(shown)
    sample = images.image(seed=name_in("team", "shop/web"))
    assert (shown.name, shown.num_images, shown.creator_name) == ("shop/web", 1, "admin")
    assert shown.size == sum(len(content) for content in sample.all_blobs.values())


async def tags(ferry: Deployment, **query: Any) -> tuple[list[str], str]:
    request = ListRepositoryTagsRequest(namespace="team", repository="app", **query)
    answer = await ask(ferry, "list_repository_tags", request)
    return [one.tag for one in answer.body or []], answer.content_range


@pytest.mark.parametrize(
    ("query", "names", "content_range"),
    [
        ({}, ["all", "latest", "v10", "v2", "v1"], "0-5/5"),
        ({"order_column": "updated_at", "order_type": "asc"}, ["v1", "v2", "v10", "latest", "all"], "0-5/5"),
        ({"order_column": "name", "order_type": "asc"}, ["all", "latest", "v1", "v10", "v2"], "0-5/5"),
        ({"limit": "2", "offset": "1"}, ["latest", "v10"], "1-2/5"),
        ({"limit": "2", "offset": "4"}, ["v1"], "4-1/5"),
        ({"limit": "2", "offset": "5"}, [], "5-0/5"),
        ({"limit": "2", "offset": "999"}, [], "999-0/5"),
        ({"tag": "v1"}, ["v10", "v1"], "0-2/2"),
        ({"tag": "none"}, [], "0-0/0"),
        ({"filter": "tag::v1|limit::1|offset::1"}, ["v1"], "1-1/2"),
    ],
    ids=str,
)
async def test_tags_are_filtered_ordered_and_paged(
    ferry: Deployment, query: dict[str, Any], names: list[str], content_range: str
) -> None:
    assert await tags(ferry, **query) == (names, content_range)


async def test_a_pager_that_goes_on_until_nothing_comes_sees_each_tag_once(ferry: Deployment) -> None:
    seen: list[str] = []
    while page := (await tags(ferry, limit="2", offset=str(len(seen))))[0]:
        seen += page
    assert sorted(seen) == sorted(TAGS)


async def test_a_listed_tag_has_every_field(ferry: Deployment) -> None:
    answer = await ask(ferry, "list_repository_tags", ListRepositoryTagsRequest(namespace="team", repository="app"))
    for item in answer.body:
        assert_filled(item, empty=("deleted",))
        assert item.tag_type == (1 if item.tag == "all" else 0)


@pytest.mark.parametrize(("tag", "tag_type"), [("all", 1), ("v1", 0)])
async def test_a_shown_tag_has_every_field(ferry: Deployment, tag: str, tag_type: int) -> None:
    shown = await ask(ferry, "show_repo_tag", ShowRepoTagRequest(namespace="team", repository="app", tag=tag))
    assert_filled(shown)
    sample = INDEX if tag == "all" else images.image(seed=tag)
    assert (shown.tag, shown.tag_type, shown.digest) == (tag, tag_type, sample.digest)
    assert shown.manifest.encode() == sample.manifest.raw
    assert shown.size == sum(len(content) for content in sample.all_blobs.values())
    assert shown.path == f"{ferry.urls[NORTH].removeprefix('http://')}/team/app:{tag}"
    if tag == "v1":
        assert sample.manifest.config is not None
        assert shown.image_id == sample.manifest.config.digest.encoded


async def test_sync_jobs_are_paged_with_every_field(ferry: Deployment) -> None:
    body = CreateManualImageSyncRepoRequestBody(
        image_tag=list(TAGS), override=True, remote_namespace="release", remote_region_id=SOUTH
    )
    request = CreateManualImageSyncRepoRequest(namespace="team", repository="app", body=body)
    await ask(ferry, "create_manual_image_sync_repo", request)

    async def page(text: str | None) -> tuple[list[Any], str]:
        query = ShowSyncJobRequest(namespace="team", repository="app", filter=text)
        answer = await ask(ferry, "show_sync_job", query)
        return answer.body or [], answer.content_range

    jobs, content_range = await page("limit::10|offset::0|order::asc")
    assert ([job.tag for job in jobs], content_range) == (list(TAGS), "0-5/5")
    for job in jobs:
        assert_filled(job)
        assert (job.status, job.override, job.sync_operator_name) == ("success", True, "admin")
        assert (job.namespace, job.repo_name, job.remote_namespace) == ("team", "app", "release")
        assert job.remote_region_id == SOUTH
    newest, content_range = await page("limit::2|offset::1|order::desc")
    assert ([job.tag for job in newest], content_range) == (["latest", "v10"], "1-2/5")
    assert await page("limit::2|offset::5|order::desc") == ([], "5-0/5")
    assert len((await page(None))[0]) == 5

    async def tags(query: str) -> list[str]:
        headers = {"X-Auth-Token": await ferry.token()}
        answer = await ferry.http("GET", f"/v2/manage/namespaces/team/repos/app/sync_job?{query}", headers=headers)
        return [job["tag"] for job in answer.document]

    assert await tags("limit=2&offset=1&order=desc") == ["latest", "v10"]
    assert await tags("limit=2&offset=1&filter=limit::1|order::asc") == list(TAGS[1:2])


@pytest.mark.parametrize("text", ["limit", "limit::x", "limit::1001", "order::sideways", "offset::-1"])
async def test_a_filter_that_cannot_be_read_is_refused(ferry: Deployment, text: str) -> None:
    query = ShowSyncJobRequest(namespace="team", repository="app", filter=text)
    status, code, _ = await refused(ferry, "show_sync_job", query)
    assert (status, code) in ((400, "SVCSTG.SWR.4001035"), (400, "SVCSTG.SWR.4000014"))


_SAMPLE = """
import os
from huaweicloudsdkcore.auth.credentials import BasicCredentials, GlobalCredentials
from huaweicloudsdkcore.client import Client, ClientBuilder
from huaweicloudsdkswr.v2 import ListSyncRegionsRequest, SwrClient
from huaweicloudsdkswr.v2.region.swr_region import SwrRegion

credentials = BasicCredentials(os.environ["CLOUD_SDK_AK"], os.environ["CLOUD_SDK_SK"])
client = (
    SwrClient.new_builder().with_credentials(credentials).with_region(SwrRegion.value_of("cn-north-4")).build()
)
print([region.region_id for region in client.list_sync_regions(ListSyncRegionsRequest()).body])
print(credentials.project_id)
everywhere = GlobalCredentials(os.environ["CLOUD_SDK_AK"], os.environ["CLOUD_SDK_SK"])
ClientBuilder(Client, "GlobalCredentials").with_credentials(everywhere).with_region(
    SwrRegion.value_of("cn-north-4")
).build()
print(everywhere.domain_id)
"""


async def test_the_sdk_finds_its_project_by_the_regions_name_and_its_domain(ferry: Deployment, tmp_path: Path) -> None:
    script = tmp_path / "sample.py"
    script.write_text(_SAMPLE)
    environment = {
        **os.environ,
        "HUAWEICLOUD_SDK_REGION_SWR_CN_NORTH_4": ferry.urls[NORTH],
        "HUAWEICLOUD_SDK_IAM_ENDPOINT": ferry.urls[NORTH],
        "CLOUD_SDK_AK": ferry.admin.key.access_key,
        "CLOUD_SDK_SK": ferry.admin.key.secret_key,
    }

    done = await calling(
        lambda: subprocess.run(
            [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    )

    assert done.returncode == 0, done.stderr
    regions, project, domain = done.stdout.splitlines()
    assert regions == str([NORTH, SOUTH])
    listed = await ferry.http("GET", f"/v3/projects?name={NORTH}", headers={"X-Auth-Token": await ferry.token()})
    (found,) = listed.document["projects"]
    assert (found["id"], found["name"], found["domain_id"]) == (project, NORTH, domain)


async def test_iam_knows_one_project_a_region_and_the_callers_domain(ferry: Deployment) -> None:
    headers = {"X-Auth-Token": await ferry.token()}
    projects = (await ferry.http("GET", "/v3/projects", headers=headers)).document["projects"]
    assert [project["name"] for project in projects] == [NORTH, SOUTH]
    assert len({project["id"] for project in projects}) == 2
    unknown = (await ferry.http("GET", "/v3/projects?name=eu-west-1", headers=headers)).document
    assert unknown["projects"] == []
    (domain,) = (await ferry.http("GET", "/v3/auth/domains", headers=headers)).document["domains"]
    assert domain["name"] == "tagferry"
    assert {project["domain_id"] for project in projects} == {domain["id"]}
