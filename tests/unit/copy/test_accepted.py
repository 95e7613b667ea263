"""Copies to a target that does not accept every image unchanged."""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as WebRoute

from tagferry import bounds
from tagferry.copy.engine import CopyEngine
from tagferry.copy.estimate import Estimate
from tagferry.copy.outcome import Outcome
from tagferry.copy.plan import plan_tag
from tagferry.copy.preflight import Finding, Verdict, compare
from tagferry.copy.rewrite import Acceptance, Rewrite
from tagferry.copy.route import Route
from tagferry.errors import Invalid, NotFound, Unsupported
from tagferry.names import Digest, Tag
from tagferry.oci.model import OCI_CONFIG, OCI_MANIFEST, Descriptor, Manifest
from tagferry.oci.referrer_tags import cosign_tags
from tagferry.remote import Endpoint, RemoteStore
from tests.support.images import SampleImage, artifact, attested, blob, image, index, opening, push, read
from tests.support.serving import serving
from tests.unit.copy.stores import APP, COPY, V1, ScriptedStore, route
from tests.unit.copy.test_plan import FOREIGN, listing

IMAGE = index()
AMD, ARM = IMAGE.children
ONLY_AMD = Acceptance(platforms=("linux/amd64",))
MAKE_AMD = Acceptance(platforms=("linux/amd64",), rewrite=True)
MAKE_DOCKER = Acceptance(format="docker", rewrite=True)
WITH_FOREIGN = Acceptance(foreign_layers=True)


async def copy(source: ScriptedStore, target: ScriptedStore, accepts: Acceptance, *, override: bool = False) -> Outcome:
    return await CopyEngine().copy(route(source, target, accepts=accepts), V1, override=override)


async def test_only_the_wanted_platform_arrives_under_a_new_index(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, IMAGE, V1)

    outcome = await copy(source, target, MAKE_AMD)

    root = await target.get_manifest(COPY, V1)
    assert outcome.digest == root.digest
    assert outcome.rewritten == Rewrite(digests={IMAGE.digest: root.digest}, left_behind=(ARM.digest,))
    assert [child.digest for child in root.children] == [AMD.digest]
    assert (await target.get_manifest(COPY, AMD.digest)).raw == AMD.manifest.raw
    for content in AMD.blobs.values():
        assert await read(target, COPY, blob(content)) == content
    assert await target.head_manifest(COPY, ARM.digest) is None
    assert [await target.stat_blob(COPY, digest) for digest in ARM.blobs] == [None, None]


async def test_a_refused_image_transfers_nothing_and_writes_no_tag(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, IMAGE, V1)

    with pytest.raises(Unsupported, match=r"also lists linux/arm64; to copy.* set rewrite = true"):
        await copy(source, target, ONLY_AMD)

    assert target.log == []


@pytest.mark.parametrize("accepts", [ONLY_AMD, MAKE_AMD])
async def test_a_single_image_is_judged_by_its_config(
    source: ScriptedStore, target: ScriptedStore, accepts: Acceptance
):
    await push(source, APP, AMD, V1)
    assert await copy(source, target, accepts) == Outcome(verdict=Verdict.COPY, digest=AMD.digest)

    await push(source, APP, image(platform=("linux", "arm", "v6")), V1)
    with pytest.raises(Unsupported, match="this image is for linux/arm/v6"):
        await copy(source, target, accepts, override=True)


@pytest.mark.parametrize("content", [b"not JSON", b"[]", b"{}", b'{"os": 7}'])
async def test_an_image_whose_config_has_no_platform_has_an_unknown_one(
    source: ScriptedStore, target: ScriptedStore, content: bytes
):
    await push(source, APP, configured(content), V1)

    with pytest.raises(Unsupported, match="this image is for unknown/unknown"):
        await copy(source, target, ONLY_AMD)


async def test_a_config_is_read_only_up_to_a_limit(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, configured(b" " * (bounds.CONFIG_BYTES + 1)), V1)

    with pytest.raises(Invalid, match="config must have at most 4194304 bytes to be read for its platform"):
        await copy(source, target, ONLY_AMD)


async def test_a_rewritten_image_is_up_to_date_by_its_new_digest(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, IMAGE, V1)
    first = await copy(source, target, MAKE_AMD)
    target.log.clear()

    again = await copy(source, target, MAKE_AMD)

    assert again == Outcome(verdict=Verdict.UP_TO_DATE, digest=first.digest, rewritten=first.rewritten)
    assert target.log == []


@pytest.mark.parametrize(("override", "verdict"), [(False, Verdict.BLOCKED), (True, Verdict.COPY)])
@pytest.mark.parametrize("standing", [IMAGE, AMD], ids=["the image as it is", "another image"])
async def test_another_image_than_the_rewritten_one_is_replaced_only_with_override(
    source: ScriptedStore, target: ScriptedStore, standing: SampleImage, override: bool, verdict: Verdict
):
    await push(source, APP, IMAGE, V1)
    await push(target, COPY, standing, V1)

    found = await compare(route(source, target, accepts=MAKE_AMD), V1, override=override)

    assert found == Finding(tag=V1, verdict=verdict, source=IMAGE.digest, target=standing.digest)


@pytest.mark.parametrize("accepts", [ONLY_AMD, MAKE_AMD])
async def test_an_accepted_image_is_up_to_date_by_its_own_digest(
    source: ScriptedStore, target: ScriptedStore, accepts: Acceptance
):
    await push(source, APP, AMD, V1)
    await push(target, COPY, AMD, V1)

    assert await copy(source, target, accepts) == Outcome(verdict=Verdict.UP_TO_DATE, digest=AMD.digest)


@pytest.mark.parametrize("accepts", [Acceptance(), WITH_FOREIGN, ONLY_AMD])
async def test_without_rewriting_the_source_gets_no_additional_requests(
    source: ScriptedStore, target: ScriptedStore, accepts: Acceptance
):
    await push(source, APP, AMD, V1)
    await push(target, COPY, AMD, V1)
    source.counts.clear()

    await CopyEngine(referrers=False).copy(route(source, target, accepts=accepts), V1, override=False)

    assert source.counts == {"head_manifest": 1}


async def test_by_default_no_config_is_read_and_no_layer_is_queried(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, IMAGE, V1)
    source.counts.clear()

    await plan_tag(route(source, target), V1)

    assert source.counts == {"get_manifest": 3}


async def test_referrers_of_unchanged_manifests_are_copied_and_others_reported(
    source: ScriptedStore, target: ScriptedStore
):
    kept = artifact(subject=AMD.manifest, payload=b"of a platform that is kept")
    left = artifact(subject=IMAGE.manifest, payload=b"of the index")
    sig = cosign_tags(IMAGE.digest)[0]
    for sample, tag in ((IMAGE, V1), (kept, None), (left, None), (image(seed="cosign"), sig)):
        await push(source, APP, sample, tag)

    outcome = await copy(source, target, MAKE_AMD)

    assert await target.head_manifest(COPY, kept.digest) is not None
    assert await target.head_manifest(COPY, left.digest) is None
    assert await target.tag(COPY, sig) is None
    assert outcome.rewritten is not None
    assert outcome.rewritten.left_behind == (ARM.digest, left.digest, sig)
    assert (await copy(source, target, MAKE_AMD)).verdict is Verdict.UP_TO_DATE


async def test_a_converted_image_has_the_same_blobs(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, IMAGE, V1)

    outcome = await copy(source, target, MAKE_DOCKER)

    assert outcome.rewritten is not None
    assert set(outcome.rewritten.digests) == {IMAGE.digest, AMD.digest, ARM.digest}
    for child in (await target.get_manifest(COPY, V1)).children:
        for found in (await target.get_manifest(COPY, child.digest)).blobs:
            assert await read(target, COPY, found) == IMAGE.all_blobs[found.digest]


async def test_a_dry_run_reports_the_rewrite(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, IMAGE, V1)
    way = route(source, target, accepts=MAKE_AMD)

    before = (await CopyEngine().estimate_all(way, [V1], override=False))[V1]
    outcome = await copy(source, target, MAKE_AMD)
    after = (await CopyEngine().estimate_all(way, [V1], override=False))[V1]

    assert isinstance(before, Estimate)
    assert isinstance(after, Estimate)
    assert (before.verdict, after.verdict) == (Verdict.COPY, Verdict.UP_TO_DATE)
    assert before.source == after.source == IMAGE.digest
    assert before.rewritten == after.rewritten == outcome.rewritten
    assert before.to_copy == sum(map(len, AMD.blobs.values()))


@pytest.mark.parametrize("holder", ["source", "target"])
async def test_foreign_layers_are_copied_if_configured_and_the_manifest_is_unchanged(
    source: ScriptedStore, target: ScriptedStore, holder: str
):
    sample = with_foreign_layer()
    await push(source, APP, sample, V1)
    store, repository = (source, APP) if holder == "source" else (target, COPY)
    await store.write_blob(repository, blob(b"foreign"), opening(b"foreign"))

    outcome = await copy(source, target, WITH_FOREIGN)

    assert outcome == Outcome(verdict=Verdict.COPY, digest=sample.digest)
    assert await read(target, COPY, blob(b"foreign")) == b"foreign"


async def test_an_unavailable_foreign_layer_is_reported_with_its_urls(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, with_foreign_layer(), V1)

    with pytest.raises(NotFound, match=rf'{Digest.of(b"foreign")}" does not exist; .*https://example\.org/layer$'):
        await copy(source, target, WITH_FOREIGN)

    assert target.log == []


def with_foreign_layer() -> SampleImage:
    return listing(blob(b"foreign", media_type=FOREIGN).to_json() | {"urls": ["https://example.org/layer"]})


def configured(content: bytes) -> SampleImage:
    """An image with this config."""
    config = blob(content, media_type=OCI_CONFIG).to_json()
    raw = f'{{"schemaVersion": 2, "config": {{"mediaType": "{OCI_CONFIG}", "size": {config["size"]}, '
    raw += f'"digest": "{config["digest"]}"}}, "layers": []}}'
    return SampleImage(manifest=Manifest.parse(raw.encode(), OCI_MANIFEST), blobs={Digest.of(content): content})


SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"


@pytest.mark.parametrize("accepts", [Acceptance(), MAKE_AMD, MAKE_DOCKER])
async def test_schema_1_is_refused_with_a_hint_whatever_the_target_accepts(target: ScriptedStore, accepts: Acceptance):
    def answer(request: Request) -> Response:
        return Response(b'{"schemaVersion": 1, "fsLayers": []}', media_type=SCHEMA_1)

    app = Starlette(routes=[WebRoute("/v2/{path:path}", answer, methods=["GET", "HEAD"])])
    async with serving(app) as url:
        old = RemoteStore(Endpoint(name="old", url=url))
        way = Route(source=old, source_repository=APP, target=target, target_repository=COPY, accepts=accepts)
        try:
            with pytest.raises(Unsupported, match="schema 1 are not supported; push the image again with a current"):
                await CopyEngine(referrers=False).copy(way, V1, override=False)
        finally:
            await old.close()

    assert target.log == []


async def test_an_image_is_copied_without_its_attestations_and_their_signatures_are_reported(
    source: ScriptedStore, target: ScriptedStore
):
    sample = attested(AMD, ARM)
    await push(source, APP, sample, V1)
    (root_tag, *_), (amd_tag, *_) = cosign_tags(sample.digest), cosign_tags(AMD.digest)
    for tag in (root_tag, amd_tag):
        await push(source, APP, artifact(payload=tag.encode()), tag)
    accepts = Acceptance(attestations=False)

    outcome = await copy(source, target, accepts)

    root = await target.get_manifest(COPY, V1)
    left = (*(one.digest for one in sample.children[2:]), root_tag)
    assert [child.digest for child in root.children] == [AMD.digest, ARM.digest]
    assert outcome.rewritten == Rewrite(digests={sample.digest: root.digest}, left_behind=left)
    assert await target.head_manifest(COPY, amd_tag) is not None
    assert await target.head_manifest(COPY, root_tag) is None
    assert [await target.head_manifest(COPY, one.digest) for one in sample.children[2:]] == [None, None]
    assert (await copy(source, target, accepts)).verdict is Verdict.UP_TO_DATE


async def test_a_removed_attestation_with_a_subject_is_not_copied_as_a_referrer(
    source: ScriptedStore, target: ScriptedStore
):
    told = artifact(subject=AMD.manifest, artifact_type="application/vnd.docker.attestation.manifest.v1+json")
    signature = artifact(subject=told.manifest)
    await push(source, APP, index(AMD, told), V1)
    await push(source, APP, signature, None)

    outcome = await copy(source, target, Acceptance(attestations=False))

    assert outcome.rewritten is not None
    assert outcome.rewritten.left_behind == (told.digest,)
    assert await target.head_manifest(COPY, told.digest) is None
    assert await target.head_manifest(COPY, signature.digest) is None


async def test_the_image_of_a_blocked_tag_is_read_once(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, IMAGE, V1)
    await push(target, COPY, artifact(), V1)
    source.counts.clear()

    found = await compare(route(source, target, accepts=MAKE_AMD), V1, override=False)

    assert found.verdict is Verdict.BLOCKED
    # The index and both of its images; then the index by its tag, which confirms the digest of the header.
    assert source.counts["get_manifest"] == 4


async def test_a_wrong_digest_in_a_header_does_not_block_a_rewritten_image_that_is_up_to_date(
    source: ScriptedStore, target: ScriptedStore, monkeypatch: pytest.MonkeyPatch
):
    other = index(image(seed="other"), ARM)
    await push(source, APP, other, Tag("other"))
    await push(source, APP, IMAGE, V1)
    copied = await copy(source, target, MAKE_AMD)

    async def head(*_arguments: Any, **_terms: Any) -> Descriptor:
        return other.manifest.descriptor

    monkeypatch.setattr(source, "head_manifest", head)
    found = await compare(route(source, target, accepts=MAKE_AMD), V1, override=False)

    assert (found.verdict, found.source, found.target) == (Verdict.UP_TO_DATE, IMAGE.digest, copied.digest)
    assert found.rewritten == copied.rewritten
