"""Indexes that list blobs instead of manifests, as BuildKit exports its cache, are copied like any image."""

import pytest

from tagferry.copy.engine import CopyEngine
from tagferry.copy.plan import plan_tag
from tagferry.copy.preflight import Verdict
from tagferry.copy.referrers import ReferrerSearch
from tagferry.copy.rewrite import Acceptance
from tagferry.errors import NotFound, Unsupported
from tagferry.names import Digest
from tests.support.images import SampleImage, artifact, blob, image, index, layer, listing_blobs, push, read
from tests.unit.copy.stores import APP, COPY, V1, ScriptedStore, route

UNKNOWN = "application/vnd.example.thing+json"
CACHE = listing_blobs()
THING = listing_blobs(b'{"a": 1}', layer("one"), media_types=(UNKNOWN, "application/octet-stream"))
LARGE = listing_blobs(bytes(4 * 1024 * 1024 + 1), media_types=(UNKNOWN,))
MIXED = listing_blobs(b"[]", media_types=(UNKNOWN,), children=(image(),))
SAMPLES = {
    "cache": CACHE,
    "unknown type": THING,
    "large": LARGE,
    "blob and image": MIXED,
    "nested": index(THING, image()),
}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
async def test_it_is_copied_with_its_blobs_and_then_up_to_date(
    source: ScriptedStore, target: ScriptedStore, sample: SampleImage
):
    await push(source, APP, sample, V1)

    await CopyEngine().copy(route(source, target), V1, override=False)

    assert (await target.get_manifest(COPY, V1)).raw == sample.manifest.raw
    for content in sample.all_blobs.values():
        assert await read(target, COPY, blob(content)) == content
    assert (await CopyEngine().copy(route(source, target), V1, override=False)).verdict is Verdict.UP_TO_DATE


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
async def test_its_plan_names_each_blob(source: ScriptedStore, target: ScriptedStore, sample: SampleImage):
    await push(source, APP, sample, V1)

    plan = await plan_tag(route(source, target), V1)

    assert {one.digest for one in plan.blobs} == set(sample.all_blobs)


async def test_a_blob_that_the_target_loses_is_sent_again_before_the_tag(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, CACHE, V1)
    lost = next(iter(CACHE.blobs))
    engine = CopyEngine()
    await engine.copy(route(source, target), V1, override=False)
    await target.delete_manifest(COPY, V1)
    await target.delete_blob(COPY, lost)

    await engine.copy(route(source, target), V1, override=False)

    assert await target.stat_blob(COPY, lost) is not None


async def test_a_listed_blob_is_copied_even_if_a_signature_is_left_out(source: ScriptedStore, target: ScriptedStore):
    signature = artifact(subject=MIXED.manifest, payload=b"signature")
    await push(source, APP, MIXED, V1)
    await push(source, APP, signature)
    plan = await plan_tag(route(source, target), V1, search=ReferrerSearch())
    listed, payload = Digest.of(b"[]"), signature.manifest.layers[0].digest

    assert payload in plan.referrer_blobs
    assert listed not in plan.referrer_blobs
    assert {one.digest for one in plan.without(payload, "it is lost").blobs} == set(MIXED.all_blobs)


async def test_an_entry_that_is_neither_a_manifest_nor_a_blob_is_missing(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, THING, V1)
    await source.delete_blob(APP, Digest.of(b'{"a": 1}'))

    with pytest.raises(NotFound):
        await plan_tag(route(source, target), V1)


async def test_an_error_for_a_blob_read_as_a_manifest_leads_to_a_blob_request(
    source: ScriptedStore, target: ScriptedStore
):
    await push(source, APP, THING, V1)
    source.failures[Digest.of(b'{"a": 1}')] = Unsupported("manifests of this type are not supported")

    plan = await plan_tag(route(source, target), V1)

    assert {one.digest for one in plan.blobs} == set(THING.blobs)


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
@pytest.mark.parametrize(
    "accepts",
    [
        Acceptance(platforms=("linux/amd64",)),
        Acceptance(platforms=("linux/amd64",), rewrite=True),
        Acceptance(attestations=False),
        Acceptance(format="oci", rewrite=True),
    ],
    ids=["platforms", "rewritten platforms", "attestations", "format"],
)
async def test_it_is_not_affected_by_accepted_platforms(
    source: ScriptedStore, target: ScriptedStore, sample: SampleImage, accepts: Acceptance
):
    await push(source, APP, sample, V1)

    outcome = await CopyEngine().copy(route(source, target, accepts=accepts), V1, override=False)

    assert (outcome.digest, outcome.rewritten) == (sample.digest, None)


async def test_an_index_without_some_platforms_keeps_its_blobs(source: ScriptedStore, target: ScriptedStore):
    arm = image(seed="arm", platform=("linux", "arm64"))
    sample = listing_blobs(layer("one"), media_types=("application/octet-stream",), children=(image(), arm))
    await push(source, APP, sample, V1)
    accepts = Acceptance(platforms=("linux/amd64",), rewrite=True)

    await CopyEngine().copy(route(source, target, accepts=accepts), V1, override=False)

    root = await target.get_manifest(COPY, V1)
    assert [one.digest for one in root.listed] == [Digest.of(layer("one")), image().digest]


async def test_it_has_no_equivalent_in_the_docker_format(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, CACHE, V1)

    with pytest.raises(Unsupported, match=r"manifests\[0\], which has no platform, has no equivalent"):
        await plan_tag(route(source, target, accepts=Acceptance(format="docker", rewrite=True)), V1)
