"""The unmodified SWR SDK creates, deletes and pages tags, and lists their attached artifacts."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from huaweicloudsdkswr.v2 import (
    CreateRepoRequest,
    CreateRepoRequestBody,
    CreateRepoTagRequest,
    CreateRepoTagRequestBody,
    DeleteRepoTagRequest,
    ListReferencesRequest,
    ListRepoAccessoriesRequest,
    ListRepositoryTagRequest,
    ShowRepoTagRequest,
)

from tagferry.accounts.model import Permission
from tagferry.names import Tag
from tagferry.oci.referrer_tags import cosign_tags
from tests.support import images
from tests.support.deployment import NORTH, Deployment, deployed, name_in
from tests.support.sdk_calls import ask, assert_filled, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIGNED = images.image(seed="signed")
REFERRER = images.artifact(subject=SIGNED.manifest)
COSIGNED = images.image(seed="cosigned")
COSIGN_TAG = cosign_tags(SIGNED.digest)[0]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """`team/app` with five tags, and `team/signed` with signatures of two kinds for `v1`, which is `latest` too."""
    async with deployed(tmp_path_factory.mktemp("tags")) as deployment:
        store = deployment.store(NORTH)
        for n in range(1, 6):
            await images.push(store, name_in("team"), images.image(seed=f"v{n}"), Tag(f"v{n}"))
        signed = name_in("team", "signed")
        for tag in (Tag("v1"), Tag("latest")):
            await images.push(store, signed, SIGNED, tag)
        await images.push(store, signed, REFERRER, Tag("referrer"))
        await images.push(store, signed, COSIGNED, COSIGN_TAG)
        await images.push(store, signed, images.image(seed="unsigned"), Tag("v2"))
        yield deployment


def create(source: str, destination: str, *, repository: str = "new", override: Any = None) -> CreateRepoTagRequest:
    body = CreateRepoTagRequestBody(source_tag=source, destination_tag=destination, override=override)
    return CreateRepoTagRequest(namespace="team", repository=repository, body=body)


def delete(tag: str, *, repository: str = "new") -> DeleteRepoTagRequest:
    return DeleteRepoTagRequest(namespace="team", repository=repository, tag=tag)


async def shown(ferry: Deployment, tag: str, *, repository: str = "new") -> Any:
    return await ask(ferry, "show_repo_tag", ShowRepoTagRequest(namespace="team", repository=repository, tag=tag))


async def page(ferry: Deployment, **query: Any) -> Any:
    request = ListRepositoryTagRequest(namespace="team", repository=query.pop("repository", "app"), **query)
    return await ask(ferry, "list_repository_tag", request)


async def test_a_created_tag_points_to_the_same_bytes(ferry: Deployment) -> None:
    sample, other = images.index(), images.image(seed="other")
    await images.push(ferry.store(NORTH), name_in("team", "new"), sample, Tag("v1"))
    await images.push(ferry.store(NORTH), name_in("team", "new"), other, Tag("v2"))

    await ask(ferry, "create_repo_tag", create("v1", "stable"))
    assert (await shown(ferry, "stable")).manifest.encode() == sample.manifest.raw

    status, code, message = await refused(ferry, "create_repo_tag", create("v2", "stable"))
    assert (status, code) == (409, "SVCSTG.SWR.4090048")
    assert message == 'the tag "team/new:stable" exists already; replace it with override'
    assert (await shown(ferry, "stable")).digest == sample.digest
    await ask(ferry, "create_repo_tag", create("v2", "stable", override=True))
    assert (await shown(ferry, "stable")).digest == other.digest
    assert (await shown(ferry, "v1")).digest == sample.digest


async def test_a_deleted_tag_leaves_its_image_to_the_others(ferry: Deployment) -> None:
    sample = images.image(seed="deleted")
    for tag in ("one", "two"):
        await images.push(ferry.store(NORTH), name_in("team", "new"), sample, Tag(tag))

    await ask(ferry, "delete_repo_tag", delete("one"))

    assert (await refused(ferry, "delete_repo_tag", delete("one")))[:2] == (404, "SVCSTG.SWR.4040048")
    assert (await shown(ferry, "two")).digest == sample.digest


async def test_tags_are_needed_where_they_are_named(ferry: Deployment) -> None:
    created = CreateRepoRequestBody(repository="hollow", is_public=False)
    await ask(ferry, "create_repo", CreateRepoRequest(namespace="team", body=created))
    accessories = ListRepoAccessoriesRequest(namespace="team", repository="hollow", tag="v1")
    references = ListReferencesRequest(namespace="team", repository="hollow", tag="v1")
    for method, request in (
        ("create_repo_tag", create("v1", "v2", repository="hollow")),
        ("delete_repo_tag", delete("v1", repository="hollow")),
        ("list_repo_accessories", accessories),
        ("list_references", references),
    ):
        assert (await refused(ferry, method, request))[:2] == (404, "SVCSTG.SWR.4040048")
        request.repository = "nothing"
        assert (await refused(ferry, method, request))[:2] == (404, "SVCSTG.SWR.4040010")
        request.namespace = "nobody"
        assert (await refused(ferry, method, request))[:2] == (404, "SVCSTG.SWR.4040058")
    assert (await page(ferry, repository="hollow")).tags == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["v5", "v4", "v3", "v2", "v1"]),
        ({"order_column": "updated_at", "order_type": "asc"}, ["v1", "v2", "v3", "v4", "v5"]),
        ({"order_column": "tag", "order_type": "desc"}, ["v5", "v4", "v3", "v2", "v1"]),
        ({"order_column": "tag", "order_type": "asc", "tag": "v"}, ["v1", "v2", "v3", "v4", "v5"]),
        ({"tag": "4"}, ["v4"]),
    ],
    ids=str,
)
async def test_a_marker_leads_through_all_tags_once(
    ferry: Deployment, query: dict[str, Any], expected: list[str]
) -> None:
    seen: list[str] = []
    marker = None
    for _ in range(len(expected)):
        answer = await page(ferry, limit=2, marker=marker, **query)
        for one in answer.tags:
            assert_filled(one)
        seen += [one.tag for one in answer.tags]
        marker = answer.next_marker
        assert answer.has_more is (marker is not None)
        if marker is None:
            break
    assert seen == expected


async def test_manifests_are_listed_where_they_are_asked_for(ferry: Deployment) -> None:
    without = await page(ferry, tag="v1")
    assert [one.manifest for one in without.tags] == [""]
    with_them = await page(ferry, tag="v1", with_manifest=True)
    assert [one.manifest.encode() for one in with_them.tags] == [images.image(seed="v1").manifest.raw]


async def test_signatures_are_listed_with_every_field(ferry: Deployment) -> None:
    request = ListRepoAccessoriesRequest(namespace="team", repository="signed", tag="v1")
    answer = await ask(ferry, "list_repo_accessories", request)

    assert answer.total == 2
    for one in answer.accessories:
        assert_filled(one)
        assert (one.namespace_name, one.repo_name, one.target_digest) == ("team", "signed", SIGNED.digest)
    told = {one.sig_digest: (one.type, one.sig_tag, one.size) for one in answer.accessories}
    assert told == {
        REFERRER.digest: (images.SIGNATURE, "", sum(map(len, REFERRER.all_blobs.values()))),
        COSIGNED.digest: ("signature.cosign", COSIGN_TAG, sum(map(len, COSIGNED.all_blobs.values()))),
    }


@pytest.mark.parametrize(("limit", "offset", "count"), [(1, 0, 1), (1, 1, 1), (1, 2, 0), (100, 0, 2)])
async def test_signatures_are_paged(ferry: Deployment, limit: int, offset: int, count: int) -> None:
    request = ListRepoAccessoriesRequest(
        namespace="team", repository="signed", tag="latest", limit=limit, offset=offset
    )
    answer = await ask(ferry, "list_repo_accessories", request)
    assert (answer.total, len(answer.accessories)) == (2, count)


@pytest.mark.parametrize("signature", ["referrer", COSIGN_TAG])
async def test_a_signature_leads_to_the_tags_of_its_image(ferry: Deployment, signature: str) -> None:
    request = ListReferencesRequest(namespace="team", repository="signed", tag=signature, limit=1)
    first = await ask(ferry, "list_references", request)
    assert (first.tags, first.has_more, first.next_marker) == (["latest"], True, "latest")
    request.marker = first.next_marker
    last = await ask(ferry, "list_references", request)
    assert (last.tags, last.has_more, last.next_marker) == (["v1"], False, None)


async def test_an_image_that_is_no_signature_leads_nowhere(ferry: Deployment) -> None:
    request = ListReferencesRequest(namespace="team", repository="signed", tag="v2")
    assert (await ask(ferry, "list_references", request)).tags == []
    accessories = ListRepoAccessoriesRequest(namespace="team", repository="signed", tag="v2")
    answer = await ask(ferry, "list_repo_accessories", accessories)
    assert (answer.total, answer.accessories) == (0, [])


@pytest.mark.parametrize(
    ("method", "request_", "code", "message"),
    [
        ("create_repo_tag", create("v1", "-v"), "4000014", "destination_tag must start with"),
        ("create_repo_tag", create("", "v"), "4000014", "source_tag must be 1 to 128 characters"),
        ("create_repo_tag", create("v1", "v", override="yes"), "4001018", "override must be true or false"),
        ("delete_repo_tag", delete("-v"), "4000014", "tag must start with"),
        ("list_repository_tag", ListRepositoryTagRequest("team", "app", marker="v1"), "4000014", "marker must be the"),
        ("list_repository_tag", ListRepositoryTagRequest("team", "app", order_column="name"), "4000014", "order_col"),
        ("list_repository_tag", ListRepositoryTagRequest("team", "app", with_manifest="x"), "4000014", "with_manifest"),
        ("list_references", ListReferencesRequest("team", "app", "v1", limit=11), "4000014", "from 1 to 10:"),
        ("list_references", ListReferencesRequest("team", "app", "v1", marker="-"), "4000014", "marker must start"),
        ("list_repo_accessories", ListRepoAccessoriesRequest("team", "app", "v1", limit=101), "4000014", "1 to 100:"),
    ],
)
async def test_a_bad_parameter_is_named(ferry: Deployment, method: str, request_: Any, code: str, message: str) -> None:
    answer = await refused(ferry, method, request_)
    assert answer[:2] == (400, f"SVCSTG.SWR.{code}")
    assert message in answer[2]


async def test_each_operation_needs_its_permission(ferry: Deployment) -> None:
    _, reader = await ferry.user("reader", team=Permission.READ)
    _, editor = await ferry.user("editor", team=Permission.EDIT)
    _, stranger = await ferry.user("stranger", release=Permission.MANAGE)
    accessories = ListRepoAccessoriesRequest(namespace="team", repository="signed", tag="v1")
    references = ListReferencesRequest(namespace="team", repository="signed", tag="v1")
    tags = ListRepositoryTagRequest(namespace="team", repository="app")

    for method, request in (
        ("list_repo_accessories", accessories),
        ("list_references", references),
        ("list_repository_tag", tags),
    ):
        await ask(ferry, method, request, key=reader)
        assert (await refused(ferry, method, request, key=stranger))[:2] == (403, "SVCSTG.SWR.4039002")
    tagging = create("v1", "by-user", repository="signed")
    assert (await refused(ferry, "create_repo_tag", tagging, key=reader))[:2] == (403, "SVCSTG.SWR.4039002")
    await ask(ferry, "create_repo_tag", tagging, key=editor)
    removing = delete("by-user", repository="signed")
    assert (await refused(ferry, "delete_repo_tag", removing, key=editor))[:2] == (403, "SVCSTG.SWR.4039002")
    await ask(ferry, "delete_repo_tag", removing)
