"""Manifests are parsed as the specifications define, and keep their bytes."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tagferry import bounds
from tagferry.errors import Corrupt, Invalid, InvalidName, TagferryError, Unsupported
from tagferry.names import Digest
from tagferry.oci.fields import platform_name
from tagferry.oci.model import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MANIFEST_TYPES,
    OCI_ARTIFACT_MANIFEST,
    OCI_EMPTY_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    parse_manifest,
)

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"


def entry(name: str, media_type: str = LAYER, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": Digest.of(name.encode()), "size": len(name), **more}


def encode(document: Any) -> bytes:
    return json.dumps(document, indent=3).encode()


def image(**more: Any) -> dict[str, Any]:
    layers = [entry("first"), entry("second")]
    return {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": entry("config", CONFIG),
        "layers": layers,
        **more,
    }


def index(**more: Any) -> dict[str, Any]:
    children = [
        entry("amd64", OCI_MANIFEST, platform={"architecture": "amd64", "os": "linux"}),
        entry("arm", OCI_MANIFEST, platform={"architecture": "arm", "os": "linux", "variant": "v7"}),
        entry("attestation", OCI_MANIFEST, platform={"architecture": "unknown", "os": "unknown"}),
    ]
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children, **more}


# --- parsing


def test_an_image_manifest_names_its_config_first_and_its_layers_in_order():
    manifest = Manifest.parse(encode(image()), OCI_MANIFEST)
    assert [blob.digest for blob in manifest.blobs] == [Digest.of(name) for name in (b"config", b"first", b"second")]
    assert manifest.config is not None
    assert (manifest.config.media_type, manifest.config.size) == (CONFIG, 6)
    assert manifest.layers == manifest.blobs[1:]
    assert (manifest.children, manifest.is_index, manifest.subject) == ((), False, None)


def test_an_index_names_its_children_in_order_with_their_platforms():
    manifest = Manifest.parse(encode(index()), OCI_INDEX)
    assert manifest.is_index
    assert [child.platform for child in manifest.children] == ["linux/amd64", "linux/arm/v7", "unknown/unknown"]
    assert manifest.blobs == ()


def test_an_index_that_lists_blobs_names_them_apart_from_its_children():
    listed = [
        entry("layer", LAYER),
        entry("old layer", "application/vnd.docker.image.rootfs.diff.tar.gzip"),
        entry("cache", "application/vnd.buildkit.cacheconfig.v0"),
        entry("config", CONFIG),
        entry("image", OCI_MANIFEST),
        entry("in other letters", OCI_MANIFEST.upper()),
        entry("unknown", "application/vnd.example.thing+json"),
        entry("untold", ""),
        entry("schema 1", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
    ]
    manifest = Manifest.parse(encode(index(manifests=listed)), OCI_INDEX)
    assert [one.digest for one in manifest.listed] == [one["digest"] for one in listed]
    assert [one.digest for one in manifest.blobs] == [one["digest"] for one in listed[:4]]
    assert [one.digest for one in manifest.children] == [one["digest"] for one in listed[4:]]
    assert [one.is_known_manifest for one in manifest.children] == [True, True, False, False, True]


def test_a_docker_manifest_and_a_docker_list_are_read_alike():
    layer = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    document = image(mediaType=DOCKER_MANIFEST, layers=[entry("first", layer)])
    assert len(Manifest.parse(encode(document), DOCKER_MANIFEST).blobs) == 2
    manifests = [entry("amd64", DOCKER_MANIFEST, platform={"architecture": "amd64", "os": "linux"})]
    listed = Manifest.parse(encode(index(mediaType=DOCKER_LIST, manifests=manifests)), DOCKER_LIST)
    assert (listed.is_index, listed.children[0].media_type) == (True, DOCKER_MANIFEST)


def test_an_artifact_manifest_names_its_blobs():
    document = {"mediaType": OCI_ARTIFACT_MANIFEST, "artifactType": "a/b", "blobs": [entry("first")]}
    manifest = Manifest.parse(encode(document), OCI_ARTIFACT_MANIFEST)
    assert [blob.digest for blob in manifest.blobs] == [Digest.of(b"first")]
    assert manifest.artifact_type == "a/b"


@pytest.mark.parametrize(
    ("name", "document", "media_type"), [("layers", image(), OCI_MANIFEST), ("manifests", index(), OCI_INDEX)]
)
@pytest.mark.parametrize("empty", [[], None])
def test_a_list_that_is_empty_or_null_reads_as_empty(name, document, media_type, empty):
    manifest = Manifest.parse(encode({**document, name: empty}), media_type)
    assert manifest.layers == manifest.children == ()


def test_foreign_layers_are_recognized_and_keep_their_urls():
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    old = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    layers = [entry("a", foreign, urls=["https://example.com/a"]), entry("b", old), entry("c")]
    manifest = Manifest.parse(encode(image(layers=layers)), OCI_MANIFEST)
    assert [layer.is_foreign for layer in manifest.layers] == [True, True, False]
    assert manifest.layers[0].urls == ("https://example.com/a",)


# --- bytes and digests


@given(st.sampled_from([image(), index()]), st.sampled_from([None, 0, 1, 5]), st.sampled_from(["", "\n", " \n\n"]))
def test_the_bytes_are_kept(document, indent, tail):
    raw = json.dumps(document, indent=indent).encode() + tail.encode()
    manifest = Manifest.parse(raw, None)
    assert (manifest.raw, manifest.size, manifest.digest) == (raw, len(raw), Digest.of(raw))
    assert manifest.descriptor == Descriptor(document["mediaType"], Digest.of(raw), len(raw))


def test_bytes_that_do_not_match_the_digest_are_corrupt():
    promised = Digest.of(b"other")
    with pytest.raises(Corrupt, match=f"instead of {promised}"):
        Manifest.parse(encode(image()), OCI_MANIFEST, digest=promised)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_an_expected_digest_keeps_its_algorithm(algorithm):
    raw = encode(image())
    promised = Digest.of(raw, algorithm)
    assert Manifest.parse(raw, OCI_MANIFEST, digest=promised).digest == promised


# --- media types


@pytest.mark.parametrize("header", [None, "", "application/json", "text/plain; charset=utf-8"])
@pytest.mark.parametrize(("document", "media_type"), [(image(), OCI_MANIFEST), (index(), OCI_INDEX)])
@pytest.mark.parametrize("embedded", [True, False])
def test_without_a_specific_header_the_document_decides_the_type(header, document, media_type, embedded):
    document = document if embedded else {key: value for key, value in document.items() if key != "mediaType"}
    assert Manifest.parse(encode(document), header).media_type == media_type


def test_a_header_with_parameters_and_capitals_is_read():
    assert Manifest.parse(encode(image()), f"{OCI_MANIFEST.upper()}; charset=utf-8").media_type == OCI_MANIFEST


@pytest.mark.parametrize("header", [None, "", "application/octet-stream", "binary/octet-stream", OCI_MANIFEST])
@pytest.mark.parametrize("absent", ["", " ", None])
def test_an_empty_media_type_counts_as_absent(header, absent):
    document = {key: value for key, value in image(mediaType=absent).items() if key != "schemaVersion"}
    assert Manifest.parse(encode(document), header).media_type == OCI_MANIFEST


@pytest.mark.parametrize("header", [OCI_MANIFEST, f"{OCI_MANIFEST}; charset=utf-8", "application/octet-stream", None])
@pytest.mark.parametrize("embedded", [OCI_MANIFEST.upper(), f"{OCI_MANIFEST}; charset=utf-8"])
def test_a_media_type_in_other_letters_or_with_parameters_is_the_same(header, embedded):
    raw = encode(image(mediaType=embedded))
    assert Manifest.parse(raw, header) == Manifest(raw=raw, media_type=OCI_MANIFEST, digest=Digest.of(raw))


def test_a_document_that_contradicts_its_header_is_refused_naming_both():
    with pytest.raises(Invalid, match="must equal the Content-Type") as refusal:
        Manifest.parse(encode(image()), OCI_INDEX)
    assert (refusal.value.field, refusal.value.value) == ("mediaType", OCI_MANIFEST)


@pytest.mark.parametrize(
    ("document", "header"),
    [
        ({"schemaVersion": 1, "fsLayers": []}, "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        ({"schemaVersion": 1, "fsLayers": []}, None),
        ({}, "application/vnd.docker.distribution.manifest.v1+json"),
    ],
)
def test_schema_1_is_unsupported_with_a_hint(document, header):
    with pytest.raises(Unsupported, match="push the image again with a current docker"):
        Manifest.parse(encode(document), header)


def test_an_unknown_type_is_unsupported_by_its_name():
    with pytest.raises(Unsupported, match="text/html"):
        Manifest.parse(b"{}", "text/html")
    with pytest.raises(Unsupported, match=r"application/vnd\.example"):
        Manifest.parse(encode(image(mediaType="application/vnd.example")), None)


@pytest.mark.parametrize("document", [{}, {"errors": [{"code": "DENIED"}]}, {"schemaVersion": 2}])
def test_json_of_another_kind_does_not_pass_for_an_image_without_layers(document):
    with pytest.raises(Invalid, match="must have a config or manifests"):
        Manifest.parse(encode(document), "application/json")


# --- referrers


def test_a_referrer_names_its_subject():
    subject = entry("subject", OCI_MANIFEST)
    manifest = Manifest.parse(encode(image(subject=subject)), OCI_MANIFEST)
    assert manifest.subject == Descriptor(OCI_MANIFEST, Digest.of(b"subject"), 7)


def test_a_referrers_descriptor_has_its_artifact_type_and_annotations():
    document = image(
        artifactType="application/vnd.example.signature",
        config=entry("{}", OCI_EMPTY_CONFIG),
        subject=entry("subject", OCI_MANIFEST),
        annotations={"org.example.by": "me", "org.example.odd": 1},
    )
    raw = encode(document)
    listed = Manifest.parse(raw, None).referrer_descriptor
    assert listed.to_json() == {
        "mediaType": OCI_MANIFEST,
        "digest": Digest.of(raw),
        "size": len(raw),
        "artifactType": "application/vnd.example.signature",
        "annotations": {"org.example.by": "me"},
    }


@pytest.mark.parametrize("declared", [{}, {"artifactType": ""}])
def test_without_an_artifact_type_the_configs_type_is_used(declared):
    document = image(config=entry("config", "application/vnd.example.config"), **declared)
    assert Manifest.parse(encode(document), None).artifact_type == "application/vnd.example.config"


def test_an_index_has_only_the_artifact_type_that_it_declares():
    assert Manifest.parse(encode(index()), None).artifact_type is None
    assert Manifest.parse(encode(index(artifactType="a/b")), None).artifact_type == "a/b"


printed = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=bounds.MEDIA_TYPE_CHARACTERS)
any_text = st.text(st.characters(exclude_characters="\0"))


@given(
    st.builds(
        Descriptor,
        media_type=printed,
        digest=st.binary().map(Digest.of),
        size=st.integers(min_value=0, max_value=bounds.CONTENT_BYTES),
        urls=st.lists(st.text(), max_size=bounds.DESCRIPTOR_URLS).map(tuple),
        artifact_type=st.none() | printed.filter(bool),
        annotations=st.dictionaries(any_text, any_text),
        # The JSON form has no platform.
        platform=st.none(),
    )
)
def test_a_descriptor_reads_back_from_its_own_json(descriptor):
    assert Descriptor.from_json(json.loads(json.dumps(descriptor.to_json()))) == descriptor


# --- invalid documents


@pytest.mark.parametrize(
    ("document", "media_type", "field"),
    [
        ([], OCI_MANIFEST, "manifest"),
        (image(config=[]), OCI_MANIFEST, "config"),
        (image(config=entry("c", digest=None)), OCI_MANIFEST, "config.digest"),
        (image(config=entry("c", digest="sha256:1")), OCI_MANIFEST, "config.digest"),
        (image(config=entry("c", size=-1)), OCI_MANIFEST, "config.size"),
        (image(config=entry("c", size=True)), OCI_MANIFEST, "config.size"),
        (image(config=entry("c", size="1")), OCI_MANIFEST, "config.size"),
        (image(config=entry("c", size=1.5)), OCI_MANIFEST, "config.size"),
        (image(config=entry("c", mediaType=7)), OCI_MANIFEST, "config.mediaType"),
        (image(layers={}), OCI_MANIFEST, "layers"),
        (image(layers=[entry("a"), "b"]), OCI_MANIFEST, "layers[1]"),
        (image(layers=[entry("a"), entry("b", digest="md5:1")]), OCI_MANIFEST, "layers[1].digest"),
        (image(subject="sha256:1"), OCI_MANIFEST, "subject"),
        (image(subject=entry("s", size=None)), OCI_MANIFEST, "subject.size"),
        (index(manifests="all"), OCI_INDEX, "manifests"),
        (index(manifests=[entry("a", digest=1)]), OCI_INDEX, "manifests[0].digest"),
        ({"blobs": [3]}, OCI_ARTIFACT_MANIFEST, "blobs[0]"),
    ],
)
def test_a_bad_document_is_refused_by_the_name_of_its_field(document, media_type, field):
    with pytest.raises(Invalid) as refusal:
        Manifest.parse(encode(document), media_type)
    assert refusal.value.field == field


def test_a_bad_digest_stays_a_bad_name():
    with pytest.raises(InvalidName, match=r"layers\[0\]\.digest must use the algorithm sha256 or sha512"):
        Manifest.parse(encode(image(layers=[entry("a", digest="md5:1")])), None)


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe", b"not json", b'{"a":', b"[" * 100_000, b"1" * 5_000])
def test_invalid_json_is_refused(raw):
    with pytest.raises(Invalid) as refusal:
        Manifest.parse(raw, OCI_MANIFEST)
    assert refusal.value.field == "manifest"


ODD_VALUES: dict[str, list[Any]] = {
    "annotations": [[], "text", 1, False, {"org.example": 1}, {"org.example": None}, {"org.example": {}}],
    "artifactType": [1, [], {}, False],
    "urls": ["https://example.com", {}, [1], [None]],
    "platform": ["linux/amd64", ["linux"], 0],
    "data": [1, [], {}],
}
ODD_FIELDS = [(name, value) for name, values in ODD_VALUES.items() for value in values]
ODD_OF_MANIFESTS = [(name, value) for name, value in ODD_FIELDS if name in ("annotations", "artifactType")]


@pytest.mark.parametrize(("name", "value"), ODD_OF_MANIFESTS)
@pytest.mark.parametrize("document", [image(), index()], ids=["image", "index"])
def test_a_field_of_a_wrong_type_is_refused_when_it_is_pushed_and_ignored_when_it_is_copied(document, name, value):
    raw = encode({**document, name: value})
    assert Manifest.parse(raw, None).raw == raw
    with pytest.raises(Invalid) as refusal:
        Manifest.parse(raw, None, is_pushed=True)
    assert refusal.value.field == name


@pytest.mark.parametrize(("name", "value"), ODD_FIELDS)
@pytest.mark.parametrize(
    ("place", "document"),
    [
        ("config", lambda odd: image(config=entry("config", CONFIG, **odd))),
        ("layers[1]", lambda odd: image(layers=[entry("a"), entry("b", **odd)])),
        ("subject", lambda odd: image(subject=entry("s", OCI_MANIFEST, **odd))),
        ("manifests[0]", lambda odd: index(manifests=[entry("a", OCI_MANIFEST, **odd)])),
        ("blobs[0]", lambda odd: {"mediaType": OCI_ARTIFACT_MANIFEST, "blobs": [entry("a", **odd)]}),
    ],
)
def test_so_is_one_of_a_descriptor(place, document, name, value):
    raw = encode(document({name: value}))
    assert Manifest.parse(raw, None).raw == raw
    with pytest.raises(Invalid) as refusal:
        Manifest.parse(raw, None, is_pushed=True)
    assert refusal.value.field == f"{place}.{name}"


@pytest.mark.parametrize("name", list(ODD_VALUES))
def test_a_null_field_counts_as_absent_as_programs_in_go_read_it(name):
    raw = encode({**image(layers=[entry("a") | {name: None}]), name: None})
    assert Manifest.parse(raw, None, is_pushed=True).raw == raw


# --- limits of documents

NUL, HALF, ESCAPE = "\0", "\ud800", "\x1b"
LONG = "a/" + "b" * bounds.MEDIA_TYPE_CHARACTERS


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (image(config=entry("c", size=bounds.CONTENT_BYTES + 1)), "config.size"),
        (image(layers=[entry("a", size=2**63)]), "layers[0].size"),
        (image(layers=[entry("a", size=10**400)]), "layers[0].size"),
        (image(layers=[entry("a", size=bounds.CONTENT_BYTES)] * 2), "manifest"),
        (image(subject=entry("s", size=2**63)), "subject.size"),
        (index(manifests=[entry("a", OCI_MANIFEST, size=2**63)]), "manifests[0].size"),
        (image(layers=[entry("a")] * (bounds.DESCRIPTORS + 1)), "layers"),
        (index(manifests=[entry("a", OCI_MANIFEST)] * (bounds.DESCRIPTORS + 1)), "manifests"),
        (image(layers=[entry("a", urls=["u"] * (bounds.DESCRIPTOR_URLS + 1))]), "layers[0].urls"),
        *((image(config=entry("c", f"a/b{bad}")), "config.mediaType") for bad in (NUL, ESCAPE, LONG)),
        *((image(mediaType=f"a/b{bad}"), "mediaType") for bad in (NUL, ESCAPE, LONG)),
        *((image(artifactType=f"a/b{bad}"), "artifactType") for bad in (NUL, ESCAPE, LONG)),
        *((index(artifactType=f"a/b{bad}"), "artifactType") for bad in (NUL, ESCAPE, LONG)),
        *((image(layers=[entry("a", artifactType=bad)]), "layers[0].artifactType") for bad in (NUL, ESCAPE, LONG)),
        (image(annotations={"org.example": NUL}), "annotations"),
        (image(annotations={NUL: "value"}), "annotations"),
        (image(layers=[entry("a", annotations={"org.example": NUL})]), "layers[0].annotations"),
        *((image(**{name: HALF}), "manifest") for name in ("artifactType", "org.example.unknown", HALF)),
        (image(annotations={"org.example": {"deep": [HALF]}}), "manifest"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_document_past_a_bound_is_refused_by_the_name_of_its_field(document, field):
    with pytest.raises(Invalid) as refusal:
        Manifest.parse(encode(document), None if field == "mediaType" else document["mediaType"])
    assert refusal.value.field == field
    assert len(refusal.value.message) < 400


def test_a_document_at_every_bound_is_read():
    half, name = bounds.CONTENT_BYTES // 2, "a/" + "b" * (bounds.MEDIA_TYPE_CHARACTERS - 2)
    layers = [entry("a", name, size=half, urls=["u"] * bounds.DESCRIPTOR_URLS)]
    layers += [entry(str(number), size=0) for number in range(bounds.DESCRIPTORS - 1)]
    manifest = Manifest.parse(encode(image(config=entry("c", size=half), layers=layers, artifactType=name)), None)
    assert (manifest.artifact_type, len(manifest.layers)) == (name, bounds.DESCRIPTORS)
    assert sum(blob.size for blob in manifest.blobs) == bounds.CONTENT_BYTES


def test_sizes_of_images_and_their_referrers_fit_a_database_integer():
    assert bounds.CONTENT_BYTES * (bounds.IMAGE_MANIFESTS + bounds.ATTACHED_ARTIFACTS) < 2**63


@pytest.mark.parametrize(
    "text", ["two\nlines\tand tabs", "\N{PILE OF POO}", "\N{HIRAGANA LETTER A}", "x" * 100_000, ESCAPE]
)
@pytest.mark.parametrize("escaped", [True, False])
def test_annotations_may_hold_any_other_text(text, escaped):
    raw = json.dumps(image(annotations={"org.example": text}), ensure_ascii=escaped).encode()
    assert Manifest.parse(raw, None).annotations == {"org.example": text}


@pytest.mark.parametrize("size", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 5_000, "1.5", "-0.0", "1e3"])
def test_a_size_that_is_not_an_integer_is_refused(size):
    raw = encode(image(config=entry("c", size="SIZE"))).replace(b'"SIZE"', size.encode())
    with pytest.raises(Invalid):
        Manifest.parse(raw, OCI_MANIFEST)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_non_finite_numbers_are_refused_everywhere(value):
    raw = encode(image(annotations={"deep": ["VALUE"]})).replace(b'"VALUE"', value.encode())
    with pytest.raises(Invalid, match="finite numbers"):
        Manifest.parse(raw, OCI_MANIFEST)


@pytest.mark.parametrize("place", ["", ',"config":{"digest":1,"digest":2}', ',"annotations":{"a":"1","\\u0061":"2"}'])
def test_a_name_that_is_given_twice_is_refused(place):
    raw = encode(image()).rstrip(b"}\n ") + (place or ',"schemaVersion":2').encode() + b"}"
    with pytest.raises(Invalid, match="must not repeat a name"):
        Manifest.parse(raw, OCI_MANIFEST)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "latin-1"])
def test_other_encodings_than_utf_8_are_refused(encoding):
    text = json.dumps(image(annotations={"org.example": "\xe9"}), ensure_ascii=False)
    with pytest.raises(Invalid, match="must be JSON in UTF-8"):
        Manifest.parse(text.encode(encoding), OCI_MANIFEST)


def test_nesting_has_a_bound_and_its_last_level_is_read():
    def nested(depth: int) -> bytes:
        return encode(image()).rstrip(b"}\n ") + b',"x":' + b"[" * depth + b"]" * depth + b"}"

    assert Manifest.parse(nested(bounds.JSON_DEPTH - 1), OCI_MANIFEST)
    with pytest.raises(Invalid, match="levels deep"):
        Manifest.parse(nested(bounds.JSON_DEPTH), OCI_MANIFEST)


@pytest.mark.parametrize("part", [NUL, HALF, LONG, 5, ""])
def test_an_unprintable_part_of_a_platform_is_left_out(part):
    assert platform_name({"os": "linux", "architecture": "arm", "variant": part}) == "linux/arm"


odd_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
odd_descriptors = odd_values | st.fixed_dictionaries(
    {},
    optional={
        "mediaType": odd_values | st.just(LAYER),
        "digest": odd_values | st.just(Digest.of(b"")),
        "size": odd_values | st.just(0),
        "urls": odd_values,
        "platform": odd_values,
        "annotations": odd_values,
        "artifactType": odd_values,
    },
)
odd_documents = st.fixed_dictionaries(
    {},
    optional={
        "schemaVersion": odd_values | st.just(2),
        "mediaType": odd_values | st.sampled_from(MANIFEST_TYPES),
        "config": odd_descriptors,
        "layers": odd_values | st.lists(odd_descriptors, max_size=3),
        "manifests": odd_values | st.lists(odd_descriptors, max_size=3),
        "blobs": odd_values | st.lists(odd_descriptors, max_size=3),
        "subject": odd_descriptors,
        "annotations": odd_values,
        "artifactType": odd_values,
    },
)


@given(st.binary() | odd_documents.map(encode) | odd_values.map(encode), st.none() | st.sampled_from(MANIFEST_TYPES))
@example(encode(image(layers=[entry("a", urls=5)])), OCI_MANIFEST)
@example(encode(image(mediaType=["x"])), None)
def test_any_bytes_are_read_or_refused_with_our_own_errors(raw, media_type):
    with suppress(TagferryError):
        manifest = Manifest.parse(raw, media_type)
        assert manifest.raw == raw
        _ = manifest.artifact_type, manifest.annotations, manifest.referrer_descriptor.to_json()


def test_deep_nesting_is_refused_at_any_depth():
    for depth in range(800, 1_100):
        raw = b'{"config": ' + b"[" * depth + b"]" * depth + b"}"
        with pytest.raises(Invalid):
            Manifest.parse(raw, OCI_MANIFEST)


# --- parsing in a thread


async def test_a_large_manifest_is_parsed_in_a_thread():
    raw = encode(image(layers=[entry(str(number)) for number in range(bounds.DESCRIPTORS)]))
    work = asyncio.create_task(parse_manifest(raw, None))
    turns = 0
    while not work.done():
        await asyncio.sleep(0)
        turns += 1
    assert (await work) == Manifest.parse(raw, None)
    assert turns > 3


async def test_a_large_document_that_is_no_manifest_is_refused_as_a_small_one():
    with pytest.raises(Invalid, match="must have at most"):
        await parse_manifest(encode(image(layers=[entry("a")] * (bounds.DESCRIPTORS + 1))), None)
