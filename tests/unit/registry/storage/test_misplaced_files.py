"""Irregular entries in place of a file: a pipe, a link, a directory, a socket, an endless file."""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tagferry.names import Digest, RepositoryName, Tag
from tagferry.registry.storage import integrity
from tagferry.registry.storage.integrity import is_marked
from tagferry.registry.storage.store import DiskStore
from tests.support.images import SampleImage, artifact, blob, image, opening, push, read

APP, OTHER = RepositoryName("org/app"), RepositoryName("org/other")
Misplacing = Callable[[Path], None]


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def full_directory(path: Path) -> None:
    directory(path)
    (path / "data").write_text("kept")


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def unix_socket(path: Path) -> None:
    path.unlink()
    # A socket's own path has to be short.
    with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(path.parent):
        bound.bind("odd")
        Path("odd").rename(path.name)


def grown(path: Path) -> None:
    os.truncate(path, 1 << 42)


KINDS = [fifo, directory, full_directory, loop, link_to_nothing, endless, unix_socket, grown]


@pytest.fixture
async def stored(store: DiskStore) -> SampleImage:
    """An image in two repositories."""
    sample = image()
    await push(store, APP, sample, Tag("v1"))
    await push(store, OTHER, sample, Tag("v1"))
    return sample


async def damages(store: DiskStore) -> set[str]:
    scrub = store.repair.scrub()
    try:
        return {damage.kind for section in await scrub.sections() for damage in await scrub.check(section)}
    finally:
        scrub.close()


@pytest.mark.parametrize("misplace", KINDS)
@pytest.mark.parametrize("where", ["pool", "repository"])
async def test_an_irregular_file_is_not_a_blob_and_is_replaced_by_the_next_push(
    store: DiskStore, stored: SampleImage, tmp_path: Path, where: str, misplace: Misplacing
) -> None:
    digest, content = next(iter(stored.blobs.items()))
    pooled = tmp_path / "region/blobs/sha256" / digest.encoded[:2] / digest.encoded
    member = tmp_path / "region/repositories" / APP / "_blobs/sha256" / digest.encoded
    path = pooled if where == "pool" else member
    misplace(path)

    async with asyncio.timeout(60):
        # All repositories share a grown file; the other kinds leave one intact file.
        size = await store.stat_blob(APP, digest)
        assert size in ((len(content), None) if misplace is not grown else (None, 1 << 42))
        if size == len(content):
            assert await read(store, APP, blob(content)) == content
        await damages(store)
        assert await store.garbage.collect(0) >= 0
        for repository in (APP, OTHER):
            await store.write_blob(repository, blob(content), opening(content), force=True)
        for repository in (APP, OTHER):
            assert await read(store, repository, blob(content)) == content
        assert await damages(store) == set()
    for repaired in (pooled, member):
        assert stat.S_ISREG(repaired.lstat().st_mode)
        assert not is_marked(repaired.lstat())


@pytest.mark.parametrize("misplace", KINDS)
async def test_an_irregular_file_is_not_a_manifest_and_is_replaced_by_the_next_push(
    store: DiskStore, stored: SampleImage, tmp_path: Path, misplace: Misplacing
) -> None:
    path = tmp_path / "region/repositories" / APP / "_manifests/sha256" / stored.digest.encoded
    misplace(path)
    async with asyncio.timeout(60):
        assert await store.head_manifest(APP, Tag("v1")) is None
        assert await damages(store) == {"manifest"}
        assert await store.garbage.collect(0) == 0
        await store.put_manifest(APP, stored.manifest, Tag("v1"))
        assert (await store.get_manifest(APP, Tag("v1"))).raw == stored.manifest.raw
        misplace(path)
        await store.delete_manifest(APP, stored.digest)
    assert await store.head_manifest(APP, stored.digest) is None
    assert await store.head_manifest(OTHER, stored.digest) is not None


@pytest.mark.parametrize("misplace", KINDS)
async def test_an_irregular_file_is_not_a_tag_and_is_replaced_by_the_next_push(
    store: DiskStore, stored: SampleImage, tmp_path: Path, misplace: Misplacing
) -> None:
    misplace(tmp_path / "region/repositories" / APP / "_tags/v1")
    async with asyncio.timeout(60):
        assert await store.head_manifest(APP, Tag("v1")) is None
        assert await store.describe_tags(APP) == []
        await store.put_manifest(APP, stored.manifest, Tag("v1"))
        assert await store.head_manifest(APP, Tag("v1")) is not None


@pytest.mark.parametrize("misplace", KINDS)
async def test_an_irregular_file_is_replaced_by_the_referrer_entry(
    store: DiskStore, stored: SampleImage, tmp_path: Path, misplace: Misplacing
) -> None:
    signature = artifact(subject=stored.manifest)
    await push(store, APP, signature)
    folder = tmp_path / "region/repositories" / APP / "_referrers/sha256" / stored.digest.encoded
    misplace(folder / f"sha256-{signature.digest.encoded}")
    async with asyncio.timeout(60):
        for _ in range(2):
            assert [one.digest for one in await store.list_referrers(APP, stored.digest)] == [signature.digest]


async def test_a_directory_with_content_is_moved_aside(store: DiskStore, stored: SampleImage, tmp_path: Path) -> None:
    path = tmp_path / "region/repositories" / APP / "_tags/v1"
    full_directory(path)
    await store.put_manifest(APP, stored.manifest, Tag("v1"))
    assert [found.read_text() for found in path.parent.glob("*/data")] == ["kept"]
    assert [tag async for tag in store.list_tags(APP)] == ["v1"]


async def test_symbolic_links_are_not_followed(store: DiskStore, stored: SampleImage, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"data")
    mode = elsewhere.stat().st_mode
    path = tmp_path / "region/repositories" / APP / "_manifests/sha256" / stored.digest.encoded
    path.unlink()
    path.symlink_to(elsewhere)
    assert await store.head_manifest(APP, stored.digest) is None
    assert await damages(store) == {"manifest"}
    assert elsewhere.stat().st_mode == mode


async def test_the_next_read_removes_a_false_mark(store: DiskStore, stored: SampleImage, tmp_path: Path) -> None:
    files = [path for path in (tmp_path / "region").rglob("*") if path.is_file()]
    for path in files:
        path.chmod(path.stat().st_mode | stat.S_ISVTX)
    for digest, content in stored.blobs.items():
        assert await store.stat_blob(APP, digest) == len(content)
        assert await read(store, OTHER, blob(content)) == content
    assert (await store.get_manifest(APP, Tag("v1"))).raw == stored.manifest.raw
    assert not is_marked((tmp_path / "region/repositories" / APP / "_manifests/sha256" / stored.digest.encoded).stat())
    assert store.repair.reported() == []


async def test_damage_is_remembered_on_a_file_system_without_marks(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E.g. vfat, which accepts a change of the mode and forgets it."""
    monkeypatch.setattr(os, "fchmod", lambda *_: None)
    large = bytes(2 * 1024 * 1024)
    sample = image(large)
    await push(store, APP, sample, Tag("v1"))
    digest = Digest.of(large)
    path = tmp_path / "region/repositories" / APP / "_blobs/sha256" / digest.encoded
    path.write_bytes(b"x" + large[1:])
    await damages(store)
    reads: list[object] = []
    with monkeypatch.context() as watched:
        watched.setattr(integrity, "_hash", lambda file, *_: reads.append(file))
        for _ in range(3):
            assert await store.stat_blob(APP, digest) is None
    assert reads == []
    await push(store, APP, sample, Tag("v1"))
    assert await store.stat_blob(APP, digest) == len(large)


async def test_a_lost_manifest_of_a_tag_is_found(store: DiskStore, stored: SampleImage, tmp_path: Path) -> None:
    (tmp_path / "region/repositories" / APP / "_manifests/sha256" / stored.digest.encoded).unlink()
    assert await damages(store) == {"manifest"}
