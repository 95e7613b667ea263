"""Manifests, tags, referrers and the catalog over HTTP."""

import json
from typing import Any

import pytest

from tagferry import bounds
from tagferry.errors import Invalid
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.model import OCI_INDEX, OCI_MANIFEST
from tests.support.images import SampleImage, artifact, image, index, listing_blobs, push
from tests.unit.registry.conftest import Registry

APP = RepositoryName("org/app")


async def push_over_http(registry: Registry, sample: SampleImage, reference: str, repository: str = APP) -> None:
    for content in sample.blobs.values():
        await registry.push_blob(content, repository)
    manifest = sample.manifest
    response = await registry.push_manifest(manifest.raw, manifest.media_type, reference, repository)
    assert response.status == 201


def codes(body: bytes) -> list[str]:
    return [error["code"] for error in json.loads(body)["errors"]]


async def test_a_pulled_manifest_equals_the_pushed_one(registry: Registry) -> None:
    sample = image(docker=True)
    await push_over_http(registry, sample, "v1")
    for reference in ("v1", sample.digest):
        # What is stored is sent, whatever the client would rather have.
        response, body = await registry.get(f"/v2/org/app/manifests/{reference}", Accept=OCI_INDEX)
        assert (response.status, body) == (200, sample.manifest.raw)
        assert response.headers["Content-Type"] == sample.manifest.media_type
        assert response.headers["Docker-Content-Digest"] == sample.digest


@pytest.mark.parametrize(
    "media_type", ["application/vnd.buildkit.cacheconfig.v0", "application/vnd.example.thing+json"]
)
async def test_an_index_of_blobs_is_accepted_after_its_blobs(registry: Registry, media_type: str) -> None:
    sample = listing_blobs(b"listed", media_types=(media_type,))
    response = await registry.push_manifest(sample.manifest.raw, OCI_INDEX, "cache")
    assert response.status == 404
    await push_over_http(registry, sample, "cache")
    response, body = await registry.get("/v2/org/app/manifests/cache", Accept=OCI_INDEX)
    assert (response.status, body) == (200, sample.manifest.raw)


@pytest.mark.parametrize("stated", [-1, 1])
@pytest.mark.parametrize(
    "sample",
    [image(), artifact(), listing_blobs(b"listed", media_types=("application/vnd.buildkit.cacheconfig.v0",))],
    ids=["image", "artifact", "index"],
)
async def test_a_wrong_size_of_a_blob_is_refused(registry: Registry, sample: SampleImage, stated: int) -> None:
    document = json.loads(sample.manifest.raw)
    entries = document.get("layers") or document["manifests"]
    entries[0]["size"] += stated
    for content in sample.blobs.values():
        await registry.push_blob(content)
    response, body = await registry.put_manifest(json.dumps(document).encode(), sample.manifest.media_type, "v1")
    assert (response.status, codes(body)) == (400, ["MANIFEST_INVALID"])
    right = entries[0]["size"] - stated
    assert f"descriptor.size must be {right}, the bytes of blob {entries[0]['digest']}" in body.decode()
    response, _ = await registry.get("/v2/org/app/manifests/v1")
    assert response.status == 404


async def test_a_manifest_pushed_as_a_blob_is_not_a_child_of_an_index(registry: Registry) -> None:
    """An index refers to a manifest, which was pushed as a blob only."""
    sample = image()
    await registry.push_blob(sample.manifest.raw)
    response = await registry.push_manifest(index(sample).manifest.raw, OCI_INDEX, "v1")
    assert response.status == 404


async def test_head_describes_a_manifest(registry: Registry) -> None:
    sample = image()
    await push_over_http(registry, sample, "v1")
    async with registry.http.head("/v2/org/app/manifests/v1") as response:
        assert response.status == 200
        assert response.headers["Content-Length"] == str(sample.manifest.size)
    response, _ = await registry.get("/v2/org/app/manifests/v1", If_None_Match=f'"{sample.digest}"')
    assert response.status == 304


async def test_a_push_is_reported_with_its_tag(registry: Registry) -> None:
    sample = image()
    await push_over_http(registry, sample, "v1")
    await push_over_http(registry, sample, sample.digest)
    assert registry.pushes == [(APP, Tag("v1"), sample.digest, "me"), (APP, None, sample.digest, "me")]


async def test_a_deletion_is_reported_with_its_reference(registry: Registry) -> None:
    sample = image()
    await push_over_http(registry, sample, "v1")
    for reference, status in (("v1", 202), ("v1", 404), (sample.digest, 202)):
        async with registry.http.delete(f"/v2/org/app/manifests/{reference}") as response:
            assert response.status == status
    assert registry.deletions == [(APP, Tag("v1")), (APP, sample.digest)]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"annotations": {"org.example": 1}}, "annotations"),
        ({"annotations": ["org.example"]}, "annotations"),
        ({"layers": None}, "layers[0].annotations"),
    ],
)
async def test_annotations_that_are_not_strings_are_refused_with_their_field(
    registry: Registry, change: dict[str, Any], field: str
) -> None:
    sample = image()
    for content in sample.blobs.values():
        await registry.push_blob(content)
    document = json.loads(sample.manifest.raw) | change
    if document["layers"] is None:
        document["layers"] = [json.loads(sample.manifest.raw)["layers"][0] | {"annotations": {"org.example": {}}}]
    response, body = await registry.put_manifest(json.dumps(document).encode(), OCI_MANIFEST, "v1")
    assert (response.status, codes(body)) == (400, ["MANIFEST_INVALID"])
    (error,) = json.loads(body)["errors"]
    assert error["detail"] == {"field": field, "rule": "must be an object whose values are strings"}


async def test_a_manifest_is_refused_before_its_blobs(registry: Registry) -> None:
    sample = image()
    url = "/v2/org/app/manifests/v1"
    headers = {"Content-Type": OCI_MANIFEST}
    async with registry.http.put(url, data=sample.manifest.raw, headers=headers) as response:
        assert (response.status, codes(await response.read())) == (404, ["MANIFEST_BLOB_UNKNOWN"])
    assert (await registry.get(url))[0].status == 404


async def test_an_index_is_refused_before_its_children(registry: Registry) -> None:
    sample = index()
    response = await registry.push_manifest(sample.manifest.raw, OCI_INDEX, "v1")
    assert response.status == 404
    await push(registry.store, APP, sample)
    response = await registry.push_manifest(sample.manifest.raw, OCI_INDEX, "v1")
    assert response.status == 201


async def test_a_foreign_layer_may_be_missing(registry: Registry) -> None:
    await registry.push_blob(b"{}")
    document = {
        "schemaVersion": 2,
        "config": {"mediaType": "application/x", "digest": Digest.of(b"{}"), "size": 2},
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                "digest": Digest.of(b"far away"),
                "size": 8,
                "urls": ["https://example.com/layer"],
            }
        ],
    }
    assert (await registry.push_manifest(json.dumps(document).encode(), OCI_MANIFEST, "v1")).status == 201


@pytest.mark.parametrize(
    ("raw", "media_type", "reference", "status", "code"),
    [
        (b"not json", OCI_MANIFEST, "v1", 400, "MANIFEST_INVALID"),
        (b'{"layers": 7}', OCI_MANIFEST, "v1", 400, "MANIFEST_INVALID"),
        (b"{}", OCI_MANIFEST, "-bad-tag", 400, "MANIFEST_INVALID"),
        (b"{}", OCI_MANIFEST, Digest.of(b"other"), 400, "DIGEST_INVALID"),
        (b"{}", OCI_MANIFEST, "sha256:short", 400, "DIGEST_INVALID"),
        (b'{"schemaVersion": 1}', OCI_MANIFEST, "v1", 415, "UNSUPPORTED"),
        (b" " * (bounds.MANIFEST_BYTES + 1), OCI_MANIFEST, "v1", 413, "MANIFEST_INVALID"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_an_invalid_manifest_is_refused(
    registry: Registry, raw: bytes, media_type: str, reference: str, status: int, code: str
) -> None:
    headers = {"Content-Type": media_type}
    async with registry.http.put(f"/v2/org/app/manifests/{reference}", data=raw, headers=headers) as response:
        assert (response.status, codes(await response.read())) == (status, [code])


async def test_missing_content_is_reported_by_its_kind(registry: Registry) -> None:
    for path, code in (
        ("/v2/org/app/manifests/v1", "NAME_UNKNOWN"),
        ("/v2/org/app/manifests/.invalid", "MANIFEST_UNKNOWN"),
        ("/v2/org/app/tags/list", "NAME_UNKNOWN"),
        (f"/v2/org/app/blobs/{Digest.of(b'no')}", "BLOB_UNKNOWN"),
        ("/v2/org/app/blobs/uploads/no", "BLOB_UPLOAD_UNKNOWN"),
        ("/v2/org/app/nothing", "NAME_UNKNOWN"),
    ):
        response, body = await registry.get(path)
        assert (response.status, codes(body)) == (404, [code]), path
    await registry.push_blob(b"something")
    assert codes((await registry.get("/v2/org/app/manifests/v1"))[1]) == ["MANIFEST_UNKNOWN"]


async def test_a_damaged_manifest_is_missing_and_the_error_has_a_hint(registry: Registry) -> None:
    sample = image()
    await push_over_http(registry, sample, "v1")
    path = registry.root / "repositories/org/app/_manifests/sha256" / sample.digest.encoded
    path.write_bytes(path.read_bytes() + b" ")
    response, body = await registry.get("/v2/org/app/manifests/v1")
    assert (response.status, codes(body)) == (404, ["MANIFEST_UNKNOWN"])
    assert b"is damaged in this registry's storage; push the image again" in body


async def test_deleting_a_tag_leaves_the_manifest(registry: Registry) -> None:
    sample = image()
    await push_over_http(registry, sample, "v1")
    async with registry.http.delete("/v2/org/app/manifests/v1") as response:
        assert response.status == 202
    assert (await registry.get("/v2/org/app/manifests/v1"))[0].status == 404
    assert (await registry.get(f"/v2/org/app/manifests/{sample.digest}"))[0].status == 200
    async with registry.http.delete("/v2/org/app/manifests/v1") as response:
        assert response.status == 404


async def test_deleting_a_manifest_deletes_its_tags(registry: Registry) -> None:
    sample, other = image(), image(seed="other")
    for tag in ("v1", "v2"):
        await push_over_http(registry, sample, tag)
    await push_over_http(registry, other, "v3")
    async with registry.http.delete(f"/v2/org/app/manifests/{sample.digest}") as response:
        assert response.status == 202
    assert json.loads((await registry.get("/v2/org/app/tags/list"))[1])["tags"] == ["v3"]


async def test_pages_of_tags_link_to_the_next(registry: Registry) -> None:
    sample = image()
    await push(registry.store, APP, sample)
    for tag in ("b", "a", "c", "B", "10", "9"):
        await registry.store.put_manifest(APP, sample.manifest, Tag(tag))
    seen, url = [], "/v2/org/app/tags/list?n=4"
    while url:
        response, body = await registry.get(url)
        document = json.loads(body)
        assert document["name"] == "org/app"
        seen.append(document["tags"])
        url = response.headers.get("Link", "").partition(">")[0].removeprefix("<")
    assert seen == [["10", "9", "B", "a"], ["b", "c"]]


async def test_a_push_by_digest_writes_the_tags_in_the_query(registry: Registry) -> None:
    sample = image(algorithm="sha512")
    await push(registry.store, APP, sample)

    response = await registry.push_manifest(
        sample.manifest.raw, OCI_MANIFEST, f"{sample.digest}?tag=v1&tag=v1.0&tag=v1"
    )

    assert (response.status, response.headers["OCI-Tag"]) == (201, "v1, v1.0")
    assert registry.pushes == [(APP, Tag(name), sample.digest, "me") for name in ("v1", "v1.0")]
    tags = await registry.store.describe_tags(APP)
    assert {record.tag: record.digest for record in tags} == dict.fromkeys((Tag("v1"), Tag("v1.0")), sample.digest)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("tag=v1&tag=-", 400, "MANIFEST_INVALID"),
        ("&".join(f"tag=v{number}" for number in range(101)), 414, "MANIFEST_INVALID"),
    ],
    ids=["no tag", "too many"],
)
async def test_invalid_tags_in_the_query_are_refused_before_the_push(
    registry: Registry, query: str, status: int, code: str
) -> None:
    sample = image()
    for content in sample.blobs.values():
        await registry.push_blob(content)

    response, body = await registry.put_manifest(sample.manifest.raw, OCI_MANIFEST, f"{sample.digest}?{query}")

    assert (response.status, codes(body)) == (status, [code])
    assert await registry.store.head_manifest(APP, sample.digest) is None


async def test_a_push_by_tag_ignores_the_tags_in_the_query(registry: Registry) -> None:
    sample = image()
    await push(registry.store, APP, sample)

    response = await registry.push_manifest(sample.manifest.raw, OCI_MANIFEST, "v1?tag=v2")

    assert "OCI-Tag" not in response.headers
    assert [record.tag for record in await registry.store.describe_tags(APP)] == ["v1"]


async def test_a_page_may_be_empty_and_may_start_anywhere(registry: Registry) -> None:
    sample = image()
    await push(registry.store, APP, sample, Tag("b"))
    for query, tags in (("n=0", []), ("last=a", ["b"]), ("last=b&n=3", []), ("n=1&last=aa", ["b"])):
        response, body = await registry.get(f"/v2/org/app/tags/list?{query}")
        assert (json.loads(body)["tags"], "Link" in response.headers) == (tags, False), query
    response, body = await registry.get("/v2/org/app/tags/list?n=many")
    assert (response.status, codes(body)) == (400, ["PAGINATION_NUMBER_INVALID"])


async def test_referrers_are_listed_and_filtered(registry: Registry) -> None:
    subject = image()
    signature = artifact(subject=subject.manifest, artifact_type="application/x.signature")
    bill = artifact(subject=subject.manifest, artifact_type="application/x.sbom")
    for sample in (signature, bill):
        for content in sample.blobs.values():
            await registry.push_blob(content)
        # The subject itself may come later, or never.
        response = await registry.push_manifest(sample.manifest.raw, OCI_MANIFEST, sample.digest)
        assert response.headers["OCI-Subject"] == subject.digest
    response, body = await registry.get(f"/v2/org/app/referrers/{subject.digest}")
    document = json.loads(body)
    assert response.headers["Content-Type"] == document["mediaType"] == OCI_INDEX
    assert {entry["digest"] for entry in document["manifests"]} == {signature.digest, bill.digest}
    response, body = await registry.get(f"/v2/org/app/referrers/{subject.digest}?artifactType=application/x.sbom")
    (entry,) = json.loads(body)["manifests"]
    assert (entry["digest"], entry["artifactType"]) == (bill.digest, "application/x.sbom")
    assert entry["annotations"]
    assert response.headers["OCI-Filters-Applied"] == "artifactType"


async def test_a_deleted_referrer_is_not_listed(registry: Registry) -> None:
    subject = image()
    signature = artifact(subject=subject.manifest)
    await push(registry.store, APP, signature)
    await registry.store.delete_manifest(APP, signature.digest)
    response, body = await registry.get(f"/v2/org/app/referrers/{subject.digest}")
    assert (response.status, json.loads(body)["manifests"]) == (200, [])
    assert (await registry.get("/v2/org/app/referrers/none"))[0].status == 400


async def test_the_catalog_shows_what_the_caller_may_pull(registry: Registry) -> None:
    for name in ("org/b", "org/a", "org/a-c", "org/a/b", "other/secret"):
        await registry.push_blob(b"x", name)
    registry.authorizer.hidden.add("other/secret")
    response, body = await registry.get("/v2/_catalog?n=2")
    assert json.loads(body)["repositories"] == ["org/a", "org/a-c"]
    response, body = await registry.get(response.headers["Link"].partition(">")[0].removeprefix("<"))
    assert json.loads(body)["repositories"] == ["org/a/b", "org/b"]
    assert "Link" not in response.headers


async def test_indexes_nest_up_to_a_bound(registry: Registry) -> None:
    nested = image()
    for _ in range(bounds.INDEX_DEPTH):
        nested = index(nested)
        await push(registry.store, APP, nested, Tag("v1"))
    with pytest.raises(Invalid, match="levels deep"):
        await push(registry.store, APP, index(nested), Tag("v1"))
    assert (await registry.store.describe_tags(APP))[0].digest == nested.digest


@pytest.mark.parametrize("bound", ["IMAGE_MANIFESTS", "NESTED_INDEX_BYTES"])
async def test_an_index_with_too_many_nested_indexes_is_refused(registry, monkeypatch, bound: str) -> None:
    wide = index(*(index(image(seed=str(number))) for number in range(5)))
    monkeypatch.setattr(bounds, bound, 4)
    with pytest.raises(Invalid, match="must not contain more than"):
        await push(registry.store, APP, wide, Tag("v1"))
    raw = wide.manifest.raw
    assert (await registry.push_manifest(raw, wide.manifest.media_type, "v1")).status == 400
