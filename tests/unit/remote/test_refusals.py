"""A refusal applies to one manifest, unless the registry has shown that it refuses the whole kind."""

import re
from datetime import UTC, datetime

import pytest

from tagferry.copy.engine import CopyEngine
from tagferry.copy.route import Route
from tagferry.errors import NotFound, Refused, TagferryError, Unsupported
from tagferry.names import RepositoryName, Tag
from tagferry.oci.model import OCI_INDEX
from tagferry.remote import Capabilities
from tagferry.remote.capabilities import LearnedCapabilities
from tagferry.remote.refusals import REFUSED_FOR, Refusals
from tests.support.images import SampleImage, artifact, attestation, attested, image, index, listing_blobs, push
from tests.support.memory_store import MemoryStore
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error
from tests.unit.remote.conftest import Opening
from tests.unit.remote.test_capabilities import MemoryCapabilities

APP, COPY, V1 = RepositoryName("team/app"), RepositoryName("release/app"), Tag("v1")
REFUSALS = [
    error(405, "UNSUPPORTED"),
    error(400, "MANIFEST_INVALID", "manifest invalid"),
    error(400, "UNSUPPORTED"),
    Reply(status=406),
    error(422, "MANIFEST_INVALID"),
    Reply(status=501),
]
BY_STATUS = ["405", "400 MANIFEST_INVALID", "400 UNSUPPORTED", "406", "422", "501"]


@pytest.fixture
def capabilities() -> MemoryCapabilities:
    return MemoryCapabilities()


def refuses(script: ScriptedRegistry, reply: Reply, *samples: SampleImage) -> None:
    """A registry that accepts every blob, and every manifest but these."""

    def put(asked: Asked) -> Reply:
        return reply if asked.body in {sample.manifest.raw for sample in samples} else Reply(status=201)

    script.always("POST", "/v2/*/blobs/uploads/", Reply(status=202, headers={"Location": "/v2/any/blobs/uploads/1"}))
    script.always("PUT", "/v2/*/blobs/uploads/*", Reply(status=201))
    script.always("PUT", "/v2/*/manifests/*", put)


async def copy(opened: Opening, capabilities: MemoryCapabilities, sample: SampleImage) -> None:
    """Copy an image from memory to the scripted registry, with a new engine and store that know only what is stored."""
    source = MemoryStore("source")
    await push(source, APP, sample, V1)
    route = Route(
        source=source, source_repository=APP, target=opened(capabilities=capabilities), target_repository=COPY
    )
    await CopyEngine(referrers=False).copy(route, V1, override=False)


@pytest.mark.parametrize("reply", [*REFUSALS, Reply(status=415)], ids=[*BY_STATUS, "415"])
@pytest.mark.parametrize(
    "refused", [attestation("one"), artifact(artifact_type="application/vnd.cncf.helm.config.v1+json")]
)
async def test_one_refused_artifact_does_not_affect_images_of_its_media_type(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities, refused: SampleImage, reply: Reply
):
    refuses(script, reply, refused)
    await copy(opened, capabilities, image(seed="before"))
    for _ in range(3):
        with pytest.raises(Unsupported, match=str(refused.digest)):
            await copy(opened, capabilities, refused)

    await copy(opened, capabilities, image(seed="after"))

    assert not await opened(capabilities=capabilities).refuses(refused.manifest)


@pytest.mark.parametrize("reply", REFUSALS, ids=BY_STATUS)
async def test_an_artifact_class_is_refused_before_its_blobs_are_sent_once_two_were_refused(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities, reply: Reply
):
    charts = [artifact(artifact_type="example/chart", payload=payload) for payload in (b"1", b"2", b"3")]
    refuses(script, reply, *charts)
    store = opened(capabilities=capabilities)
    await store.put_manifest(APP, artifact().manifest)
    for chart in charts[:2]:
        assert not await store.refuses(chart.manifest)
        with pytest.raises(Unsupported):
            await store.put_manifest(APP, chart.manifest)
    script.asked.clear()

    with pytest.raises(Unsupported, match="refused others of this kind within the last minutes"):
        await copy(opened, capabilities, charts[2])

    assert {asked.method for asked in script.asked} <= {"HEAD", "GET"}
    await copy(opened, capabilities, image())
    await copy(opened, capabilities, artifact(payload=b"of a class that is accepted"))


async def test_a_media_type_is_refused_at_once_where_the_status_means_it(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities
):
    refuses(script, Reply(status=415), index())
    await copy(opened, capabilities, image())
    with pytest.raises(Unsupported, match=r"415 when asked to .*format = .docker. and rewrite = true"):
        await copy(opened, capabilities, index())
    script.asked.clear()

    with pytest.raises(Unsupported, match=re.escape(f"({OCI_INDEX}): it refused others of this kind")):
        await copy(opened, capabilities, index(image(seed="another")))

    assert {asked.method for asked in script.asked} <= {"HEAD", "GET"}
    await copy(opened, capabilities, image(seed="another"))


async def test_what_was_accepted_once_is_never_refused_as_a_kind(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities
):
    broken = [image(seed=str(number)) for number in range(3)]
    refuses(script, error(405, "UNSUPPORTED"), *broken)
    store = opened(capabilities=capabilities)
    await store.put_manifest(APP, image().manifest)

    for sample in broken:
        with pytest.raises(TagferryError):
            await store.put_manifest(APP, sample.manifest)
        assert not await store.refuses(sample.manifest)


async def test_nothing_is_learned_from_a_registry_that_accepts_nothing(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities
):
    script.always("PUT", "*", error(405, "UNSUPPORTED", "read only"))

    for sample in (image(), image(seed="another"), index()):
        with pytest.raises(Unsupported, match="read only"):
            await opened(capabilities=capabilities).put_manifest(APP, sample.manifest)

    assert capabilities.stored == Capabilities()


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


async def refused(capabilities: MemoryCapabilities, clock: Clock) -> Refusals:
    """Another process has learned that attestations are refused."""
    refusals = Refusals(LearnedCapabilities(capabilities, clock=clock))
    await refusals.note_accepted(image().manifest)
    for seed in ("one", "two"):
        await refusals.note_refused(attestation(seed).manifest, 405)
    return refusals


async def test_a_refusal_is_tried_again_after_ten_minutes_and_renewed_by_one_more(capabilities: MemoryCapabilities):
    clock = Clock()
    refusals = await refused(capabilities, clock)
    three = attestation("three").manifest
    assert await refusals.covers(three)

    clock.now += REFUSED_FOR
    assert not await refusals.covers(three)
    await refusals.note_refused(three, 405)

    assert await refusals.covers(three)
    assert not await refusals.covers(image(seed="another").manifest)


async def test_an_accepted_manifest_ends_the_refusal_in_every_process(capabilities: MemoryCapabilities):
    clock = Clock()
    first = await refused(capabilities, clock)
    second = Refusals(LearnedCapabilities(capabilities, clock=clock))
    three, four = attestation("three").manifest, attestation("four").manifest
    assert await first.covers(three)
    assert await second.covers(three)

    await second.note_accepted(three)

    for refusals in (first, second):
        assert not await refusals.covers(three)
        for manifest in (three, four):
            await refusals.note_refused(manifest, 405)
        assert not await refusals.covers(four)
    assert capabilities.stored.refused_classes == {}


async def test_the_accepted_classes_of_two_processes_are_merged(capabilities: MemoryCapabilities):
    first, second = Refusals(LearnedCapabilities(capabilities)), Refusals(LearnedCapabilities(capabilities))
    await first.note_accepted(image().manifest)
    await second.note_accepted(index().manifest)
    await first.note_accepted(artifact().manifest)

    kinds = {one.manifest.artifact_class for one in (image(), index(), artifact())}
    assert capabilities.stored.accepted_classes == kinds


async def test_refusals_stored_by_older_versions_are_dropped():
    kept = Capabilities.from_json({"whole_limit": 7, "taken_types": [], "refused_types": [OCI_INDEX]})

    assert kept == Capabilities(whole_limit=7)
    assert not await Refusals(LearnedCapabilities(MemoryCapabilities(kept))).covers(index().manifest)


async def test_the_number_of_stored_classes_is_bounded(capabilities: MemoryCapabilities):
    refusals = Refusals(LearnedCapabilities(capabilities))
    for number in range(200):
        await refusals.note_accepted(artifact(artifact_type=f"a/{number}").manifest)
    await refusals.note_accepted(artifact(artifact_type="a/" + "x" * 250).manifest)
    for payload in (b"1", b"2", b"3"):
        await refusals.note_refused(artifact(artifact_type="b/b", payload=payload).manifest, 405)

    assert len(capabilities.stored.accepted_classes) == 64
    assert not await refusals.covers(artifact(artifact_type="b/b").manifest)


@pytest.mark.parametrize(
    ("sample", "kind", "hint"),
    [
        (attestation(), "a build attestation", "attestations = false to copy images without their build attestations"),
        (
            artifact(artifact_type="application/vnd.docker.attestation.manifest.v1+json"),
            "a build attestation",
            "attestations = false",
        ),
        (attested(image()), OCI_INDEX, "attestations = false"),
        (listing_blobs(), OCI_INDEX, "export its cache with image-manifest=true"),
        (artifact(), "artifact type application/vnd.example.signature", "configured to accept such artifacts"),
        (image(), "image.manifest", 'format = "docker" and rewrite = true to convert it'),
        (image(docker=True), "docker.distribution.manifest.v2", 'format = "oci" and rewrite = true'),
    ],
    ids=[
        "attestation",
        "attestation as artifact",
        "index of attestations",
        "index of blobs",
        "artifact",
        "image",
        "docker image",
    ],
)
async def test_the_error_names_the_manifest_what_was_answered_and_the_setting_that_helps(
    script: ScriptedRegistry, opened: Opening, sample: SampleImage, kind: str, hint: str
):
    script.always("PUT", "*", error(400, "MANIFEST_INVALID", "unknown media type of layer"))

    with pytest.raises(Unsupported) as refusal:
        await opened().put_manifest(APP, sample.manifest, V1)

    said = refusal.value.message
    assert said.startswith(f"registry script does not accept manifest {sample.digest} (")
    assert kind in said
    assert (
        "it answered 400 MANIFEST_INVALID: unknown media type of layer when asked to store manifest team/app:v1; "
        in said
    )
    assert hint in said.partition("team/app:v1; ")[2]
    assert "attestations" not in hint or "[regions.script.accepts]" in said


@pytest.mark.parametrize("sample", [attestation(), attested(image())], ids=["attestation", "index that lists it"])
@pytest.mark.parametrize("reply", [error(403, "DENIED", "not here"), error(400, "TAG_INVALID", "not here")])
async def test_another_refusal_of_an_attestation_names_the_setting_too(
    script: ScriptedRegistry, opened: Opening, sample: SampleImage, reply: Reply
):
    script.always("PUT", "*", reply)

    with pytest.raises(
        TagferryError, match=r"not here.*set \[regions\.script\.accepts\] attestations = false"
    ) as failure:
        await opened().put_manifest(APP, sample.manifest, V1)

    assert str(sample.digest) in failure.value.message


async def test_an_index_whose_blobs_are_taken_for_missing_manifests_is_explained(
    script: ScriptedRegistry, opened: Opening
):
    script.always("PUT", "*", error(404, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry"))

    with pytest.raises(NotFound, match="export its cache with image-manifest=true"):
        await opened().put_manifest(APP, listing_blobs().manifest, V1)
    with pytest.raises(NotFound) as failure:
        await opened().put_manifest(APP, index().manifest, V1)
    assert "BuildKit" not in failure.value.message


async def test_a_permission_error_is_not_taken_for_a_refusal_of_attestations(script: ScriptedRegistry, opened: Opening):
    script.always("PUT", "/v2/team/app/manifests/*", error(401, "UNAUTHORIZED", "who are you"))
    with pytest.raises(Refused, match="who are you") as refused:
        await opened().put_manifest(APP, attestation().manifest)
    assert "attestations" not in refused.value.message
