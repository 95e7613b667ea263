"""Rewriting images into a form that the target accepts."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tagferry.copy.formats import Format
from tagferry.copy.image import Image
from tagferry.copy.rewrite import Acceptance, Rewrite, images_without_platform, rewrite
from tagferry.errors import Unsupported
from tagferry.names import Digest
from tagferry.oci.model import (
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_ARTIFACT_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Manifest,
)
from tests.support.images import (
    OCI_ZSTD_LAYER,
    SampleImage,
    artifact,
    attestation,
    attested,
    image,
    index,
    layer,
)

AMD, ARM = image(seed="amd"), image(seed="arm", platform=("linux", "arm64"))
S390 = image(seed="s390", platform=("linux", "s390x"))
BOTH = index(AMD, ARM)
ONLY_AMD = Acceptance(platforms=("linux/amd64",))
MAKE_AMD = Acceptance(platforms=("linux/amd64",), rewrite=True)
MAKE_DOCKER = Acceptance(format="docker", rewrite=True)
MAKE_OCI = Acceptance(format="oci", rewrite=True)
LAYER_TYPES = [
    ("application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"),
    ("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ),
]


def read(sample: SampleImage) -> Image:
    """The sample as the copy engine reads it, each manifest in its deepest level."""
    levels: list[tuple[Manifest, ...]] = []
    below = {child.digest: child for child in sample.children}
    while below:
        levels.insert(0, tuple(child.manifest for child in below.values()))
        below = {inner.digest: inner for child in below.values() for inner in child.children}
    return Image(root=sample.manifest, levels=tuple(levels))


def changed(sample: SampleImage, accepts: Acceptance) -> tuple[Image, Rewrite]:
    made, record = rewrite(read(sample), accepts, {})
    assert record is not None
    return made, record


def edited(sample: SampleImage, edit: Callable[[dict[str, Any]], object]) -> SampleImage:
    """The sample with another manifest of the same type."""
    document = json.loads(sample.manifest.raw)
    edit(document)
    raw = json.dumps(document).encode()
    return SampleImage(
        manifest=Manifest.parse(raw, sample.manifest.media_type), blobs=sample.blobs, children=sample.children
    )


@pytest.mark.parametrize(
    "sample",
    [AMD, BOTH, index(docker=True), artifact(), attested(AMD, ARM), image(layer_type=OCI_ZSTD_LAYER)],
    ids=["image", "index", "docker list", "artifact", "attested", "zstd"],
)
def test_by_default_everything_is_accepted_unchanged(sample: SampleImage):
    found = read(sample)

    assert rewrite(found, Acceptance(), {}) == (found, None)
    assert rewrite(found, Acceptance(foreign_layers=True), {}) == (found, None)


@pytest.mark.parametrize("may_rewrite", [False, True])
@pytest.mark.parametrize(
    "sample", [BOTH, attested(AMD, ARM), index(BOTH, artifact())], ids=["index", "attested", "nested"]
)
def test_an_index_of_accepted_platforms_is_unchanged(sample: SampleImage, may_rewrite: bool):
    accepts = Acceptance(platforms=("linux/arm64/v8", "linux/amd64", "linux/s390x"), rewrite=may_rewrite)

    assert rewrite(read(sample), accepts, {}) == (read(sample), None)


@pytest.mark.parametrize("sample", [index(AMD, ARM, S390), index(AMD, index(ARM, S390)), attested(AMD, ARM, S390)])
def test_an_index_that_lists_more_is_refused_by_the_platforms_and_the_setting(sample: SampleImage):
    with pytest.raises(Unsupported, match=r"also lists linux/arm64, linux/s390x; to copy .* set rewrite = true"):
        rewrite(read(sample), ONLY_AMD, {})


@pytest.mark.parametrize("accepts", [ONLY_AMD, MAKE_AMD])
@pytest.mark.parametrize("sample", [index(ARM, S390), attested(ARM, S390), index(index(ARM, S390))])
def test_an_index_without_an_accepted_platform_is_refused_even_with_rewrite(sample: SampleImage, accepts: Acceptance):
    with pytest.raises(Unsupported, match=r"accepts only linux/amd64, and this index lists linux/arm64, linux/s390x$"):
        rewrite(read(sample), accepts, {})


@pytest.mark.parametrize("accepts", [ONLY_AMD, MAKE_AMD])
def test_a_single_image_passes_by_the_platform_of_its_config(accepts: Acceptance):
    assert images_without_platform(read(AMD)) == (AMD.manifest,)
    assert rewrite(read(AMD), accepts, {AMD.digest: "linux/amd64"}) == (read(AMD), None)

    with pytest.raises(Unsupported, match="accepts only linux/amd64, and this image is for linux/arm/v7"):
        rewrite(read(AMD), accepts, {AMD.digest: "linux/arm/v7"})


@pytest.mark.parametrize("accepts", [ONLY_AMD, MAKE_AMD])
def test_an_artifact_has_no_platform_and_is_accepted(accepts: Acceptance):
    assert images_without_platform(read(artifact())) == ()
    assert rewrite(read(artifact()), accepts, {}) == (read(artifact()), None)


@pytest.mark.parametrize(
    ("wanted", "platform", "taken"),
    [
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm64", "linux/arm64/v9", False),
        ("linux/arm/v7", "linux/arm", True),
        ("linux/arm/v7", "linux/arm/v6", False),
        ("linux/amd64", "windows/amd64", False),
        ("linux/amd64", "unknown/unknown", False),
    ],
)
def test_a_variant_that_the_architecture_implies_is_optional(wanted: str, platform: str, taken: bool):
    assert Acceptance(platforms=(wanted,)).accepts_platform(platform) is taken


def test_a_new_index_lists_the_accepted_platforms_and_keeps_its_other_fields():
    sample = edited(index(AMD, ARM, S390), lambda document: document.update(annotations={"a": "ä"}, subject=None))
    accepts = Acceptance(platforms=("linux/amd64", "linux/s390x"), rewrite=True)

    made, record = changed(sample, accepts)

    before = sample.manifest.document
    assert made.root.document == before | {"manifests": [before["manifests"][0], before["manifests"][2]]}
    assert list(made.root.document) == list(before)
    assert made.levels == ((AMD.manifest, S390.manifest),)
    assert record == Rewrite(digests={sample.digest: made.root.digest}, left_behind=(ARM.digest,))
    assert changed(sample, accepts)[0].root.raw == made.root.raw


def test_a_new_digest_keeps_the_algorithm():
    raw = BOTH.manifest.raw
    sample = SampleImage(
        manifest=Manifest.parse(raw, OCI_INDEX, digest=Digest.of(raw, "sha512")), children=BOTH.children
    )

    assert changed(sample, MAKE_AMD)[0].root.digest.algorithm == "sha512"


def test_an_attestation_follows_its_subject():
    sample = attested(AMD, ARM)
    about_amd, about_arm = sample.children[2:]

    made, record = changed(sample, MAKE_AMD)

    assert [child.digest for child in made.root.children] == [AMD.digest, about_amd.digest]
    assert set(record.left_behind) == {ARM.digest, about_arm.digest}


def test_a_nested_index_is_rewritten_too():
    inner, other = index(AMD, ARM, docker=True), index(ARM, S390)

    made, record = changed(index(inner, other, S390), MAKE_AMD)

    (new,) = made.levels[1]
    assert [child.digest for child in made.root.children] == [new.digest]
    assert [child.digest for child in new.children] == [AMD.digest]
    assert made.root.children[0].size == len(new.raw)
    assert made.levels[0] == (AMD.manifest,)
    assert set(record.digests) == {index(inner, other, S390).digest, inner.digest}
    assert set(record.left_behind) == {ARM.digest, S390.digest, other.digest}


def test_a_platform_that_the_index_does_not_declare_is_that_of_the_config():
    sample = edited(BOTH, lambda document: [entry.pop("platform") for entry in document["manifests"]])
    assert images_without_platform(read(sample)) == (AMD.manifest, ARM.manifest)

    platforms = {AMD.digest: "linux/amd64", ARM.digest: "linux/arm64"}
    made, _ = rewrite(read(sample), MAKE_AMD, platforms)

    assert [child.digest for child in made.root.children] == [AMD.digest]


def test_shared_nested_indexes_are_selected_once_each():
    sample = BOTH
    for _ in range(7):
        sample = index(*[sample] * 20)

    made, record = changed(sample, MAKE_AMD)

    assert len(made.levels) == 8
    assert len(record.digests) == 8


@pytest.mark.parametrize(("oci", "docker"), LAYER_TYPES)
def test_an_image_is_converted_and_back_with_the_same_blobs(oci: str, docker: str):
    sample = image(layer("one"), layer("two"), layer_type=oci, annotations={"a": "b"})

    there, record = changed(sample, MAKE_DOCKER)

    assert (there.root.media_type, there.root.document["mediaType"]) == (DOCKER_MANIFEST, DOCKER_MANIFEST)
    assert [blob.media_type for blob in there.root.blobs] == [DOCKER_CONFIG, docker, docker]
    assert [blob.digest for blob in there.root.blobs] == list(sample.blobs)
    assert there.root.annotations == {"a": "b"}
    assert record == Rewrite(digests={sample.digest: there.root.digest})

    back, _ = rewrite(there, MAKE_OCI, {})
    assert [blob.media_type for blob in back.root.blobs] == [OCI_CONFIG, oci, oci]
    assert back.root.document == sample.manifest.document
    assert back.root.media_type == OCI_MANIFEST


def test_an_index_is_converted_with_its_children():
    sample = edited(BOTH, lambda document: document["manifests"][0].update(data="AAAA"))

    made, record = changed(sample, MAKE_DOCKER)

    assert made.root.media_type == DOCKER_LIST
    assert [child.media_type for child in made.root.children] == [DOCKER_MANIFEST] * 2
    assert [child.digest for child in made.root.children] == [new.digest for new in made.levels[0]]
    assert [child.platform for child in made.root.children] == ["linux/amd64", "linux/arm64"]
    assert "data" not in made.root.document["manifests"][0]
    assert set(record.digests) == {sample.digest, AMD.digest, ARM.digest}


def test_attestations_of_a_converted_image_are_left_out():
    sample = attested(AMD, ARM)

    made, record = changed(sample, MAKE_DOCKER)

    assert [child.platform for child in made.root.children] == ["linux/amd64", "linux/arm64"]
    assert record.left_behind == tuple(child.digest for child in sample.children[2:])


NO_ATTESTATIONS = Acceptance(attestations=False)


@pytest.mark.parametrize("sample", [attested(AMD, ARM), attested(AMD), attested(AMD, docker=True)])
@pytest.mark.parametrize("may_rewrite", [False, True])
def test_only_attestations_are_removed_from_an_index(sample: SampleImage, may_rewrite: bool):
    images = sample.children[: len(sample.children) // 2]

    made, record = changed(sample, NO_ATTESTATIONS._replace(rewrite=may_rewrite))

    assert made.root.media_type == sample.manifest.media_type
    assert made.root.document["manifests"] == sample.manifest.document["manifests"][: len(images)]
    assert made.levels == (tuple(one.manifest for one in images),)
    assert record.digests == {sample.digest: made.root.digest}
    assert record.left_behind == tuple(one.digest for one in sample.children[len(images) :])


@pytest.mark.parametrize(
    "sample",
    [
        edited(index(AMD, attestation()), lambda document: document["manifests"][1].pop("platform")),
        index(AMD, artifact(artifact_type="application/vnd.docker.attestation.manifest.v1+json")),
        edited(attested(AMD), lambda document: document["manifests"][1].pop("platform")),
    ],
    ids=["by its layers", "by its artifact type", "by its annotation"],
)
def test_an_attestation_is_recognized_in_every_form(sample: SampleImage):
    made, record = changed(sample, NO_ATTESTATIONS)

    assert [child.digest for child in made.root.children] == [AMD.digest]
    assert record.left_behind == (sample.children[1].digest,)


@pytest.mark.parametrize(
    "sample",
    [AMD, BOTH, artifact(), index(docker=True), index(AMD, image(platform=("unknown", "unknown")))],
    ids=["image", "index", "artifact", "docker list", "image of an unknown platform"],
)
def test_an_index_without_attestations_is_unchanged(sample: SampleImage):
    assert rewrite(read(sample), NO_ATTESTATIONS, {}) == (read(sample), None)


def test_attestations_in_a_nested_index_are_removed_and_its_parents_rewritten():
    inner = attested(ARM)

    made, record = changed(index(AMD, inner), NO_ATTESTATIONS)

    assert [len(manifest.children) for manifest in (made.root, made.levels[1][1])] == [2, 1]
    assert set(record.digests) == {index(AMD, inner).digest, inner.digest}


def test_removing_attestations_does_not_convert_the_format():
    accepts = Acceptance(format="docker", attestations=False)

    made, _ = changed(attested(image(docker=True), docker=True), accepts)
    assert made.root.media_type == DOCKER_LIST
    with pytest.raises(Unsupported, match="accepts only the format docker"):
        rewrite(read(attested(AMD)), accepts, {})
    converted, _ = changed(attested(AMD), accepts._replace(rewrite=True))
    assert converted.root.media_type == DOCKER_LIST


def test_other_platforms_are_refused_even_if_attestations_are_removed():
    with pytest.raises(Unsupported, match=r"also lists linux/arm64; to copy .* set rewrite = true"):
        rewrite(read(attested(AMD, ARM)), ONLY_AMD._replace(attestations=False), {})


def test_an_index_of_attestations_only_is_refused_with_a_hint():
    with pytest.raises(Unsupported, match="attestations = true in the target region's accepts"):
        rewrite(read(index(attestation())), NO_ATTESTATIONS, {})


def test_platforms_and_format_are_rewritten_together():
    accepts = Acceptance(platforms=("linux/amd64",), format="docker", rewrite=True)

    made, record = changed(attested(AMD, image(layer_type=OCI_ZSTD_LAYER, platform=("linux", "s390x"))), accepts)

    assert [child.media_type for child in made.root.children] == [DOCKER_MANIFEST]
    assert len(record.left_behind) == 3


@pytest.mark.parametrize(
    ("sample", "wanted"),
    [(AMD, "oci"), (artifact(), "oci"), (image(docker=True), "docker"), (index(docker=True), "docker")],
)
@pytest.mark.parametrize("may_rewrite", [False, True])
def test_an_image_in_the_accepted_format_is_unchanged(sample: SampleImage, wanted: Format, may_rewrite: bool):
    accepts = Acceptance(format=wanted, rewrite=may_rewrite)

    assert rewrite(read(sample), accepts, {}) == (read(sample), None)


@pytest.mark.parametrize(
    ("sample", "wanted"),
    [(AMD, "docker"), (BOTH, "docker"), (image(docker=True), "oci"), (index(image(docker=True)), "oci")],
)
def test_the_other_format_is_refused_without_rewrite(sample: SampleImage, wanted: Format):
    with pytest.raises(
        Unsupported, match=rf"accepts only the format {wanted}, and .*; to convert it.* set rewrite = true"
    ):
        rewrite(read(sample), Acceptance(format=wanted), {})


UNTAGGED = SampleImage(manifest=Manifest.parse(b'{"blobs": []}', OCI_ARTIFACT_MANIFEST))


@pytest.mark.parametrize(
    ("sample", "what"),
    [
        (image(layer_type=OCI_ZSTD_LAYER), r"the type application/vnd\.oci\.image\.layer\.v1\.tar\+zstd"),
        (index(AMD, image(layer_type=OCI_ZSTD_LAYER)), r"tar\+zstd"),
        (artifact(), "the field artifactType"),
        (edited(artifact(), lambda document: document.pop("artifactType")), "the type application/vnd.oci.empty"),
        (image(subject=AMD.manifest), "the field subject"),
        (UNTAGGED, "the type application/vnd.oci.artifact.manifest"),
        (attestation(), r"the type application/vnd\.in-toto\+json"),
        (edited(BOTH, lambda document: document["manifests"][1].pop("platform")), r"manifests\[1\]"),
    ],
    ids=["zstd", "zstd child", "artifact", "empty config", "subject", "old artifact", "in-toto", "no platform"],
)
def test_content_without_an_equivalent_is_refused_by_its_name(sample: SampleImage, what: str):
    with pytest.raises(Unsupported, match=rf"cannot be converted to the format docker.*{what}"):
        rewrite(read(sample), MAKE_DOCKER, {})


def test_a_docker_plugin_has_no_equivalent_in_oci():
    plugin = edited(
        image(docker=True),
        lambda document: document["config"].update(mediaType="application/vnd.docker.plugin.v1+json"),
    )

    with pytest.raises(Unsupported, match=r"application/vnd\.docker\.plugin\.v1\+json has no equivalent"):
        rewrite(read(plugin), MAKE_OCI, {})
