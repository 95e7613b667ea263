"""Reads that memory can answer take no thread, and never answer anything else than the disk would."""

import ctypes
import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tagferry import bounds
from tagferry.errors import Corrupt, NotFound
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.model import Descriptor, Manifest
from tagferry.registry.storage import page_cache
from tagferry.registry.storage.layout import Layout
from tagferry.registry.storage.page_cache import PageCache
from tagferry.registry.storage.store import DiskStore
from tagferry.registry.storage.threads import DiskThreads
from tests.support.images import image, push

from .test_damage import flip
from .test_long_lists import settle

APP, OTHER = RepositoryName("org/app"), RepositoryName("org/other")
V1 = Tag("v1")
Failing = Callable[[pytest.MonkeyPatch], None]


def without_openat2(number: int) -> Failing:
    """Let openat2 fail, as in an old kernel, in a sandbox, or for what is not cached."""

    def fail(*_: Any) -> int:
        ctypes.set_errno(number)
        return -1

    return lambda monkeypatch: monkeypatch.setattr(page_cache, "_syscall", fail)


def without_preadv(number: int) -> Failing:
    """Let reads of the page cache fail, as on a file system without them."""

    def fail(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    return lambda monkeypatch: monkeypatch.setattr(os, "preadv", fail)


WAYS: dict[str, Failing] = {
    "cached": lambda _: None,
    "old kernel": without_openat2(errno.ENOSYS),
    "kernel without cached lookups": without_openat2(errno.EINVAL),
    "sandbox": without_openat2(errno.EPERM),
    "names not cached": without_openat2(errno.EAGAIN),
    "content not cached": without_preadv(errno.EAGAIN),
    "file system without cached reads": without_preadv(errno.EOPNOTSUPP),
}


@pytest.fixture(params=WAYS)
async def either(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[DiskStore]:
    """A store on a system that answers from memory, or cannot in one of several ways."""
    WAYS[request.param](monkeypatch)
    opened = await DiskStore.open(tmp_path / "region")
    yield opened
    await opened.close()


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The work that disk threads were given."""
    if not PageCache().is_usable:
        pytest.skip("this system cannot be asked for what is cached")
    given: list[str] = []

    def counted(start: Callable[..., Any]) -> Callable[..., Any]:
        def count(self: DiskThreads, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            given.append(getattr(work, "__name__", str(work)))
            return start(self, work, *args, **kwargs)

        return count

    for name in ("submit", "run_short"):
        monkeypatch.setattr(DiskThreads, name, counted(getattr(DiskThreads, name)))
    return given


def descriptor(digest: Digest, size: int) -> Descriptor:
    return Descriptor(media_type="application/octet-stream", digest=digest, size=size)


def evict(path: Path) -> None:
    """Let the kernel forget the content of a file, which the next read begins to load again."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_at_once(path: Path) -> bytes | None:
    with path.open("rb") as file:
        return page_cache.read_cached(file.fileno(), 1, 0)


async def blob_of(store: DiskStore, one: Descriptor) -> bytes:
    async with store.read_blob(APP, one) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_reads_that_hit_memory_take_no_thread(store: DiskStore, tmp_path: Path, hops: list[str]):
    await push(store, APP, sample := image(), V1)
    settle(Layout(tmp_path / "region").tags(APP))
    small = sample.manifest.blobs[0]

    async def read_all() -> None:
        for reference in (V1, sample.digest):
            assert (await store.get_stored_manifest(APP, reference)).raw == sample.manifest.raw
            assert await store.head_manifest(APP, reference) == sample.manifest.descriptor
        assert await store.stat_blob(APP, small.digest) == small.size
        assert await blob_of(store, small) == sample.blobs[small.digest]
        assert await store.tag_names(APP) == [V1]
        assert await store.stat_blob(OTHER, small.digest) is None
        assert await store.list_referrers(APP, sample.digest) == []

    await read_all()
    hops.clear()
    await read_all()

    assert hops == []


async def test_a_tag_that_changed_a_moment_ago_is_never_stale(either: DiskStore):
    images = [image(seed=str(number)) for number in range(2)]
    for number in range(40):
        await push(either, APP, current := images[number % 2], V1)
        assert (await either.get_stored_manifest(APP, V1)).digest == current.digest
        assert await either.head_manifest(APP, V1) == current.manifest.descriptor
    await either.delete_manifest(APP, V1)
    assert await either.head_manifest(APP, V1) is None
    with pytest.raises(NotFound):
        await either.get_stored_manifest(APP, V1)


async def test_a_list_of_tags_is_never_stale(either: DiskStore, tmp_path: Path):
    await push(either, APP, sample := image(), V1)
    directory = Layout(tmp_path / "region").tags(APP)
    for number in range(10):
        settle(directory)
        before = await either.tag_names(APP)
        assert await either.tag_names(APP) == before
        await either.put_manifest(APP, sample.manifest, Tag(f"w{number}"))
        assert await either.tag_names(APP) == [*before, Tag(f"w{number}")]


async def test_deleted_content_is_gone_at_once(either: DiskStore):
    await push(either, APP, sample := image(), V1)
    small = sample.manifest.blobs[0]
    await either.get_stored_manifest(APP, sample.digest)
    assert await blob_of(either, small)
    await either.delete_manifest(APP, sample.digest)
    await either.delete_blob(APP, small.digest)
    assert await either.head_manifest(APP, sample.digest) is None
    assert await either.head_manifest(APP, V1) is None
    assert await either.stat_blob(APP, small.digest) is None
    with pytest.raises(NotFound):
        await blob_of(either, small)


async def test_content_that_was_read_and_then_damaged_is_not_served(either: DiskStore, tmp_path: Path):
    await push(either, APP, sample := image(), V1)
    layout, small = Layout(tmp_path / "region"), sample.manifest.blobs[0]
    await either.get_stored_manifest(APP, V1)
    await blob_of(either, small)
    flip(layout.manifest(APP, sample.digest))
    flip(layout.blob(APP, small.digest))
    with pytest.raises(Corrupt):
        await either.get_stored_manifest(APP, V1)
    assert await either.head_manifest(APP, V1) is None
    assert await either.stat_blob(APP, small.digest) is None
    with pytest.raises(NotFound):
        await blob_of(either, small)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
async def test_anything_but_a_file_counts_as_damaged(either: DiskStore, tmp_path: Path, make: Callable[[Path], None]):
    await push(either, APP, sample := image(), V1)
    layout, small = Layout(tmp_path / "region"), sample.manifest.blobs[0]
    for path in (layout.tag(APP, V1), layout.blob(APP, small.digest), layout.pooled(small.digest)):
        path.unlink()
        make(path)
    assert await either.head_manifest(APP, V1) is None
    with pytest.raises(Corrupt):
        await either.get_stored_manifest(APP, V1)
    assert await either.stat_blob(APP, small.digest) is None
    with pytest.raises(NotFound):
        await blob_of(either, small)


async def test_content_that_left_the_page_cache_is_read_by_a_thread(store: DiskStore, tmp_path: Path, hops: list[str]):
    await push(store, APP, sample := image(), V1)
    small = sample.manifest.blobs[0]
    path, probe = Layout(tmp_path / "region").blob(APP, small.digest), tmp_path / "probe"
    probe.write_bytes(b"probe")
    evict(probe)
    if read_at_once(probe) is not None:
        pytest.skip("this file system keeps all files in memory")
    evict(path)
    hops.clear()
    assert await blob_of(store, small) == sample.blobs[small.digest]
    assert hops == ["open"]


async def test_a_blob_is_renewed_by_a_thread_when_it_was_not_used_for_a_while(
    store: DiskStore, tmp_path: Path, hops: list[str]
):
    await push(store, APP, sample := image(), V1)
    small = sample.manifest.blobs[0]
    path = Layout(tmp_path / "region").blob(APP, small.digest)
    settle(path)
    assert await store.stat_blob(APP, small.digest) == small.size
    settled = path.stat().st_mtime
    hops.clear()
    for _ in range(2):
        settle(path)
        assert await store.stat_blob(APP, small.digest) == small.size
        assert path.stat().st_mtime > settled - 60
    assert hops == ["size", "size"]


async def test_the_same_bytes_have_the_media_type_of_each_repository(store: DiskStore, tmp_path: Path):
    raw = b'{"schemaVersion": 2, "manifests": []}'
    types = {
        APP: "application/vnd.oci.image.index.v1+json",
        OTHER: "application/vnd.docker.distribution.manifest.list.v2+json",
    }
    for repository, media_type in types.items():
        manifest = Manifest(raw=raw, media_type=media_type, digest=Digest.of(raw))
        await store.put_manifest(repository, manifest, V1)
    for repository, media_type in types.items():
        for _ in range(2):
            assert (await store.get_stored_manifest(repository, V1)).media_type == media_type


async def test_kept_manifests_are_limited_by_bytes(store: DiskStore, hops: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounds, "KEPT_MANIFEST_BYTES", 8 * 1024)
    images = [image(seed=str(number)) for number in range(20)]
    for sample in images:
        await push(store, APP, sample)
    hops.clear()
    for sample in reversed(images):
        assert (await store.get_stored_manifest(APP, sample.digest)).raw == sample.manifest.raw
    assert 20 - 8 <= len(hops) < 20
