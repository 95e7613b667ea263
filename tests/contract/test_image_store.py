"""The contract of every `ImageStore`."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import pytest

from tagferry.copy.image import read_image
from tagferry.errors import Conflict, Corrupt, NotFound, Unsupported
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.images import BlobOutcome, ImageStore, is_known_to_refuse
from tagferry.oci.model import OCI_MANIFEST, Descriptor, Manifest
from tests.contract.conftest import Implementation
from tests.support.images import (
    OCI_ZSTD_LAYER,
    artifact,
    attested,
    blob,
    image,
    index,
    layer,
    listing_blobs,
    opening,
    push,
    read,
)

LATEST = Tag("latest")
ABSENT = Digest.of(b"nobody has this")


@asynccontextmanager
async def must_not_be_opened(_offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
    pytest.fail("the store asked for bytes that it did not need")
    yield  # type: ignore[unreachable]


def unique(size: int = 100) -> bytes:
    return secrets.token_bytes(size)


@pytest.fixture(
    params=[
        pytest.param(lambda: image(), id="OCI image"),
        pytest.param(lambda: image(docker=True), id="Docker image"),
        pytest.param(lambda: index(), id="OCI index"),
        pytest.param(lambda: index(docker=True), id="Docker manifest list"),
        pytest.param(lambda: artifact(), id="artifact"),
        pytest.param(lambda: image(b"", layer("more")), id="image with an empty layer"),
        pytest.param(lambda: image(layer_type=OCI_ZSTD_LAYER), id="zstd layer"),
        pytest.param(lambda: index(index(), image(seed="outer")), id="nested index"),
        pytest.param(lambda: attested(image()), id="index with an attestation"),
        pytest.param(lambda: listing_blobs(), id="index of blobs"),
        pytest.param(
            lambda: artifact(artifact_type="application/vnd.example.anything", payload=b""), id="artifact of nothing"
        ),
    ]
)
def sample(request: pytest.FixtureRequest):
    return request.param()


async def test_pushed_content_is_read_back_unchanged(store: ImageStore, repository: RepositoryName, sample):
    await push(store, repository, sample, LATEST)

    by_tag = await store.get_manifest(repository, LATEST)
    by_digest = await store.get_manifest(repository, sample.digest)
    assert by_tag.raw == by_digest.raw == sample.manifest.raw
    assert by_tag.media_type == by_digest.media_type == sample.manifest.media_type
    assert by_tag.digest == sample.digest
    for digest, content in sample.all_blobs.items():
        assert await read(store, repository, blob(content)) == content
        assert await store.stat_blob(repository, digest) == len(content)


async def test_a_kind_that_was_accepted_is_not_reported_as_refused(
    store: ImageStore, repository: RepositoryName, sample
):
    await push(store, repository, sample, LATEST)

    assert not await is_known_to_refuse(store, sample.manifest)


@pytest.mark.parametrize("content", [b'{"a": 1}', b"no JSON", b""])
async def test_a_blob_that_an_index_lists_by_an_unknown_type_is_found_to_be_one(
    store: ImageStore, repository: RepositoryName, content: bytes
):
    listing = listing_blobs(content, media_types=("application/vnd.example.thing+json",), children=(image(),))
    await push(store, repository, listing, LATEST)

    found = await read_image(store, repository, LATEST)

    assert [one.digest for one in found.listed_blobs] == [Digest.of(content)]
    assert [one.digest for level in found.levels for one in level] == [image().digest]


async def test_head_returns_type_digest_and_size(store: ImageStore, repository: RepositoryName, sample):
    await push(store, repository, sample, LATEST)

    expected = sample.manifest.descriptor
    assert await store.head_manifest(repository, LATEST) == expected
    assert await store.head_manifest(repository, sample.digest) == expected


async def test_head_returns_the_same_whatever_the_caller_expects(store: ImageStore, repository: RepositoryName, sample):
    other = image(seed="other").manifest.descriptor
    assert await store.head_manifest(repository, LATEST, known=sample.manifest.descriptor) is None
    await push(store, repository, sample, LATEST)

    expected = sample.manifest.descriptor
    for reference in (LATEST, sample.digest):
        assert await store.head_manifest(repository, reference, known=expected) == expected
        assert await store.head_manifest(repository, reference, known=other) == expected
    assert await store.head_manifest(repository, Tag("absent"), known=expected) is None


async def test_missing_content_is_none_or_not_found(store: ImageStore, repository: RepositoryName):
    absent = Descriptor(media_type="application/octet-stream", digest=ABSENT, size=15)
    assert await store.head_manifest(repository, LATEST) is None
    assert await store.head_manifest(repository, ABSENT) is None
    assert await store.stat_blob(repository, ABSENT) is None
    await push(store, repository, image(), LATEST)
    assert await store.head_manifest(repository, Tag("other")) is None
    assert await store.head_manifest(repository, ABSENT) is None
    with pytest.raises(NotFound) as tag:
        await store.get_manifest(repository, Tag("other"))
    with pytest.raises(NotFound) as manifest:
        await store.get_manifest(repository, ABSENT)
    with pytest.raises(NotFound) as missing:
        await read(store, repository, absent)
    assert (tag.value.kind, manifest.value.kind, missing.value.kind) == ("tag", "manifest", "blob")


async def test_an_unknown_repository_has_no_tags_to_list(store: ImageStore, repository: RepositoryName):
    with pytest.raises(NotFound) as listed:
        _ = [tag async for tag in store.list_tags(repository)]
    with pytest.raises(NotFound) as described:
        await store.describe_tags(repository)
    assert listed.value.kind == described.value.kind
    assert listed.value.kind in {"repository", "OCI layout", "archive"}
    assert await store.list_tags_within(repository, 1) == frozenset()


async def test_an_existing_blob_is_not_sent_again(store: ImageStore, repository: RepositoryName):
    content = unique()

    assert await store.write_blob(repository, blob(content), opening(content)) is BlobOutcome.UPLOADED
    assert await store.write_blob(repository, blob(content), must_not_be_opened) is BlobOutcome.PRESENT


async def test_an_existing_blob_is_sent_again_with_force(store: ImageStore, repository: RepositoryName):
    content, other, opened = unique(), RepositoryName(f"{repository}-copy"), []

    def counted(offset: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        opened.append(offset)
        return opening(content)(offset)

    await store.write_blob(repository, blob(content), opening(content))
    for place in (repository, other):
        outcome = await store.write_blob(place, blob(content), counted, mount_from=repository, force=True)
        assert outcome is BlobOutcome.UPLOADED
        assert await read(store, place, blob(content)) == content
    assert opened == [0, 0]


async def test_a_blob_of_another_repository_is_mounted(store: ImageStore, repository: RepositoryName):
    content, other = unique(), RepositoryName(f"{repository}-copy")
    await store.write_blob(repository, blob(content), opening(content))

    outcome = await store.write_blob(other, blob(content), must_not_be_opened, mount_from=repository)

    assert outcome is BlobOutcome.MOUNTED
    assert await read(store, other, blob(content)) == content


async def test_a_blob_is_uploaded_if_it_cannot_be_mounted(store: ImageStore, repository: RepositoryName):
    content, other = unique(), RepositoryName(f"{repository}-empty")

    outcome = await store.write_blob(repository, blob(content), opening(content), mount_from=other)

    assert outcome is BlobOutcome.UPLOADED
    assert await read(store, repository, blob(content)) == content


async def test_a_blob_of_another_repository_is_not_found(store: ImageStore, repository: RepositoryName):
    content, other = unique(), RepositoryName(f"{repository}-other")
    await store.write_blob(other, blob(content), opening(content))

    assert await store.stat_blob(repository, Digest.of(content)) is None


@pytest.mark.parametrize("wrong", [b"0123456789", b"012345678", b"0123456789a"], ids=["bytes", "short", "long"])
async def test_a_blob_that_does_not_match_is_not_stored(store: ImageStore, repository: RepositoryName, wrong: bytes):
    expected = blob(secrets.token_bytes(10))

    with pytest.raises(Corrupt):
        await store.write_blob(repository, expected, opening(wrong, chunk=4))

    assert await store.stat_blob(repository, expected.digest) is None


async def test_an_error_of_the_source_reaches_the_caller(store: ImageStore, repository: RepositoryName):
    content = unique()

    @asynccontextmanager
    async def vanished(_offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield content[:10]
            raise NotFound("blob", "of the source")

        yield chunks()

    with pytest.raises(NotFound, match="of the source"):
        await store.write_blob(repository, blob(content), vanished)

    assert await store.stat_blob(repository, Digest.of(content)) is None


async def test_an_upload_can_be_cancelled_and_done_again(store: ImageStore, repository: RepositoryName):
    content, begun = unique(), asyncio.Event()

    @asynccontextmanager
    async def stuck(_offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield content[:50]
            begun.set()
            await asyncio.Event().wait()
            yield content[50:]

        yield chunks()

    upload = asyncio.ensure_future(store.write_blob(repository, blob(content), stuck))
    await begun.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert await store.stat_blob(repository, Digest.of(content)) is None
    assert await store.write_blob(repository, blob(content), opening(content)) is BlobOutcome.UPLOADED


async def test_the_same_blob_may_be_written_twice_at_once(store: ImageStore, repository: RepositoryName):
    content = unique(300_000)

    await asyncio.gather(*(store.write_blob(repository, blob(content), opening(content)) for _ in range(4)))

    assert await read(store, repository, blob(content)) == content


@pytest.mark.parametrize("offset", [0, 1, 65_536, 199_999, 200_000])
async def test_a_blob_is_read_from_an_offset_on(store: ImageStore, repository: RepositoryName, offset: int):
    content = unique(200_000)
    await store.write_blob(repository, blob(content), opening(content))

    assert await read(store, repository, blob(content), offset=offset) == content[offset:]


async def test_a_reader_may_stop_in_the_middle(store: ImageStore, repository: RepositoryName):
    content = unique(3_000_000)
    await store.write_blob(repository, blob(content), opening(content))

    async with store.read_blob(repository, blob(content)) as chunks:
        first = await anext(aiter(chunks))

    assert content.startswith(first)
    assert await read(store, repository, blob(content)) == content


async def test_an_empty_blob_is_a_blob(store: ImageStore, repository: RepositoryName):
    assert await store.write_blob(repository, blob(b""), opening(b"")) is BlobOutcome.UPLOADED

    assert await store.stat_blob(repository, Digest.of(b"")) == 0
    assert await read(store, repository, blob(b"")) == b""


async def test_a_manifest_is_refused_while_a_blob_is_missing(store: ImageStore, repository: RepositoryName):
    sample = image(unique())

    with pytest.raises(NotFound):
        await store.put_manifest(repository, sample.manifest, LATEST)

    assert await store.head_manifest(repository, LATEST) is None


async def test_an_index_is_refused_while_a_child_is_missing(store: ImageStore, repository: RepositoryName):
    with pytest.raises(NotFound):
        await store.put_manifest(repository, index().manifest, LATEST)

    assert await store.head_manifest(repository, LATEST) is None


async def test_a_tag_moves_and_the_old_manifest_stays(store: ImageStore, repository: RepositoryName):
    old, new = image(seed="old"), image(seed="new")
    await push(store, repository, old, LATEST)
    await push(store, repository, new, LATEST)

    assert (await store.get_manifest(repository, LATEST)).digest == new.digest
    assert (await store.get_manifest(repository, old.digest)).raw == old.manifest.raw


async def test_without_override_a_tag_replaces_only_itself_and_the_digest_seen(
    store: ImageStore, repository: RepositoryName
):
    old, new = image(seed="old"), image(seed="new")
    await push(store, repository, old)
    await push(store, repository, new)

    await store.put_manifest(repository, old.manifest, LATEST, override=False)
    await store.put_manifest(repository, old.manifest, LATEST, override=False)
    await store.put_manifest(repository, new.manifest, LATEST, override=False, seen=old.digest)

    assert (await store.get_manifest(repository, LATEST)).digest == new.digest


async def test_a_manifest_without_a_tag_makes_no_tag(store: ImageStore, repository: RepositoryName):
    await push(store, repository, image(seed="tagged"), LATEST)
    await push(store, repository, image(seed="untagged"))

    assert [tag async for tag in store.list_tags(repository)] == [LATEST]


async def test_tags_are_listed_in_lexical_order(store: ImageStore, repository: RepositoryName):
    sample = image()
    for name in ("v10", "v2", "a", "v1", "Z"):
        await push(store, repository, sample, Tag(name))

    assert [tag async for tag in store.list_tags(repository)] == ["Z", "a", "v1", "v10", "v2"]


async def test_tags_are_described_by_what_they_point_to(store: ImageStore, repository: RepositoryName):
    samples = {Tag(f"v{number:02}"): image(seed=f"{number % 3}") for number in range(12)}
    for tag, sample in samples.items():
        await push(store, repository, sample, tag)

    described = await store.describe_tags(repository)

    assert {record.tag: record.digest for record in described} == {t: s.digest for t, s in samples.items()}
    assert [record.tag for record in described] == sorted(samples)


async def test_selected_tags_are_described_and_missing_ones_left_out(store: ImageStore, repository: RepositoryName):
    sample = image()
    for tag in ("v1", "v2"):
        await push(store, repository, sample, Tag(tag))

    described = await store.describe_tags(repository, only=[Tag("v2"), Tag("missing")])

    assert [(record.tag, record.digest) for record in described] == [("v2", sample.digest)]
    assert await store.describe_tags(RepositoryName(f"{repository}/none"), only=[Tag("v2")]) == []


async def test_repositories_are_listed_in_lexical_order(store: ImageStore, repository: RepositoryName):
    pushed = [RepositoryName(f"{repository}/{name}") for name in ("b", "a")]
    for name in pushed:
        await push(store, name, image(), LATEST)

    listed = [name async for name in store.list_repositories()]

    assert set(pushed) <= set(listed)
    assert listed == sorted(listed)


async def test_referrers_are_found_by_their_subject(store: ImageStore, repository: RepositoryName):
    subject = image()
    signature = artifact(subject=subject.manifest)
    report = artifact(subject=subject.manifest, artifact_type="application/vnd.example.report", payload=b"fine")
    assert await store.list_referrers(repository, subject.digest) == []
    for sample in (subject, signature, report):
        await push(store, repository, sample)

    found = await store.list_referrers(repository, subject.digest)
    reports = await store.list_referrers(repository, subject.digest, "application/vnd.example.report")

    assert {entry.digest for entry in found} == {signature.digest, report.digest}
    assert reports == [report.manifest.referrer_descriptor]
    assert await store.list_referrers(repository, signature.digest) == []


async def test_referrers_that_arrive_at_once_are_all_kept(store: ImageStore, repository: RepositoryName):
    subject = image()
    await push(store, repository, subject)
    signatures = [artifact(subject=subject.manifest, payload=str(number).encode()) for number in range(6)]

    await asyncio.gather(*(push(store, repository, signature) for signature in signatures))

    found = await store.list_referrers(repository, subject.digest)
    assert {entry.digest for entry in found} == {signature.digest for signature in signatures}


async def test_a_referrer_may_come_before_its_subject(store: ImageStore, repository: RepositoryName):
    subject = image()
    signature = artifact(subject=subject.manifest)

    await push(store, repository, signature)

    assert [entry.digest for entry in await store.list_referrers(repository, subject.digest)] == [signature.digest]


async def test_deleting_a_manifest_deletes_its_tags(store: ImageStore, repository: RepositoryName):
    gone, kept = image(seed="gone"), image(seed="kept")
    await push(store, repository, gone, Tag("one"))
    await push(store, repository, gone, Tag("two"))
    await push(store, repository, kept, Tag("three"))

    await store.delete_manifest(repository, gone.digest)

    assert await store.head_manifest(repository, gone.digest) is None
    assert await store.head_manifest(repository, Tag("one")) is None
    assert [tag async for tag in store.list_tags(repository)] == ["three"]
    with pytest.raises(NotFound):
        await store.delete_manifest(repository, gone.digest)


async def test_deleting_a_tag_leaves_its_manifest(
    store: ImageStore, repository: RepositoryName, implementation: Implementation
):
    sample = image()
    await push(store, repository, sample, Tag("one"))
    await push(store, repository, sample, Tag("two"))
    if not implementation.deletes_tags:
        with pytest.raises(Unsupported):
            await store.delete_manifest(repository, Tag("one"))
        return

    await store.delete_manifest(repository, Tag("one"))

    assert await store.head_manifest(repository, Tag("one")) is None
    assert (await store.get_manifest(repository, Tag("two"))).digest == sample.digest
    with pytest.raises(NotFound):
        await store.delete_manifest(repository, Tag("one"))


async def test_a_tag_that_changed_since_it_was_read_is_not_deleted(
    store: ImageStore, repository: RepositoryName, implementation: Implementation
):
    old, new = image(seed="old"), image(seed="new")
    await push(store, repository, old, Tag("one"))
    (seen,) = await store.describe_tags(repository)
    await push(store, repository, new, Tag("one"))

    with pytest.raises(Conflict, match="was changed by another client"):
        await store.delete_manifest(repository, Tag("one"), seen=seen)

    assert (await store.get_manifest(repository, Tag("one"))).digest == new.digest
    if implementation.deletes_tags:
        (seen,) = await store.describe_tags(repository)
        await store.delete_manifest(repository, Tag("one"), seen=seen)
        with pytest.raises(NotFound):
            await store.delete_manifest(repository, Tag("one"), seen=seen)


async def test_a_deleted_repository_has_nothing_left_and_can_be_filled_again(
    store: ImageStore, repository: RepositoryName
):
    sample, listed = image(seed="alone"), index()
    signature = artifact(subject=listed.manifest)
    signature_of_signature = artifact(subject=signature.manifest, payload=b"signed again")
    await push(store, repository, sample, Tag("one"))
    await push(store, repository, sample, Tag("two"))
    await push(store, repository, listed, Tag("all"))
    await push(store, repository, listed.children[0], Tag("child"))
    for attached in (signature, signature_of_signature):
        await push(store, repository, attached)

    await store.delete_repository(repository)

    with suppress(NotFound):
        assert [tag async for tag in store.list_tags(repository)] == []
    gone = [sample, listed, *listed.children, signature, signature_of_signature]
    assert [await store.head_manifest(repository, one.digest) for one in gone] == [None] * len(gone)
    assert await store.list_referrers(repository, listed.digest) == []
    await push(store, repository, listed, Tag("again"))
    assert [tag async for tag in store.list_tags(repository)] == ["again"]


async def test_a_missing_repository_is_not_deleted(store: ImageStore, repository: RepositoryName):
    with pytest.raises(NotFound, match="repository"):
        await store.delete_repository(repository)


async def test_a_deleted_blob_is_not_found(store: ImageStore, repository: RepositoryName):
    content = unique()
    await store.write_blob(repository, blob(content), opening(content))

    await store.delete_blob(repository, Digest.of(content))

    assert await store.stat_blob(repository, Digest.of(content)) is None
    with pytest.raises(NotFound):
        await store.delete_blob(repository, Digest.of(content))


async def test_content_is_kept_under_its_sha512_digest(
    store: ImageStore, repository: RepositoryName, implementation: Implementation
):
    if not implementation.keeps_sha512:
        pytest.skip("this implementation declares that it does not keep content by sha512")
    sample = image(algorithm="sha512")
    await push(store, repository, sample, LATEST)

    assert (await store.get_manifest(repository, sample.digest)).raw == sample.manifest.raw
    assert (await store.get_manifest(repository, LATEST)).raw == sample.manifest.raw
    assert await store.head_manifest(repository, LATEST) == sample.manifest.descriptor
    for digest, content in sample.blobs.items():
        assert await read(store, repository, blob(content, "sha512")) == content
        assert await store.stat_blob(repository, digest) == len(content)


async def test_unusual_bytes_of_a_manifest_are_kept(store: ImageStore, repository: RepositoryName):
    plain = image()
    document = json.loads(plain.manifest.raw) | {"annotations": {"org.example.name": "Fähre ⛴"}}
    raw = json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n \n"
    for content in plain.blobs.values():
        await store.write_blob(repository, blob(content), opening(content))

    await store.put_manifest(repository, Manifest.parse(raw, OCI_MANIFEST), LATEST)

    assert (await store.get_manifest(repository, LATEST)).raw == raw
