"""Layouts on disk: permissions, other file systems and lost power."""

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest

from tagferry.errors import Refused
from tagferry.layout import DirectoryFiles
from tests.support.images import blob, image, push, read
from tests.unit.layout.test_layout import ANY, V1, V2, Broken, archive, kill_after_push, layout, names_in, write_archive

ONE, TWO = image(seed="one"), image(seed="two")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o664])
async def test_an_archive_that_is_replaced_keeps_its_permissions(tmp_path: Path, permissions: int):
    path = tmp_path / "images.tar"
    await write_archive(path, ONE, V1)
    path.chmod(permissions)

    await write_archive(path, TWO, V2)

    assert mode(path) == permissions


async def test_an_archive_that_is_replaced_keeps_its_owner(tmp_path: Path):
    path = tmp_path / "images.tar"
    await write_archive(path, ONE, V1)
    try:
        os.chown(path, 12345, 23456)
    except PermissionError:
        pytest.skip("needs to be root")

    await write_archive(path, TWO, V2)

    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


async def test_a_new_archive_has_the_permissions_of_the_umask(tmp_path: Path):
    before = os.umask(0o027)
    try:
        await write_archive(tmp_path / "images.tar", ONE, V1)
        await push(layout(tmp_path / "images"), ANY, ONE, V1)
    finally:
        os.umask(before)

    assert mode(tmp_path / "images.tar") == 0o640
    assert mode(tmp_path / "images/index.json") == 0o640
    assert {mode(one) for one in (tmp_path / "images/blobs/sha256").iterdir()} == {0o640}


async def test_what_is_added_to_an_archive_is_private_until_it_is_written(tmp_path: Path):
    await kill_after_push(tmp_path / "images.tar", ONE, V1)

    assert mode(tmp_path / "images.tar.partial") == 0o700


async def test_an_index_keeps_its_permissions(tmp_path: Path):
    await push(layout(tmp_path), ANY, ONE, V1)
    (tmp_path / "index.json").chmod(0o600)

    await push(layout(tmp_path), ANY, TWO, V2)

    assert mode(tmp_path / "index.json") == 0o600


async def test_a_layout_behind_a_symbolic_link_is_written_where_it_is(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    await push(layout(tmp_path / "link"), ANY, ONE, V1)

    assert (tmp_path / "link").is_symlink()
    assert [tag async for tag in layout(tmp_path / "real").list_tags(ANY)] == [V1]


async def test_blobs_may_be_on_another_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "shared").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images/blobs").symlink_to("../shared")
    replace = os.replace

    def across(source: str, target: str) -> None:
        if ".tagferry" in str(source):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source, None, target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", across)
    store = layout(tmp_path / "images")
    await push(store, ANY, ONE, V1)
    await store.close()

    for digest, content in ONE.all_blobs.items():
        assert (tmp_path / "shared/sha256" / digest.encoded).read_bytes() == content
    assert {one.name for one in (tmp_path / "images").iterdir()} == {"oci-layout", "index.json", "blobs"}
    assert len(list((tmp_path / "shared/sha256").iterdir())) == len(ONE.all_blobs) + 1


async def test_an_index_is_durable_only_after_the_content_that_it_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        synced.append("index" if name.startswith(".index") else name)
        fsync(descriptor)

    await push(layout(tmp_path / "images"), ANY, ONE, V1)
    monkeypatch.setattr(os, "fsync", noted)
    await push(layout(tmp_path / "images"), ANY, TWO, V2)

    assert synced[-4:] == ["blobs", "sha256", "index", "images"]
    synced.clear()
    await write_archive(tmp_path / "images.tar", ONE, V1)
    assert synced[-2:] == ["archive.tar", tmp_path.name]
    assert await read(archive(tmp_path / "images.tar"), ANY, ONE.manifest.blobs[0])


async def test_a_read_only_directory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(Refused, match=r"cannot access archive: .*images\.tar\.partial: Permission denied"):
        await write_archive(tmp_path / "images.tar", ONE, V1)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
async def test_a_file_system_without_locks_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    store = layout(tmp_path / "images")
    await push(store, ANY, ONE, V1)
    await store.close()
    await write_archive(tmp_path / "images.tar", ONE, V1)

    for written in (layout(tmp_path / "images"), archive(tmp_path / "images.tar")):
        assert [tag async for tag in written.list_tags(ANY)] == [V1]
    assert names_in(tmp_path) == {"images", "images.tar"}
    assert names_in(tmp_path / "images") == {"oci-layout", "index.json", "blobs"}


async def test_an_unfinished_blob_that_no_one_can_continue_is_deleted(tmp_path: Path):
    content = bytes(3_000_000)
    first = DirectoryFiles(tmp_path).draft(blob(content))

    with pytest.raises(Refused):
        await layout(tmp_path).write_blob(ANY, blob(content), Broken(content, 2_500_000))

    assert len(names_in(tmp_path / ".tagferry")) == 1
    first.close(keep=False)
    assert names_in(tmp_path / ".tagferry") == set()
