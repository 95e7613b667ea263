"""Lists of an embedded registry: nothing unchanged is read again, and nothing that changed is missed."""

import errno
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tagferry import bounds
from tagferry.catalog import describe_repositories, describe_repository, describe_tags, list_repositories
from tagferry.catalog.contents import BoundedReader
from tagferry.catalog.facts import FactsMemory
from tagferry.catalog.pages import FoundTags, TagQuery, find_tags
from tagferry.errors import NotFound
from tagferry.names import Digest, Namespace, RepositoryName, Tag
from tagferry.oci.images import TagRecord
from tagferry.registry.storage import repository_index, tag_records
from tagferry.registry.storage.blobs import BlobFiles
from tagferry.registry.storage.layout import Layout
from tagferry.registry.storage.manifests import ManifestFiles
from tagferry.registry.storage.store import DiskStore
from tagferry.registry.storage.threads import DiskThreads, DiskUnavailable
from tests.support.images import SampleImage, image, index, push

APP = RepositoryName("team/app")
TAGS = [Tag(f"v{number}") for number in range(5)]
OLD = 1_700_000_000_000_000_000


class Counts:
    """The reads of a registry: `tags`, `manifests`, `blobs`, and `hops` to a thread."""

    def __init__(self) -> None:
        self.tags = self.manifests = self.blobs = self.hops = 0


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    counted = Counts()

    def count(owner: type, method: str, name: str) -> None:
        original = getattr(owner, method)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            setattr(counted, name, getattr(counted, name) + 1)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, method, wrapper)

    count(ManifestFiles, "_record", "tags")
    count(ManifestFiles, "_load", "manifests")
    count(BlobFiles, "open", "blobs")
    count(DiskThreads, "submit", "hops")
    return counted


@pytest.fixture
async def store(tmp_path: Path, counts: Counts) -> DiskStore:
    return await DiskStore.open(tmp_path)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files count as unchanged whatever their age, as if the test had waited."""
    monkeypatch.setattr(tag_records, "SETTLED_NANOSECONDS", -(10**18))
    monkeypatch.setattr(repository_index, "SETTLED_NANOSECONDS", -(10**18))


def tag_file(store: DiskStore, tag: str, repository: str = APP) -> Path:
    return layout(store).tag(RepositoryName(repository), Tag(tag))


def layout(store: DiskStore) -> Layout:
    return store._layout


async def filled(store: DiskStore, repository: RepositoryName = APP) -> list[SampleImage]:
    samples = [image(seed=f"{repository} {tag}") for tag in TAGS]
    for tag, sample in zip(TAGS, samples, strict=True):
        await push(store, repository, sample, tag)
    return samples


async def page(store: DiskStore, limit: int = 100, **terms: Any) -> list[tuple[str, str]]:
    query = TagQuery(terms.get("part", ""), by_name=terms.get("by_name", False), descending=True)
    found = await find_tags(store, APP, query, limit=limit)
    shown = await describe_tags(store, APP, found.records, reader=BoundedReader(store, with_texts=True))
    assert all(one.image is not None and one.text for one in shown)
    return [(one.tag, one.digest) for one in shown]


async def test_a_page_reads_only_its_own_images(store: DiskStore, counts: Counts):
    await filled(store)
    await page(store)
    fresh = await DiskStore.open(layout(store).root)
    counts.__init__()  # type: ignore[misc]

    await page(fresh, limit=2)

    assert (counts.tags, counts.manifests) == (len(TAGS), 2)


async def test_an_unchanged_page_reads_nothing(store: DiskStore, counts: Counts):
    await filled(store)
    first = await page(store)
    counts.__init__()  # type: ignore[misc]

    assert await page(store) == first

    assert (counts.tags, counts.manifests, counts.blobs) == (0, 0, 0)
    assert counts.hops <= 3


async def test_an_image_that_is_remembered_as_a_whole_needs_no_facts(
    store: DiskStore, counts: Counts, monkeypatch: pytest.MonkeyPatch
):
    await filled(store)
    first = await page(store)
    counts.__init__()  # type: ignore[misc]
    monkeypatch.setattr(FactsMemory, "facts", lambda *_: None)
    monkeypatch.setattr(FactsMemory, "config", lambda *_: None)

    assert await page(store) == first

    assert (counts.manifests, counts.blobs) == (0, 0)


async def test_an_image_with_a_tag_counts_in_an_index_too(store: DiskStore, counts: Counts):
    tagged, other = image(seed="tagged"), image(seed="other")
    await push(store, APP, index(tagged, other), TAGS[0])
    await push(store, APP, tagged, TAGS[1])
    first = await describe_tags(store, APP, await store.describe_tags(APP))
    counts.__init__()  # type: ignore[misc]

    assert await describe_tags(store, APP, await store.describe_tags(APP)) == first

    assert [one.image is not None and set(one.image.blobs) for one in first] == [
        {*tagged.all_blobs, *other.all_blobs},
        set(tagged.all_blobs),
    ]
    assert (counts.manifests, counts.blobs) == (0, 0)


async def test_the_turns_of_threads_do_not_grow_with_the_page(store: DiskStore, counts: Counts):
    await filled(store)
    fresh = await DiskStore.open(layout(store).root)
    counts.__init__()  # type: ignore[misc]
    await page(fresh, limit=1)
    one, counts.hops = counts.hops, 0
    await page(await DiskStore.open(layout(store).root))
    assert counts.hops <= one + 1


Change = Callable[[DiskStore, list[SampleImage]], Awaitable[None]]


async def _pushed(store: DiskStore, samples: list[SampleImage]) -> None:
    await store.put_manifest(APP, samples[1].manifest, TAGS[0])


async def _deleted(store: DiskStore, samples: list[SampleImage]) -> None:
    await store.delete_manifest(APP, TAGS[0])


async def _deleted_with_its_manifest(store: DiskStore, samples: list[SampleImage]) -> None:
    await store.delete_manifest(APP, samples[0].digest)


async def _written_in_place(store: DiskStore, samples: list[SampleImage]) -> None:
    tag_file(store, TAGS[0]).write_text(samples[1].digest)


async def _written_in_place_and_backdated(store: DiskStore, samples: list[SampleImage]) -> None:
    path = tag_file(store, TAGS[0])
    before = path.stat()
    path.write_text(samples[1].digest)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


async def _renamed_over(store: DiskStore, samples: list[SampleImage]) -> None:
    draft = layout(store).root / "draft"
    draft.write_text(samples[1].digest)
    draft.rename(tag_file(store, TAGS[0]))


async def _copied_over(store: DiskStore, samples: list[SampleImage]) -> None:
    shutil.copy2(tag_file(store, TAGS[1]), tag_file(store, TAGS[0]))


async def _removed(store: DiskStore, samples: list[SampleImage]) -> None:
    tag_file(store, TAGS[0]).unlink()


async def _added(store: DiskStore, samples: list[SampleImage]) -> None:
    tag_file(store, "new").write_text(samples[0].digest)


async def _moved_twice(store: DiskStore, samples: list[SampleImage]) -> None:
    await page(store)
    await store.put_manifest(APP, samples[1].manifest, TAGS[0])
    await page(store)
    await store.put_manifest(APP, samples[2].manifest, TAGS[0])


CHANGES = [
    _pushed,
    _deleted,
    _deleted_with_its_manifest,
    _written_in_place,
    _written_in_place_and_backdated,
    _renamed_over,
    _copied_over,
    _removed,
    _added,
    _moved_twice,
]


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
async def test_a_change_shows_in_the_next_list(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, change: Change, large: bool
):
    samples = await filled(store)
    if large:
        monkeypatch.setattr(tag_records, "_LARGE", 2)
        monkeypatch.setattr(tag_records, "_PAUSE", 10**9)
    for terms in ({}, {"by_name": True}):
        await page(store, **terms)
    await describe_repository(store, APP)
    await describe_repository(store, APP)

    await change(store, samples)

    fresh = await DiskStore.open(layout(store).root)
    assert await page(store) == await page(fresh)
    assert await page(store, by_name=True) == await page(fresh, by_name=True)
    assert await describe_repository(store, APP) == await describe_repository(fresh, APP)
    assert await store.describe_tags(APP) == await fresh.describe_tags(APP)


async def test_files_that_changed_just_now_are_not_trusted(store: DiskStore, monkeypatch: pytest.MonkeyPatch):
    """Two changes within one tick of the file system's clock leave the same stamp."""
    samples = await filled(store)
    monkeypatch.setattr(tag_records, "SETTLED_NANOSECONDS", 10**18)
    await page(store)
    await describe_repository(store, APP)
    # As if the file had the same stamp: the same inode, size and times.
    monkeypatch.setattr(tag_records, "_stamp", lambda found: 0)
    await page(store)
    await describe_repository(store, APP)
    tag_file(store, TAGS[0]).write_text(samples[1].digest)

    assert dict(await page(store))[TAGS[0]] == samples[1].digest
    assert (await describe_repository(store, APP)).size == sum(
        {digest: len(content) for one in samples[1:] for digest, content in one.all_blobs.items()}.values()
    )


async def test_a_manifest_removed_by_hand_is_not_listed(store: DiskStore):
    samples = await filled(store)
    await page(store)
    layout(store).manifest(APP, samples[0].digest).unlink()

    assert TAGS[0] not in dict(await page(store))


async def test_an_index_without_a_platform_is_smaller(store: DiskStore):
    kept, lost = image(seed="kept"), image(seed="lost")
    await push(store, APP, index(kept, lost), TAGS[0])
    before = (await describe_repository(store, APP)).size
    await describe_repository(store, APP)
    await store.delete_manifest(APP, lost.digest)

    after = (await describe_repository(store, APP)).size

    assert after < before
    assert after == (await describe_repository(await DiskStore.open(layout(store).root), APP)).size


async def test_unchanged_repositories_are_described_from_memory(store: DiskStore, counts: Counts):
    names = [RepositoryName(f"team/r{number}") for number in range(20)]
    for name in names:
        await filled(store, name)
    first = await describe_repositories(store, names)
    counts.__init__()  # type: ignore[misc]

    assert await describe_repositories(store, names) == first

    assert (counts.tags, counts.manifests, counts.blobs, counts.hops) == (0, 0, 0, 1)


async def test_a_repository_that_was_not_read_completely_is_read_again(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
):
    # Images that no other test has listed: facts are remembered by digest.
    cut_short = RepositoryName("team/cut")
    await filled(store, cut_short)
    with monkeypatch.context() as limited:
        limited.setattr(bounds, "LIST_REQUEST_MANIFESTS", 2)
        cut = await describe_repository(store, cut_short)
    whole = await describe_repository(store, cut_short)
    assert 0 < cut.size < whole.size


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("by_name", [True, False])
async def test_pages_after_a_position_join_to_the_whole_list(store: DiskStore, by_name: bool, descending: bool):
    await filled(store)
    for number, tag in enumerate(TAGS):
        os.utime(tag_file(store, tag), ns=(OLD, OLD + number // 2 * 10**9))
    terms: dict[str, Any] = {"part": "v", "by_name": by_name, "descending": descending}
    whole = await find_tags(store, APP, TagQuery(**terms), limit=100)

    joined: list[TagRecord] = []
    after = None
    for _ in range(10):
        found: FoundTags = await find_tags(store, APP, TagQuery(**terms, after=after), limit=2)
        joined += found.records
        after = found.last
        if not found.has_more:
            break

    assert joined == list(whole.records)
    assert sorted(joined) == await store.describe_tags(APP)
    offset = await find_tags(store, APP, TagQuery(**terms), limit=2, offset=1)
    assert list(offset.records) == joined[1:3]
    assert (offset.total, offset.has_more) == (len(TAGS), True)


def empty(directory: Path) -> None:
    """Delete all files below a directory, and no directory."""
    for folder, _, names in os.walk(directory):
        for name in names:
            Path(folder, name).unlink()


class _Walks:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scanned: list[str] = []
        scandir = os.scandir

        def counted(path: Any) -> AbstractContextManager[Any]:
            self.scanned.append(str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", counted)


async def test_repositories_are_listed_without_reading_directories_again(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(repository_index, "_PAUSE", 10**9)
    names = [RepositoryName(f"team/r{number}") for number in range(5)]
    for name in names:
        await push(store, name, image(seed=name), TAGS[0])
    assert await list_repositories(store, None) == names
    assert await list_repositories(store, None) == names
    walks = _Walks(monkeypatch)

    assert await list_repositories(store, None) == names

    assert walks.scanned == []


async def test_new_and_deleted_repositories_show_in_the_next_list(store: DiskStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(repository_index, "_PAUSE", 10**9)

    async def expect(*names: str) -> None:
        assert await list_repositories(store, None) == sorted(names)

    await expect()
    await push(store, APP, image(seed="a"), TAGS[0])
    await expect("team/app")
    nested = RepositoryName("team/app/deep/er")
    await push(store, nested, image(seed="b"), TAGS[0])
    await expect("team/app", "team/app/deep/er")
    await store.delete_repository(APP)
    await expect("team/app/deep/er")
    other = layout(store).repository(RepositoryName("other/by-hand"))
    shutil.copytree(layout(store).repository(nested), other)
    await expect("other/by-hand", "team/app/deep/er")
    shutil.rmtree(other)
    await expect("team/app/deep/er")
    await store.delete_manifest(nested, TAGS[0])
    await expect("team/app/deep/er")
    await store.delete_repository(nested)
    await expect()


async def test_an_empty_repository_is_listed_once_it_holds_something(store: DiskStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(repository_index, "_PAUSE", 10**9)
    await push(store, APP, image(seed="a"), TAGS[0])
    tags = layout(store).tags(RepositoryName("team/new"))
    tags.mkdir(parents=True)
    assert await list_repositories(store, None) == [APP]
    (tags / "v1").write_text(Digest.of(b""))
    assert await list_repositories(store, None) == [APP, "team/new"]


async def test_every_directory_is_looked_at_again_after_a_pause(store: DiskStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(repository_index, "_PAUSE", 0)
    await push(store, APP, image(seed="a"), TAGS[0])
    assert await list_repositories(store, None) == [APP]
    empty(layout(store).repository(APP))
    assert await list_repositories(store, None) == []
    with pytest.raises(NotFound):
        await store.listings.tags(APP)


Failing = Callable[[str, int], AbstractContextManager[None]]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    """Lets directories whose path ends with a text fail to be read, with an error number."""

    @contextmanager
    def fail(end: str, number: int) -> Iterator[None]:
        scandir = os.scandir

        def refused(path: Any) -> AbstractContextManager[Any]:
            if str(path).endswith(end):
                raise OSError(number, os.strerror(number), str(path))
            return scandir(path)

        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", refused)
            yield

    return fail


@pytest.mark.parametrize("place", ["/other", "/other/app/_manifests/sha256"])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
async def test_a_directory_that_could_not_be_read_is_listed_once_it_can(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, failing: Failing, number: int, place: str
):
    monkeypatch.setattr(repository_index, "_PAUSE", 10**9)
    await push(store, APP, image(seed="a"), TAGS[0])
    assert await list_repositories(store, None) == [APP]
    await push(store, RepositoryName("other/app"), image(seed="b"), TAGS[0])

    with failing(place, number):
        if number == errno.EMFILE:
            with pytest.raises(DiskUnavailable, match="too many files open"):
                await list_repositories(store, None)
        else:
            assert await list_repositories(store, None) == [APP]

    assert await list_repositories(store, None) == ["other/app", APP]


@pytest.mark.parametrize("place", ["/team", "/team/app/deep"])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
async def test_an_organization_that_cannot_be_read_is_not_empty(
    store: DiskStore, failing: Failing, number: int, place: str
):
    deep = RepositoryName("team/app/deep/er")
    await push(store, deep, image(seed="a"), TAGS[0])
    organization = Namespace("team")

    with failing(place, number):
        with pytest.raises(DiskUnavailable):
            await store.repositories_in(organization)
        with pytest.raises(DiskUnavailable):
            await store.clear_organization(organization)

    assert await store.repositories_in(organization) == [deep]
    assert await store.clear_organization(organization) == [deep]
    assert await store.repositories_in(Namespace("absent")) == []


async def test_the_memory_for_tags_is_bounded(store: DiskStore, counts: Counts, monkeypatch: pytest.MonkeyPatch):
    names = [RepositoryName(f"team/r{number}") for number in range(10)]
    for name in names:
        await filled(store, name)
    monkeypatch.setattr(bounds, "REMEMBERED_TAG_BYTES", 10_000)
    for name in names:
        await store.describe_tags(name)
    assert store._manifests.tag_records._bytes <= 10_000
    counts.__init__()  # type: ignore[misc]
    await store.describe_tags(names[-1])
    assert counts.tags == 0
    await store.describe_tags(names[0])
    assert counts.tags == len(TAGS)
