from collections.abc import Collection
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tagferry.catalog import (
    delete_tag,
    describe_repository,
    describe_tag,
    describe_tags,
    find_tag,
    has_tags,
    list_referrers,
    list_repositories,
    list_subject_tags,
)
from tagferry.catalog.pages import TagQuery, find_tags
from tagferry.errors import Conflict, NotFound, Unavailable, Unsupported
from tagferry.names import Digest, Namespace, Reference, RepositoryName, Tag
from tagferry.oci.images import TagRecord
from tagferry.oci.referrer_tags import cosign_tags
from tests.support.images import (
    OCI_LAYER,
    SampleImage,
    artifact,
    built,
    configured,
    image,
    index,
    layer,
    listing_blobs,
    push,
)
from tests.support.memory_store import MemoryStore

APP = RepositoryName("team/app")
V1, V2, V3 = Tag("v1"), Tag("v2"), Tag("v3")
WRITTEN = datetime(2030, 6, 1, 12, tzinfo=UTC)


class UndatedStore(MemoryStore):
    """A store that does not know when its tags were written, as most registries."""

    async def describe_tags(self, repository: RepositoryName, only: Collection[Tag] | None = None) -> list[TagRecord]:
        records = await super().describe_tags(repository, only)
        return [TagRecord(tag=record.tag, digest=record.digest) for record in records]


class TaglessStore(MemoryStore):
    """A store without tag deletion, as CNCF distribution before 3.0; `deletes` is whether it deletes manifests."""

    deletes = True

    async def delete_manifest(
        self, repository: RepositoryName, reference: Reference, *, seen: TagRecord | None = None
    ) -> None:
        if isinstance(reference, Tag) or not self.deletes:
            raise Unsupported("registry memory does not delete it")
        await super().delete_manifest(repository, reference, seen=seen)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def bytes_of(*samples: SampleImage) -> int:
    distinct = {digest: content for sample in samples for digest, content in sample.all_blobs.items()}
    return sum(map(len, distinct.values()))


async def test_an_image_is_as_large_as_its_distinct_blobs(store: MemoryStore):
    twice = layer("twice")
    await push(store, APP, sample := image(twice, twice, layer("once")), V1)

    details = await describe_tag(store, APP, V1)

    assert (details.tag, details.digest) == (V1, sample.digest)
    assert details.size == bytes_of(sample)
    assert len(sample.blobs) == 3


async def test_an_index_is_as_large_as_the_distinct_blobs_of_all_its_platforms(store: MemoryStore):
    shared = layer("shared")
    await push(store, APP, sample := index(image(shared, seed="a"), image(shared, seed="b")), V1)

    assert (await describe_tag(store, APP, V1)).size == bytes_of(sample)


async def test_indexes_within_an_index_count_with_all_they_list(store: MemoryStore):
    await push(store, APP, sample := index(index(image(seed="deep")), image(seed="flat")), V1)

    assert (await describe_tag(store, APP, V1)).size == bytes_of(sample)


async def test_a_platform_that_the_store_lacks_does_not_hide_the_tag(store: MemoryStore):
    held, lost = image(seed="held"), image(seed="lost")
    await push(store, APP, index(held, lost), V1)
    await store.delete_manifest(APP, lost.digest)

    assert (await describe_tag(store, APP, V1)).size == bytes_of(held)


async def test_a_repository_counts_each_blob_once_over_all_its_tags(store: MemoryStore):
    shared = layer("shared")
    first, second, both = image(shared, seed="a"), image(shared, seed="b"), index(image(shared, seed="c"))
    for tag, sample in ((V2, second), (V1, first), (V3, both)):
        await push(store, APP, sample, tag)

    details = await describe_repository(store, APP)

    assert (details.name, details.tags) == (APP, (V1, V2, V3))
    assert details.size == bytes_of(first, second, both)


@pytest.mark.parametrize(
    "media_type", ["application/vnd.buildkit.cacheconfig.v0", "application/vnd.example.thing+json"]
)
async def test_an_index_of_blobs_has_their_size(store: MemoryStore, media_type: str):
    sample = listing_blobs(b"a layer", b"what tells of it", media_types=(OCI_LAYER, media_type))
    await push(store, APP, sample, V1)
    assert (await describe_tag(store, APP, V1)).size == len(b"a layer" + b"what tells of it")


async def test_an_artifact_has_a_size_and_the_date_of_its_tag(store: MemoryStore):
    await push(store, APP, artifact(), V1)

    details = await describe_tag(store, APP, V1)

    assert details.size == bytes_of(artifact())
    assert details.created == details.updated
    assert details.updated is not None
    assert details.updated > datetime.now(UTC) - timedelta(minutes=1)


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2024-05-06T07:08:09Z", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
        ("2024-05-06T07:08:09.123456789Z", datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)),
        ("2024-05-06T07:08:09+08:00", datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone(timedelta(hours=8)))),
        ("2024-05-06T07:08:09", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
    ],
)
async def test_an_image_was_created_when_its_config_says(written: str, moment: datetime):
    await push(store := UndatedStore(), APP, built(written), V1)

    details = await describe_tag(store, APP, V1)

    assert (details.created, details.updated) == (moment, moment)


@pytest.mark.parametrize("written", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59-10:00"])
async def test_an_implausible_date_is_replaced_by_the_date_of_the_push(written: str, store: MemoryStore):
    await push(undated := UndatedStore(), APP, built(written), V1)
    assert (details := await describe_tag(undated, APP, V1)).created is details.updated is None

    await push(store, APP, built(written), V1)
    assert (details := await describe_tag(store, APP, V1)).created == details.updated == details.written
    assert details.written is not None


async def test_an_artifact_without_a_date_was_created_when_its_annotation_says():
    noted = image(annotations={"org.opencontainers.image.created": "2024-01-01T00:00:00Z"})
    await push(store := UndatedStore(), APP, noted, V1)

    assert (await describe_tag(store, APP, V1)).created == datetime(2024, 1, 1, tzinfo=UTC)


async def test_an_unknown_date_is_not_the_first_of_a_repository():
    store = UndatedStore()
    await push(store, APP, built("0001-01-01T00:00:00+08:00"), V1)
    await push(store, APP, built("2024-01-01T00:00:00Z"), V2)

    details = await describe_repository(store, APP)

    assert details.created == details.updated == datetime(2024, 1, 1, tzinfo=UTC)


async def test_a_tag_was_updated_when_it_was_written_if_the_store_knows(store: MemoryStore):
    await push(store, APP, sample := built("2024-05-06T07:08:09Z"), V1)

    (details,) = await describe_tags(store, APP, [TagRecord(tag=V1, digest=sample.digest, updated=WRITTEN)])

    assert (details.created, details.updated) == (datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC), WRITTEN)


async def test_an_index_was_created_when_its_first_image_was():
    store = UndatedStore()
    await push(store, APP, index(built("2024-01-01T00:00:00Z"), built("2025-01-01T00:00:00Z")), V1)

    assert (await describe_tag(store, APP, V1)).created == datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "config",
    [b"{}", b"[]", b"null", b"no JSON", b"\xff", b'{"created": 5}', b'{"created": "soon"}', b"[" * 100_000],
    ids=["none", "list", "null", "text", "bytes", "number", "word", "deep"],
)
async def test_a_config_without_a_readable_date_leaves_it_unknown(config: bytes):
    await push(store := UndatedStore(), APP, configured(config), V1)

    details = await describe_tag(store, APP, V1)

    assert (details.created, details.updated, details.size) == (None, None, len(config))


async def test_a_config_that_the_store_lacks_leaves_the_date_unknown():
    await push(store := UndatedStore(), APP, sample := built("2024-01-01T00:00:00Z"), V1)
    for digest in sample.blobs:
        await store.delete_blob(APP, digest)

    assert (await describe_tag(store, APP, V1)).created is None


async def test_an_image_is_remembered_once_its_date_is_known():
    await push(store := UndatedStore(), APP, sample := built("2024-01-01T00:00:00Z", seed="remembered"), V1)
    for digest in sample.blobs:
        await store.delete_blob(APP, digest)
    undated = await describe_tag(store, APP, V1)
    await push(store, APP, sample, V1)

    first, second = await describe_tag(store, APP, V1), await describe_tag(store, APP, V1)

    assert (undated.created, first.created) == (None, datetime(2024, 1, 1, tzinfo=UTC))
    assert first.image is second.image


async def test_a_config_that_is_far_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.catalog.contents.bounds.CONFIG_BYTES", 10)
    await push(store := UndatedStore(), APP, built("2024-01-01T00:00:00Z"), V1)

    assert (await describe_tag(store, APP, V1)).created is None
    assert store.counts["read_blob"] == 0


async def test_a_repository_was_created_with_its_oldest_image_and_updated_with_its_newest_tag():
    store = UndatedStore()
    await push(store, APP, built("2025-01-01T00:00:00Z"), V1)
    await push(store, APP, built("2023-01-01T00:00:00Z"), V2)
    await push(store, APP, built("2024-01-01T00:00:00Z"), V3)

    details = await describe_repository(store, APP)

    assert details.created == datetime(2023, 1, 1, tzinfo=UTC)
    assert details.updated == datetime(2025, 1, 1, tzinfo=UTC)


async def test_a_repository_without_tags_is_not_found(store: MemoryStore):
    await push(store, APP, image())

    with pytest.raises(NotFound, match='repository "team/app" does not exist'):
        await describe_repository(store, APP)
    with pytest.raises(NotFound, match='repository "team/app" does not exist'):
        await find_tag(store, APP, V1)


async def test_what_does_not_exist_is_not_found(store: MemoryStore):
    with pytest.raises(NotFound, match='repository "team/app" does not exist'):
        await describe_repository(store, APP)
    with pytest.raises(NotFound, match='repository "team/app" does not exist'):
        await describe_tag(store, APP, V1)

    await push(store, APP, image(), V1)
    with pytest.raises(NotFound, match='tag "team/app:v2" does not exist'):
        await describe_tag(store, APP, V2)


class ForgetfulStore(MemoryStore):
    """A store that loses an image just after listing it."""

    lost: Tag | None = None

    async def describe_tags(self, repository: RepositoryName, only: Collection[Tag] | None = None) -> list[TagRecord]:
        records = await super().describe_tags(repository, only)
        for record in records:
            if record.tag == self.lost:
                await self.delete_manifest(repository, record.digest)
        return records


async def test_a_tag_deleted_meanwhile_is_left_out():
    store = ForgetfulStore()
    await push(store, APP, kept := image(seed="kept"), V1)
    await push(store, APP, image(seed="lost"), V2)
    store.lost = V2

    assert (await describe_repository(store, APP)).size == bytes_of(kept)
    with pytest.raises(NotFound, match='tag "team/app:v2" does not exist'):
        await describe_tag(store, APP, V2)

    await push(store, APP, image(seed="lost"), V2)
    records = await store.describe_tags(APP)
    assert [details.tag for details in await describe_tags(store, APP, records)] == [V1]


async def test_tags_are_described_in_the_order_in_which_they_are_given(store: MemoryStore):
    tags = [Tag(f"v{number}") for number in range(30)]
    for tag in tags:
        await push(store, APP, image(seed=tag), tag)
    records = {record.tag: record for record in await store.describe_tags(APP)}

    found = await describe_tags(store, APP, [records[tag] for tag in reversed(tags)])

    assert [details.tag for details in found] == tags[::-1]


async def test_a_failing_store_does_not_look_empty(store: MemoryStore, monkeypatch: pytest.MonkeyPatch):
    await push(store, APP, image(), V1)

    async def fail(*_: object) -> None:
        raise Unavailable("the registry is down")

    monkeypatch.setattr(store, "get_manifest", fail)
    with pytest.raises(Unavailable, match="the registry is down"):
        await describe_repository(store, APP)


async def test_repositories_are_listed_by_their_organizations(store: MemoryStore):
    for name in ("team/app", "team/a/b", "teams/app", "other/app"):
        await push(store, RepositoryName(name), image(), V1)

    assert await list_repositories(store, [Namespace("team")]) == ["team/a/b", "team/app"]
    assert await list_repositories(store, [Namespace("teams"), Namespace("other")]) == ["other/app", "teams/app"]
    assert await list_repositories(store, []) == []
    assert store.counts["list_repositories"] == 2


async def test_a_repository_has_images_as_long_as_it_has_a_tag(store: MemoryStore):
    assert not await has_tags(store, APP)
    await push(store, APP, image(), V1)
    assert await has_tags(store, APP)
    await store.delete_manifest(APP, V1)
    assert not await has_tags(store, APP)


async def test_without_tag_deletion_an_otherwise_unreferenced_manifest_is_deleted():
    store, sample = TaglessStore(), image(seed="alone")
    await push(store, APP, sample, V1)
    await push(store, APP, image(seed="other"), V2)

    await delete_tag(store, APP, V1)

    assert await store.head_manifest(APP, sample.digest) is None
    assert [tag async for tag in store.list_tags(APP)] == [V2]
    with pytest.raises(NotFound, match='tag "team/app:v1"'):
        await delete_tag(store, APP, V1)


async def test_without_tag_deletion_an_image_that_other_tags_reference_stays():
    store, listed = TaglessStore(), index()
    await push(store, APP, listed, V1)
    await push(store, APP, listed, V2)
    await push(store, APP, listed.children[0], V3)

    with pytest.raises(Conflict, match="cannot delete team/app:v1 alone, and v2 would lose its image"):
        await delete_tag(store, APP, V1)
    with pytest.raises(Conflict, match="cannot delete team/app:v3 alone, and v1, v2 would lose its image"):
        await delete_tag(store, APP, V3)

    assert [tag async for tag in store.list_tags(APP)] == [V1, V2, V3]


async def test_a_tag_that_was_written_since_it_was_seen_is_not_deleted_in_either_way():
    for store in (MemoryStore(), TaglessStore()):
        await push(store, APP, image(seed="old"), V1)
        (seen,) = await store.describe_tags(APP)
        await push(store, APP, image(seed="new"), V1)

        with pytest.raises(Conflict, match='team/app:v1" was changed by another client'):
            await delete_tag(store, APP, V1, seen=seen)

        (seen,) = await store.describe_tags(APP)
        await delete_tag(store, APP, V1, seen=seen)
        assert not await has_tags(store, APP)


async def test_without_tag_deletion_unchanged_tags_to_delete_are_deleted_together():
    store, sample, other = TaglessStore(), image(seed="two tags"), image(seed="other")
    for tag, pushed in ((V1, sample), (V2, sample), (V3, other)):
        await push(store, APP, pushed, tag)
    going = await store.describe_tags(APP)
    await push(store, APP, sample, V3)

    with pytest.raises(Conflict, match="v3 would lose its image"):
        await delete_tag(store, APP, V1, seen=going[0], deleting=going)
    await push(store, APP, other, V3)
    assert await delete_tag(store, APP, V1, seen=going[0], deleting=going) == [V1, V2]

    assert [tag async for tag in store.list_tags(APP)] == [V3]


async def test_indexes_are_read_once_for_many_deleted_tags():
    store, lists = TaglessStore(), dict[Digest, frozenset[Digest]]()
    for number in range(9):
        await push(store, APP, index(image(seed=f"{number}")), Tag(f"v{number}"))
    for number in range(4):
        await delete_tag(store, APP, Tag(f"v{number}"), listed=lists)
    assert store.counts["get_manifest"] == 2 * 8


async def test_a_registry_without_deletion_is_unsupported():
    store = TaglessStore()
    store.deletes = False
    await push(store, APP, image(), V1)
    with pytest.raises(Unsupported, match="does not delete"):
        await delete_tag(store, APP, V1)
    assert await has_tags(store, APP)


async def test_a_referrer_belongs_to_its_subject_only(store: MemoryStore):
    signed, other = image(seed="signed"), image(seed="other")
    referrer, cosigned = artifact(subject=signed.manifest), image(seed="cosigned")
    signature, attestation, _ = cosign_tags(signed.digest)
    for sample, tag in ((signed, V1), (other, V2), (referrer, V3), (cosigned, signature), (cosigned, attestation)):
        await push(store, APP, sample, tag)

    found = await list_referrers(store, APP, signed.digest)

    assert {(one.kind, one.tag, one.digest) for one in found} == {
        (referrer.manifest.artifact_type, None, referrer.digest),
        ("signature.cosign", signature, cosigned.digest),
        ("attestation.cosign", attestation, cosigned.digest),
    }
    assert await list_referrers(store, APP, other.digest) == []
    for tag, subjects in ((V3, [V1]), (signature, [V1]), (V1, [])):
        assert await list_subject_tags(store, APP, tag) == subjects


class CountingStore(UndatedStore):
    """A registry over HTTP, where each described tag costs a request."""

    def __init__(self) -> None:
        super().__init__()
        self.described: list[Tag] = []

    async def describe_tags(self, repository: RepositoryName, only: Collection[Tag] | None = None) -> list[TagRecord]:
        records = await super().describe_tags(repository, only)
        self.described += [record.tag for record in records]
        return records


@pytest.mark.parametrize(("descending", "expected"), [(False, [V2]), (True, [V2])])
async def test_a_page_by_name_asks_a_registry_only_for_its_tags(descending: bool, expected: list[Tag]):
    store = CountingStore()
    for tag in (V1, V2, V3):
        await push(store, APP, image(seed=tag), tag)

    query = TagQuery("", by_name=True, descending=descending)
    found = await find_tags(store, APP, query, limit=1, offset=1)

    assert [record.tag for record in found.records] == store.described == expected
    assert (found.total, found.has_more, found.last) == (3, True, (None, V2))


async def test_a_page_by_update_reads_all_images_of_a_registry_without_dates():
    store = CountingStore()
    for year, tag in enumerate((V2, V3, V1), start=2020):
        await push(store, APP, built(f"{year}-01-01T00:00:00Z", seed=tag), tag)

    found = await find_tags(store, APP, TagQuery("", by_name=False, descending=True), limit=2)

    assert [record.tag for record in found.records] == [V1, V3]
    assert found.last == (datetime(2021, 1, 1, tzinfo=UTC), V3)


@pytest.mark.parametrize("by_name", [False, True])
async def test_a_page_of_a_missing_repository_is_an_error(store: MemoryStore, by_name: bool):
    with pytest.raises(NotFound):
        await find_tags(store, APP, TagQuery("", by_name=by_name, descending=True), limit=2)
