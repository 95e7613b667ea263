"""The unmodified SWR SDK asks what there is in all: the overview, quotas, reports, features and versions."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from huaweicloudsdkswr.v2 import (
    CreateRepoRequest,
    CreateRepoRequestBody,
    ListApiVersionsRequest,
    ListQuotasRequest,
    ListReposDetailsRequest,
    ShowApiVersionRequest,
    ShowDomainOverviewRequest,
    ShowDomainResourceReportsRequest,
    ShowShareFeatureGatesRequest,
    UpdateRepoRequest,
    UpdateRepoRequestBody,
)

from tagferry.accounts.model import Permission
from tagferry.names import Tag
from tests.support import images
from tests.support.deployment import NORTH, Deployment, deployed, name_in
from tests.support.sdk_calls import ask, assert_filled, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAMPLE = images.image()
SIZE = sum(map(len, SAMPLE.all_blobs.values()))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """The same image under two tags of `team/app` and under one of `release/app`; `team/empty` has none."""
    async with deployed(tmp_path_factory.mktemp("overview")) as deployment:
        for name, tag in ((name_in("team"), "v1"), (name_in("team"), "v2"), (name_in("release"), "v1")):
            await images.push(deployment.store(NORTH), name, SAMPLE, Tag(tag))
        body = CreateRepoRequestBody(repository="empty", is_public=False)
        await ask(deployment, "create_repo", CreateRepoRequest(namespace="team", body=body))
        yield deployment


async def test_the_overview_counts_what_the_caller_may_read(ferry: Deployment) -> None:
    shown = await ask(ferry, "show_domain_overview", ShowDomainOverviewRequest())
    assert_filled(shown, empty=("downflow_size",))
    assert (shown.namspace_num, shown.repo_num, shown.image_num, shown.store_space) == (2, 3, 3, 2 * SIZE)
    assert shown.domain_name == "tagferry"

    _, key = await ferry.user("looker", release=Permission.READ)
    shown = await ask(ferry, "show_domain_overview", ShowDomainOverviewRequest(), key=key)
    assert (shown.namspace_num, shown.repo_num, shown.image_num, shown.store_space) == (1, 1, 1, SIZE)


async def test_the_overview_counts_single_repositories_that_the_caller_may_read_as_lists_do(ferry: Deployment) -> None:
    _, key = await ferry.user("guest", domain="guests")
    shown = await ask(ferry, "show_domain_overview", ShowDomainOverviewRequest(), key=key)
    assert (shown.namspace_num, shown.repo_num, shown.image_num) == (0, 0, 0)
    body = UpdateRepoRequestBody(is_public=True)
    await ask(ferry, "update_repo", UpdateRepoRequest(namespace="team", repository="app", body=body))
    shown = await ask(ferry, "show_domain_overview", ShowDomainOverviewRequest(), key=key)
    assert (shown.namspace_num, shown.repo_num, shown.image_num, shown.store_space) == (1, 1, 2, SIZE)
    listed = (await ask(ferry, "list_repos_details", ListReposDetailsRequest(), key=key)).body
    assert [one.name for one in listed] == ["app"]
    body = UpdateRepoRequestBody(is_public=False)
    await ask(ferry, "update_repo", UpdateRepoRequest(namespace="team", repository="app", body=body))


async def test_there_are_quotas_and_no_reports(ferry: Deployment) -> None:
    quotas = (await ask(ferry, "list_quotas", ListQuotasRequest())).quotas
    assert [(one.quota_key, one.quota_limit, one.unit) for one in quotas] == [
        ("namespace", -1, ""),
        ("repository", 10_000, ""),
        ("storage", -1, "B"),
        ("upload", 1_000, ""),
    ]
    request = ShowDomainResourceReportsRequest(resource_type="store", frequency="daily")
    assert not (await ask(ferry, "show_domain_resource_reports", request)).body
    request = ShowDomainResourceReportsRequest(resource_type="weather", frequency="daily")
    status, code, message = await refused(ferry, "show_domain_resource_reports", request)
    assert (status, code) == (400, "SVCSTG.SWR.4000014")
    assert message.startswith("resource_type must be 'store' or 'downflow'")


async def test_features_are_those_that_there_are(ferry: Deployment) -> None:
    request = ShowShareFeatureGatesRequest()
    shown = await ask(ferry, "show_share_feature_gates", request)
    assert_filled(shown)
    assert shown.enable_image_sync
    assert shown.enable_list_v3
    assert not shown.enable_image_scan


async def test_the_version_of_the_api_is_listed_and_shown(ferry: Deployment) -> None:
    listed = (await ask(ferry, "list_api_versions", ListApiVersionsRequest())).versions
    shown = (await ask(ferry, "show_api_version", ShowApiVersionRequest(api_version="v2"))).version
    assert [one.to_dict() for one in listed] == [shown.to_dict()]
    assert (shown.id, shown.status, shown.links.href) == ("v2", "CURRENT", f"{ferry.urls[NORTH]}/v2/")

    answer = await refused(ferry, "show_api_version", ShowApiVersionRequest(api_version="v9"))
    assert answer == (404, "APIGW.0101", 'API version "v9" does not exist; the only version is v2')


async def test_probes_and_the_registry_keep_their_paths(ferry: Deployment) -> None:
    for path, status in (("/healthz", 200), ("/readyz", 200), ("/openapi.json", 200), ("/v2", 401)):
        assert (await ferry.http("GET", path)).status == status
    challenged = await ferry.http("GET", "/v2")
    assert challenged.headers["WWW-Authenticate"].startswith("Bearer ")
