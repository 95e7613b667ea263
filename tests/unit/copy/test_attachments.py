"""Signatures, attestations and bills of materials go with their images."""

from itertools import pairwise

import pytest

from tagferry.copy.examine import Verdict
from tagferry.copy.run import CopyEngine
from tagferry.names import Digest, Tag
from tagferry.oci.attachments import cosign_tags, referrers_tag
from tests.support.images import SampleImage, artifact, image, index, push
from tests.unit.copy.stores import APP, COPY, V1, V2, ScriptedStore, route

IMAGE = index()
SIGNATURE = artifact(subject=IMAGE.manifest, payload=b"signature")
SBOM = artifact(subject=IMAGE.children[0].manifest, artifact_type="application/spdx+json", payload=b"sbom")
SBOM_SIGNATURE = artifact(subject=SBOM.manifest, payload=b"signature of the sbom")
COSIGN = image(seed="cosign signature")
SIG = cosign_tags(IMAGE.digest)[0]


async def copy(source: ScriptedStore, target: ScriptedStore, tag: Tag = V1, *, override: bool = False) -> Verdict:
    return (await CopyEngine().copy(route(source, target), tag, override=override)).verdict


async def referrers(store: ScriptedStore, subject: Digest) -> set[Digest]:
    return {found.digest for found in await store.list_referrers(COPY, subject)}


@pytest.fixture
async def signed(source: ScriptedStore) -> ScriptedStore:
    """A source with a signed image, a bill of materials of one platform, and a signature of that."""
    for sample, tag in ((IMAGE, V1), (SIGNATURE, None), (SBOM, None), (SBOM_SIGNATURE, None), (COSIGN, SIG)):
        await push(source, APP, sample, tag)
    return source


async def test_everything_that_is_attached_arrives(signed: ScriptedStore, target: ScriptedStore):
    assert await copy(signed, target) is Verdict.COPY

    assert await referrers(target, IMAGE.digest) == {SIGNATURE.digest}
    assert await referrers(target, IMAGE.children[0].digest) == {SBOM.digest}
    assert await referrers(target, SBOM.digest) == {SBOM_SIGNATURE.digest}
    assert await target.tag(COPY, SIG) == COSIGN.digest
    for sample in (SIGNATURE, SBOM, SBOM_SIGNATURE, COSIGN):
        for digest in sample.all_blobs:
            assert await target.stat_blob(COPY, digest) is not None


async def test_attachments_stand_before_the_tag_does(signed: ScriptedStore, target: ScriptedStore):
    await copy(signed, target)

    assert target.log[-1] == f"tag {V1}"
    assert target.log.index(f"manifest {SIGNATURE.digest}") > target.log.index(f"manifest {IMAGE.digest}")


async def test_a_signature_that_came_later_is_brought_to_an_image_that_is_in_place(
    source: ScriptedStore, target: ScriptedStore
):
    await push(source, APP, IMAGE, V1)
    await copy(source, target)
    await push(source, APP, SIGNATURE)

    assert await copy(source, target) is Verdict.COPY
    assert await referrers(target, IMAGE.digest) == {SIGNATURE.digest}
    assert await copy(source, target) is Verdict.IN_PLACE


async def test_a_cosign_tag_that_came_later_is_brought_too(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, IMAGE, V1)
    await copy(source, target)
    await push(source, APP, COSIGN, SIG)

    assert await copy(source, target) is Verdict.COPY
    assert await target.tag(COPY, SIG) == COSIGN.digest


@pytest.mark.parametrize("override", [False, True])
async def test_the_targets_own_cosign_tag_is_replaced_only_with_override(
    signed: ScriptedStore, target: ScriptedStore, override: bool
):
    own = image(seed="the target's own signature")
    await push(target, COPY, own, SIG)

    assert await copy(signed, target, override=override) is Verdict.COPY

    assert await target.tag(COPY, SIG) == (COSIGN.digest if override else own.digest)
    assert await copy(signed, target, override=override) is Verdict.IN_PLACE


async def test_attachments_stay_behind_where_that_is_wanted(signed: ScriptedStore, target: ScriptedStore):
    await CopyEngine(attachments=False).copy(route(signed, target), V1, override=False)

    assert await referrers(target, IMAGE.digest) == set()
    assert await target.tag(COPY, SIG) is None
    assert f"manifest {IMAGE.digest}" not in target.log


async def test_an_attachment_that_cannot_be_read_leaves_the_tag_unwritten(signed: ScriptedStore, target: ScriptedStore):
    signed.failures[SBOM.digest] = ConnectionError("gone")

    with pytest.raises(ConnectionError):
        await copy(signed, target)

    assert await target.tag(COPY, V1) is None


async def test_the_tags_are_listed_once_for_all_the_tags_of_a_repository(signed: ScriptedStore, target: ScriptedStore):
    await push(signed, APP, image(seed="another"), V2)
    signed.counts.clear()
    engine, way = CopyEngine(), route(signed, target)

    await engine.copy(way, V1, override=False)
    await engine.copy(way, V2, override=False)

    assert signed.counts["list_tags"] == 1


async def test_images_that_attach_to_each_other_end(source: ScriptedStore, target: ScriptedStore):
    chain: list[SampleImage] = [IMAGE]
    await push(source, APP, IMAGE, V1)
    for step in range(5):
        chain.append(artifact(subject=chain[-1].manifest, payload=f"step {step}".encode()))
        await push(source, APP, chain[-1])

    await copy(source, target)

    for below, above in pairwise(chain):
        assert await referrers(target, below.digest) == {above.digest}


def test_the_tags_of_the_schemas_are_those_of_the_specifications():
    digest = Digest("sha256:" + "a" * 64)
    assert referrers_tag(digest) == f"sha256-{'a' * 64}"
    assert [tag.rpartition(".")[2] for tag in cosign_tags(digest)] == ["sig", "att", "sbom"]
