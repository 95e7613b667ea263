"""A full, read-only or failing disk is reported, keeps its content, and is used again after it recovers."""

import asyncio
import errno
import io
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from yarl import URL

from tagferry.names import Digest, RepositoryName, Tag
from tagferry.registry.storage import spool
from tagferry.registry.storage.store import DiskStore
from tagferry.registry.storage.threads import DiskFailed, DiskFull, DiskReadOnly
from tests.support.disks import IS_ROOT, read_only, small_disk
from tests.support.images import blob, image, opening, push, read
from tests.unit.registry.conftest import Registry

APP, OTHER = RepositoryName("org/app"), RepositoryName("org/other")
MIB = 1024 * 1024
CONTENT = os.urandom(MIB)


def spooled(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and {"_uploads", "temporary"} & set(path.parts)]


FULL = Path("/dev/full")
"""A device that is always full."""


async def test_an_upload_that_fills_the_disk_is_deleted(registry: Registry) -> None:
    location = await registry.start_upload()
    (path,) = spooled(registry.root)
    path.unlink()
    path.symlink_to(FULL)

    async with registry.http.patch(location, data=io.BytesIO(CONTENT)) as response:
        assert response.status == 507
        assert b"disk is full" in await response.read()

    assert not path.is_symlink()
    async with registry.http.get(location) as response:
        assert response.status == 404
    assert await registry.push_blob(CONTENT)


async def test_an_upload_that_fills_the_disk_at_its_end_is_deleted(registry: Registry) -> None:
    location = await registry.start_upload()
    (path,) = spooled(registry.root)
    path.unlink()
    path.symlink_to(FULL)
    digest = Digest.of(CONTENT)
    async with registry.http.put(f"{location}?digest={digest}", data=io.BytesIO(CONTENT)) as response:
        assert response.status == 507
    assert not path.is_symlink()


@pytest.fixture
async def crowded(tmp_path: Path) -> AsyncIterator[DiskStore]:
    """A store on a disk with less free space than its reserve."""
    disk = os.statvfs(tmp_path)
    store = await DiskStore.open(tmp_path / "region", reserve=disk.f_blocks * disk.f_frsize)
    yield store
    await store.close()


async def test_within_the_reserve_writes_fail_and_reads_succeed(crowded: DiskStore, tmp_path: Path) -> None:
    roomy = await DiskStore.open(tmp_path / "region")
    sample = image()
    await push(roomy, APP, sample, Tag("v1"))
    await roomy.close()

    assert await crowded.write_error() == "the registry's disk is full; free space or enlarge it, then try again"
    with pytest.raises(DiskFull, match="disk is full"):
        await crowded.uploads.start(APP)
    with pytest.raises(DiskFull):
        await crowded.put_manifest(APP, sample.manifest, Tag("v2"))
    offsets: list[int] = []

    def source(offset: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        offsets.append(offset)
        return opening(CONTENT)(offset)

    with pytest.raises(DiskFull):
        await crowded.write_blob(APP, blob(CONTENT), source)
    assert offsets == []
    assert spooled(tmp_path) == []
    assert (await crowded.get_manifest(APP, Tag("v1"))).raw == sample.manifest.raw
    for digest, content in sample.all_blobs.items():
        assert await read(crowded, APP, blob(content)) == content
        assert await crowded.mount_blob(OTHER, digest, APP)
    await crowded.delete_manifest(APP, sample.digest)
    await crowded.garbage.collect(grace_seconds=0)


@pytest.mark.parametrize("size", [None, 2**60, 2**63, 2**64 - 1])
async def test_a_body_that_cannot_fit_is_refused_before_it_is_read(registry: Registry, size: int | None) -> None:
    location = await registry.start_upload()
    disk = os.statvfs(registry.root)
    url = URL(registry.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    size = size or disk.f_blocks * disk.f_frsize
    head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nAuthorization: me\r\nContent-Length: {size}"
    writer.write(f"{head}\r\n\r\n".encode())
    assert b" 507 " in await reader.readline()
    writer.close()
    assert spooled(registry.root) == []


@pytest.mark.skipif(not IS_ROOT, reason="only root may mount a disk")
async def test_a_small_disk_is_never_filled_and_recovers(tmp_path: Path) -> None:
    with small_disk(tmp_path, 32 * MIB):
        store = await DiskStore.open(tmp_path / "region")
        taken = []
        for _ in range(64):
            content = os.urandom(MIB)
            try:
                await store.write_blob(APP, blob(content), opening(content))
            except DiskFull:
                break
            taken.append(content)
        disk = os.statvfs(tmp_path)
        assert 20 < len(taken) < 32
        assert disk.f_bavail * disk.f_frsize > MIB
        assert spooled(tmp_path) == []
        assert "disk is full" in (await store.write_error() or "")
        for content in taken:
            assert await read(store, APP, blob(content)) == content
        for content in taken[:4]:
            await store.delete_blob(APP, blob(content).digest)
        assert await store.write_error() is None
        await store.write_blob(APP, blob(taken[0]), opening(taken[0]))
        await store.close()


@pytest.mark.skipif(not IS_ROOT, reason="only root may mount a disk")
async def test_a_disk_without_a_reserve_can_be_filled_and_recovers(tmp_path: Path) -> None:
    with small_disk(tmp_path, 16 * MIB):
        store = await DiskStore.open(tmp_path / "region", reserve=0)
        kept = os.urandom(MIB)
        await store.write_blob(APP, blob(kept), opening(kept))
        large = os.urandom(MIB) * 40
        identifier = await store.uploads.start(APP)

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(large), MIB):
                yield large[start : start + MIB]

        with pytest.raises(DiskFull):
            await store.uploads.append(APP, identifier, chunks())
        with pytest.raises(DiskFull):
            await store.write_blob(APP, blob(large), opening(large))
        disk = os.statvfs(tmp_path)
        assert disk.f_bavail * disk.f_frsize > 14 * MIB
        assert await read(store, APP, blob(kept)) == kept
        await store.close()


@pytest.mark.skipif(not IS_ROOT, reason="only root may mount a disk")
async def test_a_disk_without_free_inodes_is_full(tmp_path: Path) -> None:
    with small_disk(tmp_path, 64 * MIB, files=400):
        store = await DiskStore.open(tmp_path / "region")
        assert await store.write_error() is None
        taken = []
        for number in range(400):
            content = str(number).encode()
            try:
                await store.write_blob(APP, blob(content), opening(content))
            except DiskFull:
                break
            taken.append(content)
        assert 0 < len(taken) < 399
        assert os.statvfs(tmp_path).f_favail > 10
        assert "disk is full" in (await store.write_error() or "")
        for content in taken:
            assert await read(store, APP, blob(content)) == content
        await store.close()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG])
async def test_unsynced_content_is_never_acknowledged_or_reused(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    large = CONTENT * 20
    failing = True

    def sync_file(path: Path) -> None:
        if failing:
            raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(spool, "sync_file", sync_file)
    for content in (CONTENT, large):
        identifier = await store.uploads.start(APP)

        async def chunks(content: bytes = content) -> AsyncIterator[bytes]:
            yield content

        with pytest.raises((DiskFailed, DiskFull, DiskReadOnly)):
            await store.uploads.finish(APP, identifier, blob(content).digest, chunks())
        with pytest.raises((DiskFailed, DiskFull, DiskReadOnly)):
            await store.write_blob(APP, blob(content), opening(content))
        assert await store.stat_blob(APP, blob(content).digest) is None
    # A second sync of the same file would succeed although the content is lost.
    assert spooled(tmp_path) == []
    failing = False
    await store.write_blob(APP, blob(large), opening(large))
    assert await read(store, APP, blob(large)) == large


@pytest.mark.parametrize("folder", ["_blobs", "_manifests", "_tags", "blobs"])
async def test_an_entry_that_is_not_durable_is_removed(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    sample = image()
    await push(store, OTHER, image(seed="other"), Tag("v1"))
    syncing = os.fsync

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_dir() and folder in path.parts:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        syncing(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DiskFailed):
        await push(store, APP, sample, Tag("v1"))
    monkeypatch.setattr(os, "fsync", syncing)

    again = await DiskStore.open(tmp_path / "region")
    assert await again.head_manifest(APP, Tag("v1")) is None
    await push(again, APP, sample, Tag("v1"))
    assert (await again.get_manifest(APP, Tag("v1"))).raw == sample.manifest.raw
    await again.close()


async def test_a_read_only_disk_serves_all_content_and_reports_its_state(tmp_path: Path) -> None:
    root = tmp_path / "region"
    before = await DiskStore.open(root)
    sample = image(CONTENT)
    await push(before, APP, sample, Tag("v1"))
    for path in root.rglob("*"):
        os.utime(path, (1, 1))
    await before.close()

    with read_only(root):
        store = await DiskStore.open(root)
        assert (await store.get_manifest(APP, Tag("v1"))).raw == sample.manifest.raw
        for digest, content in sample.all_blobs.items():
            assert await store.stat_blob(APP, digest) == len(content)
            assert await read(store, APP, blob(content)) == content
        assert [tag async for tag in store.list_tags(APP)] == ["v1"]
        assert "read-only" in (await store.write_error() or "")
        with pytest.raises((DiskReadOnly, OSError)):
            await store.uploads.start(APP)
        with pytest.raises((DiskReadOnly, OSError)):
            await store.write_blob(APP, blob(b"new"), opening(b"new"))
        with pytest.raises((DiskReadOnly, OSError)):
            await store.delete_manifest(APP, Tag("v1"))
        await store.close()


async def test_a_read_only_disk_serves_no_damaged_content(tmp_path: Path) -> None:
    root = tmp_path / "region"
    before = await DiskStore.open(root)
    sample = image(CONTENT)
    await push(before, APP, sample, Tag("v1"))
    await before.close()
    path = root / "blobs/sha256" / Digest.of(CONTENT).encoded[:2] / Digest.of(CONTENT).encoded
    path.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))

    with read_only(root):
        store = await DiskStore.open(root)
        assert await store.stat_blob(APP, Digest.of(CONTENT)) is None
        with pytest.raises(Exception, match="does not exist"):
            await read(store, APP, blob(CONTENT))
        await store.close()
