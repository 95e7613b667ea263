"""Signatures, attestations and bills of materials are copied with their images."""

import json
from itertools import pairwise
from typing import Literal

import pytest

from tagferry import bounds
from tagferry.copy.engine import CopyEngine
from tagferry.copy.preflight import Verdict
from tagferry.copy.referrers import NO_GAPS, Gaps
from tagferry.errors import (
    Corrupt,
    Incomplete,
    NotFound,
    Refused,
    TagferryError,
    TooLarge,
    Unavailable,
    Unsupported,
)
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.model import OCI_MANIFEST, Manifest
from tagferry.oci.referrer_tags import cosign_tags, referrers_tag
from tests.support.images import SampleImage, artifact, blob, image, index, opening, push
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


async def referrers_in_part(store: ScriptedStore, subject: Digest) -> set[Digest]:
    with pytest.raises(Incomplete) as caught:
        await store.list_referrers(COPY, subject)
    return {found.digest for found in caught.value.found}


@pytest.fixture
async def signed(source: ScriptedStore) -> ScriptedStore:
    """A source with a signed image, a bill of materials of one platform, and a signature of the latter."""
    for sample, tag in ((IMAGE, V1), (SIGNATURE, None), (SBOM, None), (SBOM_SIGNATURE, None), (COSIGN, SIG)):
        await push(source, APP, sample, tag)
    return source


async def test_all_referrers_are_copied(signed: ScriptedStore, target: ScriptedStore):
    assert await copy(signed, target) is Verdict.COPY

    assert await referrers(target, IMAGE.digest) == {SIGNATURE.digest}
    assert await referrers(target, IMAGE.children[0].digest) == {SBOM.digest}
    assert await referrers(target, SBOM.digest) == {SBOM_SIGNATURE.digest}
    assert await target.tag(COPY, SIG) == COSIGN.digest
    for sample in (SIGNATURE, SBOM, SBOM_SIGNATURE, COSIGN):
        for digest in sample.all_blobs:
            assert await target.stat_blob(COPY, digest) is not None


async def test_referrers_are_written_before_the_tag(signed: ScriptedStore, target: ScriptedStore):
    await copy(signed, target)

    assert target.log[-1] == f"tag {V1}"
    assert target.log.index(f"manifest {SIGNATURE.digest}") > target.log.index(f"manifest {IMAGE.digest}")


async def test_a_later_signature_is_copied_to_an_image_that_is_up_to_date(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, IMAGE, V1)
    await copy(source, target)
    await push(source, APP, SIGNATURE)

    assert await copy(source, target) is Verdict.COPY
    assert await referrers(target, IMAGE.digest) == {SIGNATURE.digest}
    assert await copy(source, target) is Verdict.UP_TO_DATE


async def test_a_later_cosign_tag_is_copied_too(source: ScriptedStore, target: ScriptedStore):
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
    assert await copy(signed, target, override=override) is Verdict.UP_TO_DATE


async def test_referrers_are_not_copied_if_configured(signed: ScriptedStore, target: ScriptedStore):
    await CopyEngine(referrers=False).copy(route(signed, target), V1, override=False)

    assert await referrers(target, IMAGE.digest) == set()
    assert await target.tag(COPY, SIG) is None
    assert f"manifest {IMAGE.digest}" not in target.log


async def test_an_unreadable_referrer_leaves_the_tag_unwritten(signed: ScriptedStore, target: ScriptedStore):
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

    assert signed.counts["list_tags_within"] == 1


async def test_a_cycle_of_referrers_terminates(source: ScriptedStore, target: ScriptedStore):
    chain: list[SampleImage] = [IMAGE]
    await push(source, APP, IMAGE, V1)
    for step in range(5):
        chain.append(artifact(subject=chain[-1].manifest, payload=f"step {step}".encode()))
        await push(source, APP, chain[-1])

    await copy(source, target)

    for below, above in pairwise(chain):
        assert await referrers(target, below.digest) == {above.digest}


@pytest.mark.parametrize("fault", [Refused("it answered 403"), Unavailable("it is away")])
async def test_an_incomplete_search_copies_the_referrers_found_and_reports_a_gap(
    signed: ScriptedStore, target: ScriptedStore, fault: TagferryError
):
    signed.referrer_failures[IMAGE.digest] = fault

    for verdict in (Verdict.COPY, Verdict.UP_TO_DATE):
        outcome = await CopyEngine().copy(route(signed, target), V1, override=False)
        assert (outcome.verdict, outcome.gaps) == (verdict, Gaps(search_error=fault.message))

    assert await referrers(target, IMAGE.digest) == {SIGNATURE.digest}
    assert await target.tag(COPY, SIG) == COSIGN.digest


@pytest.mark.parametrize("fault", [Refused("it answered 403"), Unavailable("it is away")])
async def test_required_referrers_fail_the_copy_if_the_search_is_incomplete(
    signed: ScriptedStore, target: ScriptedStore, fault: TagferryError
):
    signed.referrer_failures[IMAGE.digest] = fault
    engine = CopyEngine(referrers="required")

    with pytest.raises(type(fault), match=f'sync.referrers is "required": {fault.message}'):
        await engine.copy(route(signed, target), V1, override=False)
    assert await target.tag(COPY, V1) is None

    signed.referrer_failures.clear()
    assert (await engine.copy(route(signed, target), V1, override=False)).verdict is Verdict.COPY
    signed.referrer_failures[IMAGE.digest] = fault
    with pytest.raises(type(fault)):
        await engine.copy(route(signed, target), V1, override=False)


@pytest.mark.parametrize("part", [SIGNATURE.digest, next(iter(SIGNATURE.blobs)), list(SIGNATURE.blobs)[-1]])
async def test_the_last_attempt_leaves_out_temporarily_unreadable_referrers(
    signed: ScriptedStore, target: ScriptedStore, part: Digest
):
    signed.failures[part] = Unavailable("the registry answered 500")
    copying = CopyEngine()
    with pytest.raises(Unavailable):
        await copying.copy(route(signed, target), V1, override=False)

    outcome = await copying.copy(route(signed, target), V1, override=False, is_last=lambda _: True)

    assert await target.tag(COPY, V1) == IMAGE.digest
    assert SIGNATURE.digest in outcome.gaps.left_behind
    assert outcome.gaps.unfinished == "the registry answered 500"
    assert SIGNATURE.digest not in await referrers(target, IMAGE.digest)


@pytest.mark.parametrize("mode", [True, "required"])
async def test_the_last_attempt_fails_for_the_image_itself_or_a_required_referrer(
    signed: ScriptedStore, target: ScriptedStore, mode: Literal[True, "required"]
):
    part = SIGNATURE.digest if mode == "required" else next(iter(IMAGE.all_blobs))
    signed.failures[part] = Unavailable("the registry answered 500")

    with pytest.raises(Unavailable):
        await CopyEngine(referrers=mode).copy(route(signed, target), V1, override=False, is_last=lambda _: True)
    assert await target.tag(COPY, V1) is None


LOST = artifact(subject=IMAGE.manifest, payload=b"lost")
UNREADABLE = [
    None,
    Corrupt("its bytes hash to something else"),
    Unsupported("manifests of the media type x are not supported"),
    TooLarge("the answer", "must have at most 4194304 bytes"),
    Refused("it answered 403"),
]


async def list_unreadable(store: ScriptedStore, fault: TagferryError | None) -> None:
    """List a referrer that cannot be read, because it does not exist or with this error."""
    if fault is None:
        store.dangling[IMAGE.digest] = [LOST.manifest.referrer_descriptor]
        return
    await push(store, APP, LOST)
    store.failures[LOST.digest] = fault


@pytest.mark.parametrize("fault", UNREADABLE)
async def test_a_listed_but_unreadable_referrer_is_left_out_and_reported(
    signed: ScriptedStore, target: ScriptedStore, fault: TagferryError | None
):
    await list_unreadable(signed, fault)

    for verdict in (Verdict.COPY, Verdict.UP_TO_DATE):
        outcome = await CopyEngine().copy(route(signed, target), V1, override=False)
        assert outcome.verdict is verdict
        assert list(outcome.gaps.left_behind) == [LOST.digest]
        assert outcome.gaps.search_error is None

    assert await referrers(target, IMAGE.digest) == {SIGNATURE.digest}


@pytest.mark.parametrize(("fault", "fails"), list(zip(UNREADABLE, [False, False, True, True, True], strict=True)))
async def test_a_lost_referrer_is_not_required(
    signed: ScriptedStore, target: ScriptedStore, fault: TagferryError | None, fails: bool
):
    await list_unreadable(signed, fault)
    copying = CopyEngine(referrers="required").copy(route(signed, target), V1, override=False)

    if fails:
        with pytest.raises(Refused, match="required"):
            await copying
    else:
        assert list((await copying).gaps.left_behind) == [LOST.digest]
    assert await target.tag(COPY, V1) == (None if fails else IMAGE.digest)


@pytest.mark.parametrize("mode", [True, "required"])
async def test_a_signature_with_lost_content_is_left_out_with_its_referrers(
    source: ScriptedStore, target: ScriptedStore, mode: Literal[True, "required"]
):
    above = artifact(subject=LOST.manifest, payload=b"signature of what is lost")
    for sample, tag in ((IMAGE, V1), (SIGNATURE, None), (LOST, None), (above, None), (COSIGN, SIG)):
        await push(source, APP, sample, tag)
    for sample in (LOST, COSIGN):
        await source.delete_blob(APP, next(blob.digest for blob in sample.manifest.layers))

    outcome = await CopyEngine(referrers=mode).copy(route(source, target), V1, override=False)

    assert outcome.verdict is Verdict.COPY
    assert set(outcome.gaps.left_behind) == {LOST.digest, above.digest, SIG}
    assert await referrers(target, IMAGE.digest) == {SIGNATURE.digest}
    assert await target.tag(COPY, V1) == IMAGE.digest


async def test_a_signature_with_corrupt_content_is_left_out(signed: ScriptedStore, target: ScriptedStore):
    signed.spoiled.add(SIGNATURE.manifest.layers[0].digest)

    outcome = await CopyEngine().copy(route(signed, target), V1, override=False)

    assert list(outcome.gaps.left_behind) == [SIGNATURE.digest]
    assert await target.tag(COPY, SIG) == COSIGN.digest


async def test_content_that_the_image_needs_is_never_left_out(source: ScriptedStore, target: ScriptedStore):
    shared = next(iter(image(seed="signed").blobs.values()))
    subject = image(seed="signed")
    await push(source, APP, subject, V1)
    await push(source, APP, image(shared, seed="referrer", subject=subject.manifest))
    await source.delete_blob(APP, Digest.of(shared))

    with pytest.raises(NotFound):
        await copy(source, target)
    assert await target.tag(COPY, V1) is None


@pytest.mark.parametrize("mode", [True, "required"])
async def test_a_referrer_that_lists_a_blob_with_another_size_is_left_out(
    source: ScriptedStore, target: ScriptedStore, mode: Literal[True, "required"]
):
    subject = image(seed="signed")
    document = json.loads(artifact(subject=subject.manifest).manifest.raw)
    document["layers"] = [{**subject.manifest.layers[0].to_json(), "size": 1}]
    liar = Manifest.parse(json.dumps(document).encode(), OCI_MANIFEST)
    await push(source, APP, subject, V1)
    for content in artifact().blobs.values():
        await source.write_blob(APP, blob(content), opening(content))
    await source.put_manifest(APP, liar)
    copying = CopyEngine(referrers=mode).copy(route(source, target), V1, override=False)

    if mode is True:
        assert list((await copying).gaps.left_behind) == [liar.digest]
    else:
        with pytest.raises(Refused, match="must be the same wherever"):
            await copying


async def test_referrers_beyond_the_limit_are_left_out_and_reported(signed: ScriptedStore, target: ScriptedStore):
    many = [artifact(payload=f"{number}".encode()).manifest.descriptor for number in range(bounds.REFERRERS + 1)]
    signed.dangling[IMAGE.digest] = many
    signed.counts.clear()

    first = await CopyEngine().copy(route(signed, target), V1, override=False)
    assert signed.counts["get_manifest"] < len(IMAGE.all_manifests) + bounds.REFERRERS + 10
    second = await CopyEngine().copy(route(signed, target), V1, override=False)

    assert (first.verdict, second.verdict) == (Verdict.COPY, Verdict.UP_TO_DATE)
    for outcome in (first, second):
        assert outcome.gaps.left_behind[many[-1].digest] == "only 1000 referrers of a manifest are copied"
        assert outcome.gaps.unfinished is None
    assert await referrers(target, IMAGE.digest) == {SIGNATURE.digest}
    assert await target.tag(COPY, SIG) == COSIGN.digest
    with pytest.raises(Refused, match="required"):
        await CopyEngine(referrers="required").copy(route(signed, target), V1, override=False)


async def test_the_limit_covers_referrers_of_referrers(
    signed: ScriptedStore, target: ScriptedStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.copy.referrers.bounds.ATTACHED_ARTIFACTS", 3)

    outcome = await CopyEngine().copy(route(signed, target), V1, override=False)

    assert outcome.gaps.left_behind == {SBOM_SIGNATURE.digest: "only 3 referrers of an image are copied"}
    assert await referrers(target, IMAGE.digest) == {SIGNATURE.digest}


async def test_a_temporarily_unreadable_referrer_fails_the_attempt(signed: ScriptedStore, target: ScriptedStore):
    signed.failures[SIGNATURE.digest] = Unavailable("the registry is away")

    with pytest.raises(Unavailable):
        await copy(signed, target)

    assert await target.tag(COPY, V1) is None


async def test_referrers_are_copied_again_to_a_target_that_cannot_list_them(
    signed: ScriptedStore, target: ScriptedStore
):
    target.referrer_failures[IMAGE.digest] = Refused("it answered 403")
    await copy(signed, target)

    outcome = await CopyEngine().copy(route(signed, target), V1, override=False)

    assert outcome.gaps == NO_GAPS
    assert await referrers_in_part(target, IMAGE.digest) == {SIGNATURE.digest}


@pytest.mark.parametrize("override", [False, True])
async def test_cosign_tags_are_requested_by_name_if_tags_cannot_be_listed(
    signed: ScriptedStore, target: ScriptedStore, override: bool
):
    signed.many_tags = target.many_tags = True

    assert await copy(signed, target, override=override) is Verdict.COPY
    assert await target.tag(COPY, SIG) == COSIGN.digest
    assert await copy(signed, target, override=override) is Verdict.UP_TO_DATE
    own = image(seed="the target's own signature")
    await push(target, COPY, own, SIG)
    assert await copy(signed, target, override=override) is (Verdict.COPY if override else Verdict.UP_TO_DATE)


async def test_a_failed_request_for_a_cosign_tag_makes_the_search_incomplete(
    signed: ScriptedStore, target: ScriptedStore
):
    signed.many_tags = True
    signed.failures[cosign_tags(IMAGE.digest)[1]] = Refused("it answered 403")

    outcome = await CopyEngine().copy(route(signed, target), V1, override=False)

    assert outcome.gaps == Gaps(search_error="it answered 403")
    assert await target.tag(COPY, SIG) == COSIGN.digest


async def test_a_tag_list_without_the_copied_tag_is_incomplete(signed: ScriptedStore, target: ScriptedStore):
    class Cut(ScriptedStore):
        async def list_tags_within(self, repository: RepositoryName, requests: int) -> frozenset[Tag] | None:
            return frozenset({V2})

    cut = Cut("cut")
    cut._repositories = signed._repositories

    await copy(cut, target)

    assert await target.tag(COPY, SIG) == COSIGN.digest


async def test_single_tags_are_requested_until_a_long_list_is_cheaper(source: ScriptedStore, target: ScriptedStore):
    tags = [Tag(f"v{number}") for number in range(40)]
    for tag in tags:
        await push(source, APP, image(seed=tag), tag)
        await push(target, COPY, image(seed=tag), tag)
    source.many_tags = True
    engine, way = CopyEngine(), route(source, target)

    for tag in tags:
        assert (await engine.copy(way, tag, override=False)).verdict is Verdict.UP_TO_DATE

    assert source.counts["list_tags_within"] == 2
    assert source.counts["head_manifest"] == len(tags) + 8 * 3


def test_referrer_tags_follow_the_specifications():
    digest = Digest("sha256:" + "a" * 64)
    assert referrers_tag(digest) == f"sha256-{'a' * 64}"
    assert [tag.rpartition(".")[2] for tag in cosign_tags(digest)] == ["sig", "att", "sbom"]


async def test_unreadable_referrers_count_towards_the_limit_at_every_depth(
    source: ScriptedStore, target: ScriptedStore, monkeypatch: pytest.MonkeyPatch
):
    """Otherwise a registry could repeatedly list one more existing referrer and many missing ones."""
    monkeypatch.setattr(bounds, "ATTACHED_ARTIFACTS", 50)
    await push(source, APP, IMAGE, V1)
    subject = IMAGE
    for depth in range(30):
        one = artifact(subject=subject.manifest, payload=f"{depth}".encode())
        await push(source, APP, one)
        absent = [artifact(payload=f"{depth}-{number}".encode()).manifest for number in range(20)]
        source.dangling[subject.digest] = [manifest.descriptor for manifest in absent]
        subject = one
    source.counts.clear()

    outcome = await CopyEngine().copy(route(source, target), V1, override=False)

    assert outcome.verdict is Verdict.COPY
    assert source.counts["get_manifest"] <= len(IMAGE.all_manifests) + bounds.ATTACHED_ARTIFACTS + 10


async def test_errors_of_referrers_hold_no_manifests_in_memory(
    signed: ScriptedStore, target: ScriptedStore, monkeypatch: pytest.MonkeyPatch
):
    errors = [Corrupt(f"{number}") for number in range(2)]
    signed.failures[SIGNATURE.digest], signed.failures[SBOM.digest] = errors
    await CopyEngine().copy(route(signed, target), V1, override=False)
    assert [error.__traceback__ for error in errors] == [None, None]
