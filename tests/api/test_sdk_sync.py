"""The unmodified SWR SDK for Python synchronizes images."""

import pytest
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkswr.v2 import (
    CreateManualImageSyncRepoRequest,
    CreateManualImageSyncRepoRequestBody,
    ListSyncRegionsRequest,
    ShowSyncJobRequest,
)

from tagferry.accounts.model import AccessKey
from tagferry.names import Tag
from tests.support import images
from tests.support.deployment import NORTH, SOUTH, Deployment, calling, name_in

V1 = Tag("V1")


def request(*tags: str, override: bool | None = None, repository: str = "app") -> CreateManualImageSyncRepoRequest:
    body = CreateManualImageSyncRepoRequestBody(
        image_tag=list(tags), override=override, remote_namespace="release", remote_region_id=SOUTH
    )
    return CreateManualImageSyncRepoRequest(namespace="team", repository=repository, body=body)


async def test_a_tag_crosses_to_the_other_region(ferry: Deployment) -> None:
    sample = images.index()
    await images.push(ferry.store(NORTH), name_in("team"), sample, V1)

    response = await calling(ferry.sdk().create_manual_image_sync_repo, request("V1"))

    assert response.body is None
    arrived = await ferry.store(SOUTH).get_manifest(name_in("release"), V1)
    assert arrived.raw == sample.manifest.raw
    for digest, content in sample.all_blobs.items():
        assert await ferry.store(SOUTH).stat_blob(name_in("release"), digest) == len(content)


@pytest.mark.parametrize("sent", ["shop/web", "shop$web"])
async def test_a_repository_with_a_slash_is_found_however_the_sdk_sends_it(ferry: Deployment, sent: str) -> None:
    await images.push(ferry.store(NORTH), name_in("team", "shop/web"), images.image(), V1)

    await calling(ferry.sdk().create_manual_image_sync_repo, request("V1", repository=sent))

    assert await ferry.store(SOUTH).head_manifest(name_in("release", "shop/web"), V1)


async def test_a_wrong_secret_is_told_in_the_sdks_own_fields(ferry: Deployment) -> None:
    wrong = AccessKey(access_key=ferry.admin.key.access_key, secret_key="wrong")

    with pytest.raises(ClientRequestException) as caught:
        await calling(ferry.sdk(key=wrong).create_manual_image_sync_repo, request("V1"))

    assert caught.value.status_code == 401
    assert caught.value.error_code == "SVCSTG.SWR.4000031"
    assert "signature does not match" in caught.value.error_msg
    assert caught.value.request_id


async def test_the_jobs_tell_what_became_of_each_tag(ferry: Deployment) -> None:
    await images.push(ferry.store(NORTH), name_in("team"), images.image(), V1)
    await calling(ferry.sdk().create_manual_image_sync_repo, request("V1", "missing"))

    query = ShowSyncJobRequest(namespace="team", repository="app", filter="limit::10|offset::0|order::desc")
    jobs = (await calling(ferry.sdk().show_sync_job, query)).body

    assert {job.tag: job.status for job in jobs} == {"V1": "success", "missing": "failed"}
    assert {job.remote_region_id for job in jobs} == {SOUTH}
    assert {job.sync_operator_name for job in jobs} == {ferry.admin.name}


async def test_the_regions_are_listed(ferry: Deployment) -> None:
    regions = (await calling(ferry.sdk().list_sync_regions, ListSyncRegionsRequest())).body
    assert [region.region_id for region in regions] == [NORTH, SOUTH]
