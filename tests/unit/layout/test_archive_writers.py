"""Archives that several processes read and write, and what an interrupted process left beside one."""

import os
from pathlib import Path

import pytest

from tagferry.errors import Corrupt, NotFound, StorageUnavailable
from tagferry.layout.additions import Additions
from tagferry.names import Tag
from tests.support.images import blob, image, push, read
from tests.unit.layout.test_layout import (
    ANY,
    V1,
    V2,
    archive,
    kill_after_push,
    layout,
    names_in,
    write_archive,
    written_archive,
)

ONE, TWO = image(seed="one"), image(seed="two")


async def test_reading_an_archive_leaves_the_writer_alone(tmp_path: Path):
    path = tmp_path / "images.tar"
    await write_archive(path, ONE, V1)
    before, writer, reader = path.read_bytes(), written_archive(path), archive(path)
    await push(writer, ANY, TWO, V2)

    assert [tag async for tag in reader.list_tags(ANY)] == [V1]
    await reader.commit()
    await reader.close()

    assert path.read_bytes() == before
    await writer.commit()
    assert [tag async for tag in archive(path).list_tags(ANY)] == [V1, V2]


async def test_what_was_never_committed_is_no_source(tmp_path: Path):
    path = tmp_path / "images.tar"
    await kill_after_push(path, ONE, V1)

    with pytest.raises(NotFound):
        await archive(path).get_manifest(ANY, V1)


async def test_a_source_needs_no_write_access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "images.tar"
    await write_archive(path, ONE, V1)
    await kill_after_push(path, TWO, V2)

    def forbidden(*_arguments: object) -> Additions:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Additions, "take", forbidden)

    store = archive(path)
    assert (await store.get_manifest(ANY, V1)).digest == ONE.digest
    await store.commit()


@pytest.mark.parametrize("ends", ["committed", "replaced by another program"])
async def test_foreign_files_beside_additions_are_left_alone(tmp_path: Path, ends: str):
    path, foreign = tmp_path / "images.tar", tmp_path / "images.tar.partial/notes/todo"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("not ours")
    await kill_after_push(path, ONE, V1)
    if ends != "committed":
        await write_archive(tmp_path / "another.tar", ONE, Tag("v3"))
        (tmp_path / "another.tar").rename(path)

    await write_archive(path, TWO, V2)

    assert foreign.read_text() == "not ours"
    assert names_in(tmp_path / "images.tar.partial") == {"notes"}
    kept = V1 if ends == "committed" else Tag("v3")
    assert {tag async for tag in archive(path).list_tags(ANY)} == {kept, V2}


async def test_a_second_writer_is_refused_while_the_first_writes(tmp_path: Path):
    path = tmp_path / "images.tar"
    first, second = written_archive(path), written_archive(path)
    await push(first, ANY, ONE, V1)

    with pytest.raises(StorageUnavailable, match="another process is writing"):
        await push(second, ANY, TWO, V2)
    await second.commit()
    await second.close()
    await first.commit()

    assert [tag async for tag in archive(path).list_tags(ANY)] == [V1]
    assert names_in(tmp_path) == {"images.tar"}


async def test_a_writer_does_not_undo_what_another_one_wrote_meanwhile(tmp_path: Path):
    path = tmp_path / "images.tar"
    early = written_archive(path)
    assert await early.head_manifest(ANY, V1) is None
    await write_archive(path, ONE, V1)

    with pytest.raises(StorageUnavailable, match="another process has replaced"):
        await push(early, ANY, TWO, V2)
    await early.close()

    assert [tag async for tag in archive(path).list_tags(ANY)] == [V1]
    assert names_in(tmp_path) == {"images.tar"}


async def test_an_archive_that_is_replaced_before_the_commit_is_kept(tmp_path: Path):
    path = tmp_path / "images.tar"
    store = written_archive(path)
    await push(store, ANY, ONE, V1)
    path.write_bytes(b"theirs")

    with pytest.raises(StorageUnavailable, match="another process has replaced"):
        await store.commit()

    assert path.read_bytes() == b"theirs"


async def test_additions_to_an_archive_that_is_gone_are_no_part_of_a_new_one(tmp_path: Path):
    path = tmp_path / "images.tar"
    await write_archive(path, ONE, V1)
    await kill_after_push(path, TWO, V2)
    path.unlink()

    await write_archive(path, TWO, V2)

    store = archive(path)
    assert [tag async for tag in store.list_tags(ANY)] == [V2]
    for content in TWO.all_blobs.values():
        assert await read(store, ANY, blob(content)) == content


async def test_a_tag_whose_content_was_lost_is_not_written(tmp_path: Path):
    path = tmp_path / "images.tar"
    await kill_after_push(path, ONE, V1)
    lost = next(iter(ONE.all_blobs))
    (tmp_path / "images.tar.partial/blobs/sha256" / lost.encoded).unlink()

    store = written_archive(path)
    assert await store.head_manifest(ANY, V1) is not None
    with pytest.raises(Corrupt, match=f"lacks {lost}; delete this directory"):
        await store.commit()

    assert not path.exists()


async def test_what_a_killed_commit_left_is_gone_after_the_next_one(tmp_path: Path):
    path = tmp_path / "images.tar"
    await kill_after_push(path, ONE, V1)
    (tmp_path / "images.tar.partial/archive.tar").write_bytes(b"half")

    await write_archive(path, ONE, V1)

    assert names_in(tmp_path) == {"images.tar"}


async def test_a_failing_commit_leaves_no_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "images.tar"
    store = written_archive(path)
    await push(store, ANY, ONE, V1)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageUnavailable, match="No space left"):
            await store.commit()

    assert names_in(tmp_path) == {"images.tar.partial"}
    assert not (tmp_path / "images.tar.partial/archive.tar").exists()


async def test_an_archive_behind_a_symbolic_link_is_written_where_it_is(tmp_path: Path):
    path, link = tmp_path / "data/images.tar", tmp_path / "images.tar"
    path.parent.mkdir()
    link.symlink_to("data/images.tar")

    await write_archive(link, ONE, V1)
    await write_archive(link, TWO, V2)

    assert link.is_symlink()
    assert names_in(path.parent) == {"images.tar"}
    assert [tag async for tag in archive(path).list_tags(ANY)] == [V1, V2]


async def test_a_pipe_instead_of_an_archive_is_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "images.tar")

    with pytest.raises(StorageUnavailable, match="is not a regular file"):
        await archive(tmp_path / "images.tar").find("")


async def test_a_pipe_instead_of_a_blob_is_refused_at_once(tmp_path: Path):
    await push(layout(tmp_path), ANY, ONE, V1)
    for digest in (ONE.digest, next(iter(ONE.all_blobs))):
        (tmp_path / "blobs/sha256" / digest.encoded).unlink()
        os.mkfifo(tmp_path / "blobs/sha256" / digest.encoded)

    with pytest.raises(StorageUnavailable, match="is not a regular file"):
        await layout(tmp_path).get_manifest(ANY, V1)
    with pytest.raises(StorageUnavailable, match="is not a regular file"):
        await read(layout(tmp_path), ANY, blob(next(iter(ONE.all_blobs.values()))))


async def test_a_pipe_instead_of_a_blob_is_replaced_in_a_target(tmp_path: Path):
    await push(layout(tmp_path), ANY, ONE, V1)
    digest = next(iter(ONE.all_blobs))
    (tmp_path / "blobs/sha256" / digest.encoded).unlink()
    os.mkfifo(tmp_path / "blobs/sha256" / digest.encoded)

    await push(layout(tmp_path), ANY, ONE, V1)

    assert await read(layout(tmp_path), ANY, blob(ONE.all_blobs[digest])) == ONE.all_blobs[digest]
