"""Lists of arbitrary pushed content: one invalid image hides no other, and the reads of a list are limited."""

from collections import Counter
from typing import Any

import pytest
from structlog.testing import capture_logs

from tagferry import bounds
from tagferry.catalog import delete_tag, describe_referrer, describe_repository, describe_tags, list_referrers
from tagferry.catalog.contents import BoundedReader
from tagferry.errors import Conflict, Corrupt, Incomplete, Invalid, TagferryError, Unavailable, Unsupported
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.model import Manifest
from tests.support.images import SampleImage, artifact, image, index, push
from tests.support.memory_store import MemoryStore

APP = RepositoryName("team/app")
TAGS = [Tag(f"v{number}") for number in range(6)]


class OddStore(MemoryStore):
    """A store that counts the reads of each manifest, and fails some."""

    def __init__(self) -> None:
        super().__init__()
        self.odd: dict[Digest, Exception] = {}
        self.read: Counter[Reference] = Counter()
        self.user = 0

    @property
    def identity(self) -> int:
        return self.user

    async def get_manifest(self, repository: RepositoryName, reference: Reference) -> Manifest:
        self.read[reference] += 1
        if isinstance(reference, Digest) and reference in self.odd:
            raise self.odd[reference]
        return await super().get_manifest(repository, reference)


@pytest.fixture
def store() -> OddStore:
    return OddStore()


async def filled(store: OddStore) -> list[SampleImage]:
    samples = [image(seed=tag) for tag in TAGS]
    for tag, sample in zip(TAGS, samples, strict=True):
        await push(store, APP, sample, tag)
    store.read.clear()
    return samples


ODD = [Invalid("layers[0].size", "is no size"), Corrupt("damaged"), OSError(5, "Input/output error")]


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
async def test_an_unreadable_image_is_listed_without_details(store: OddStore, error: Exception):
    samples = await filled(store)
    store.odd[samples[0].digest] = error

    details = await describe_tags(store, APP, await store.describe_tags(APP))
    repository = await describe_repository(store, APP)

    assert [(one.tag, one.digest) for one in details] == [(t, s.digest) for t, s in zip(TAGS, samples, strict=True)]
    assert [one.image is None for one in details] == [True, *[False] * 5]
    assert (details[0].size, details[0].updated) == (0, details[0].written)
    assert (repository.tags, repository.size) == (tuple(TAGS), sum(one.size for one in details))


@pytest.mark.parametrize("error", [*ODD, Unsupported("schema 1")], ids=lambda error: type(error).__name__)
async def test_a_platform_that_cannot_be_read_is_left_out_of_its_index(store: OddStore, error: Exception):
    right, odd = image(seed="right"), image(seed="odd")
    await push(store, APP, index(right, odd), TAGS[0])
    store.odd[odd.digest] = error

    (details,) = await describe_tags(store, APP, await store.describe_tags(APP))

    assert details.image is not None
    assert set(details.image.blobs) == set(right.all_blobs)


async def test_occasional_failures_hide_only_their_own_images(store: OddStore):
    samples = await filled(store)
    for sample in samples[:3]:
        store.odd[sample.digest] = Unavailable("it answered 500")
    details = await describe_tags(store, APP, await store.describe_tags(APP))
    assert [one.image is None for one in details] == [True] * 3 + [False] * 3

    store.odd[samples[3].digest] = Unavailable("it answered 500")
    with pytest.raises(Unavailable):
        await describe_tags(store, APP, await store.describe_tags(APP), reader=forgetful(store))


def forgetful(store: OddStore) -> BoundedReader:
    """A reader without a cache, as that of another user."""
    store.user += 1
    return BoundedReader(store)


@pytest.mark.parametrize(("bound", "value", "shown"), [("LIST_REQUEST_MANIFESTS", 4, 4), ("LIST_REQUEST_BYTES", 1, 1)])
async def test_one_request_reads_up_to_a_limit_and_the_next_continues(
    store: OddStore, monkeypatch: pytest.MonkeyPatch, bound: str, value: int, shown: int
):
    await filled(store)
    monkeypatch.setattr(bounds, bound, value)
    monkeypatch.setattr("tagferry.catalog.contents._LOW_LATENCY_READS", 1)
    monkeypatch.setattr("tagferry.catalog.contents._HIGH_LATENCY_READS", 1)
    records = await store.describe_tags(APP)

    first = await describe_tags(store, APP, records)
    assert [one.tag for one in first] == TAGS
    assert sum(one.image is not None for one in first) == sum(store.read.values()) == shown

    for _ in range(20):
        last = await describe_tags(store, APP, records)
    assert all(one.image is not None for one in last)
    assert set(store.read.values()) == {1}


async def test_repositories_beyond_the_limit_of_tags_are_listed_without_sizes(
    store: OddStore, monkeypatch: pytest.MonkeyPatch
):
    await filled(store)
    monkeypatch.setattr(bounds, "LIST_REQUEST_TAGS", 2 * len(TAGS) - 1)
    reader = BoundedReader(store)
    assert (await describe_repository(store, APP, reader)).size > 0
    assert (await describe_repository(store, APP, reader)) == (await describe_repository(store, APP, reader))
    assert (await describe_repository(store, APP, reader)).size == 0
    assert (await describe_repository(store, APP, reader)).tags == tuple(TAGS)


@pytest.mark.parametrize(
    ("bound", "value", "reads"),
    [("IMAGE_MANIFESTS", 4, 4), ("LISTED_IMAGE_DESCRIPTORS", 20, 8), ("INDEX_DEPTH", 1, 21)],
)
async def test_one_image_counts_up_to_a_bound(
    store: OddStore, monkeypatch: pytest.MonkeyPatch, bound: str, value: int, reads: int
):
    children = [image(seed=str(number)) for number in range(20)]
    await push(store, APP, index(*children, index(image(seed="deep"))), TAGS[0])
    store.read.clear()
    monkeypatch.setattr(bounds, bound, value)

    (details,) = await describe_tags(store, APP, await store.describe_tags(APP))

    assert details.image is not None
    assert details.image.is_index
    assert sum(store.read.values()) <= reads + 1


async def test_the_cache_is_bounded(store: OddStore, monkeypatch: pytest.MonkeyPatch):
    await filled(store)
    for _ in range(3):
        assert (await describe_repository(store, APP)).size > 0
    assert set(store.read.values()) == {1}

    monkeypatch.setattr(bounds, "LISTED_MEMORY_BYTES", 4000)
    reader = forgetful(store)
    for _ in range(2):
        await describe_repository(store, APP, reader)
    assert sum(store.read.values()) > 2 * len(TAGS)


async def test_concurrent_lists_read_an_image_once(store: OddStore):
    shared = image(seed="shared")
    for tag in TAGS:
        await push(store, APP, index(shared, image(seed=tag)), tag)
    store.read.clear()
    await describe_repository(store, APP)
    assert store.read[shared.digest] == 1


async def test_a_list_returns_manifests_up_to_a_limit(store: OddStore, monkeypatch: pytest.MonkeyPatch):
    samples = await filled(store)
    records = await store.describe_tags(APP)
    monkeypatch.setattr(bounds, "LISTED_TEXT_BYTES", sum(one.manifest.size for one in samples[:3]))
    details = await describe_tags(store, APP, records, reader=BoundedReader(store, with_texts=True))
    assert sum(bool(one.text) for one in details) == 3
    assert not any(one.text for one in await describe_tags(store, APP, records))


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
async def test_an_unreadable_referrer_is_listed_without_details(store: OddStore, error: Exception):
    await push(store, APP, subject := image(), TAGS[0])
    await push(store, APP, referrer := artifact(subject=subject.manifest))
    store.odd[referrer.digest] = error

    (found,) = await list_referrers(store, APP, subject.digest)
    details = await describe_referrer(store, APP, found)

    assert details is not None
    assert (details.referrer.digest, details.size) == (referrer.digest, 0)


async def test_an_incomplete_search_lists_the_referrers_found(store: OddStore, monkeypatch: Any):
    await push(store, APP, subject := image(), TAGS[0])
    await push(store, APP, referrer := artifact(subject=subject.manifest))
    found = await store.list_referrers(APP, subject.digest)

    async def cut(*_: object, **__: object) -> None:
        raise Incomplete(TagferryError("there are too many"), found)

    monkeypatch.setattr(store, "list_referrers", cut)
    assert [one.digest for one in await list_referrers(store, APP, subject.digest)] == [referrer.digest]


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
async def test_an_unreadable_image_does_not_prevent_the_deletion_of_other_tags(
    store: OddStore, error: Exception, monkeypatch: pytest.MonkeyPatch
):
    samples = await filled(store)
    store.odd[samples[0].digest] = error
    delete_manifest = store.delete_manifest

    async def refuse_tags(repository: RepositoryName, reference: Reference, **terms: Any) -> None:
        if isinstance(reference, Tag):
            raise Unsupported("registry memory deletes no tag alone")
        await delete_manifest(repository, reference, **terms)

    monkeypatch.setattr(store, "delete_manifest", refuse_tags)
    assert await delete_tag(store, APP, TAGS[5]) == [TAGS[5]]

    monkeypatch.setattr(bounds, "LIST_REQUEST_MANIFESTS", 0)
    store.user += 1
    with pytest.raises(Conflict):
        await delete_tag(store, APP, TAGS[4])


async def test_an_unreadable_image_is_logged_once(store: OddStore):
    samples = await filled(store)
    store.odd[samples[0].digest] = Corrupt("damaged")
    with capture_logs() as lines:
        for _ in range(20):
            await describe_repository(store, APP)
    assert [line["event"] for line in lines] == ["could not read a listed manifest"]
    assert lines[0]["log_level"] == "warning"
