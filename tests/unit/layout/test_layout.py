"""OCI layouts in directories and archives: names, unfinished blobs, and the files themselves."""

import asyncio
import gzip
import json
import os
import secrets
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tagferry import bounds
from tagferry.errors import Conflict, Corrupt, Invalid, NotFound, Refused, Unsupported
from tagferry.layout import ArchiveFiles, DirectoryFiles, LayoutStore
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.images import BlobOutcome
from tagferry.oci.model import Manifest
from tests.support.images import SampleImage, artifact, blob, image, index, listing_blobs, opening, push, read

ANY, V1, V2 = RepositoryName("any"), Tag("v1"), Tag("v2")


def layout(path: Path) -> LayoutStore:
    return LayoutStore(DirectoryFiles(path), name="layout")


def archive(path: Path) -> LayoutStore:
    """Return an archive to read."""
    return LayoutStore(ArchiveFiles(path), name="archive")


def written_archive(path: Path) -> LayoutStore:
    """Return an archive to write to."""
    store = archive(path)
    store.allow_writes()
    return store


async def kill_after_push(path: Path, sample: SampleImage, tag: Tag) -> None:
    """Add an image to an archive, and end before the archive is written."""
    store = written_archive(path)
    await push(store, ANY, sample, tag)
    await store.close()


async def write_archive(path: Path, sample: SampleImage, tag: Tag) -> None:
    store = written_archive(path)
    await push(store, ANY, sample, tag)
    await store.commit()
    await store.close()


def entries(path: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads((path / "index.json").read_bytes())["manifests"]
    return listed


def names_in(path: Path) -> set[str]:
    return {one.name for one in path.iterdir()}


def rename(path: Path, names: list[dict[str, str]]) -> None:
    """Give the images of a layout these annotations, and leave out lists of referrers."""
    document = json.loads((path / "index.json").read_bytes())
    images = [
        entry
        for entry in document["manifests"]
        if not entry["annotations"]["org.opencontainers.image.ref.name"].startswith("sha256-")
    ]
    document["manifests"] = [{**entry, "annotations": told} for entry, told in zip(images, names, strict=True)]
    (path / "index.json").write_text(json.dumps(document))


class Broken:
    """A source of a blob that breaks after some bytes."""

    def __init__(self, content: bytes, after: int) -> None:
        self.content, self.after, self.offsets = content, after, list[int]()

    def __call__(self, offset: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        self.offsets.append(offset)
        return self._open(offset)

    @asynccontextmanager
    async def _open(self, offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield self.content[offset : self.after]
            raise Refused("the source broke")

        yield chunks()


async def test_a_layout_has_the_files_of_the_specification(tmp_path: Path):
    store, sample = layout(tmp_path / "images"), index()
    await push(store, ANY, sample, V1)
    await store.commit()

    assert json.loads((tmp_path / "images/oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert [entry["annotations"] for entry in entries(tmp_path / "images")] == [
        {"org.opencontainers.image.ref.name": "v1"}
    ]
    contents = [*sample.all_blobs, *(manifest.digest for manifest in sample.all_manifests)]
    assert names_in(tmp_path / "images/blobs/sha256") == {digest.encoded for digest in contents}
    assert names_in(tmp_path / "images") == {"oci-layout", "index.json", "blobs"}


async def test_what_other_programs_wrote_to_the_index_is_kept(tmp_path: Path):
    await push(layout(tmp_path), ANY, image(seed="theirs"), V1)
    document = json.loads((tmp_path / "index.json").read_bytes())
    theirs = document["manifests"][0] | {"platform": {"os": "linux"}, "x-theirs": 1, "annotations": {"a": "b"}}
    (tmp_path / "index.json").write_text(json.dumps(document | {"manifests": [theirs], "annotations": {"c": "d"}}))

    await push(layout(tmp_path), ANY, image(seed="ours"), V2)

    written = json.loads((tmp_path / "index.json").read_bytes())
    assert written["annotations"] == {"c": "d"}
    assert written["manifests"][0] == theirs
    assert len(written["manifests"]) == 2


@pytest.mark.parametrize("folder", [".", "blobs", "blobs/sha256", ".tagferry"])
@pytest.mark.parametrize("name", [".nfs000000000000001", "index.json~", "lost+found/"])
async def test_foreign_files_in_a_layout_are_left_alone(tmp_path: Path, folder: str, name: str):
    foreign = tmp_path / folder / name
    await push(layout(tmp_path), ANY, image(seed="before"), V1)
    foreign.parent.mkdir(exist_ok=True)
    foreign.mkdir() if name.endswith("/") else foreign.write_bytes(b"not ours")

    store = layout(tmp_path)
    await push(store, ANY, image(seed="after"), V2)
    await store.commit()

    assert [tag async for tag in layout(tmp_path).list_tags(ANY)] == [V1, V2]
    assert await layout(tmp_path).get_manifest(ANY, V1)
    assert foreign.exists()


async def test_a_foreign_directory_that_cannot_be_opened_does_not_prevent_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "blobs/lost+found").mkdir(parents=True)
    system_open = os.open

    def without_permission(path: Any, *arguments: Any, **options: Any) -> int:
        if "lost+found" in os.fspath(path):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return system_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", without_permission)

    await push(layout(tmp_path), ANY, image(), V1)

    assert [tag async for tag in layout(tmp_path).list_tags(ANY)] == [V1]


async def test_a_layout_of_symbolic_links_is_read(tmp_path: Path):
    await push(layout(tmp_path / "real"), ANY, sample := image(), V1)
    for file in [file for file in (tmp_path / "real").rglob("*") if file.is_file()]:
        link = tmp_path / "links" / file.relative_to(tmp_path / "real")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)

    store = layout(tmp_path / "links")

    assert (await store.get_manifest(ANY, V1)).digest == sample.digest
    for digest, content in sample.blobs.items():
        assert await store.stat_blob(ANY, digest) == len(content)
        assert await read(store, ANY, blob(content)) == content


async def test_two_writers_of_one_layout_keep_each_others_tags(tmp_path: Path):
    stores = [layout(tmp_path) for _ in range(4)]
    tags = [Tag(f"v{number}") for number in range(20)]

    await asyncio.gather(
        *(push(stores[number % 4], ANY, image(seed=f"{number}"), tag) for number, tag in enumerate(tags))
    )

    assert [tag async for tag in layout(tmp_path).list_tags(ANY)] == sorted(tags)


async def test_reading_a_layout_leaves_the_directory_of_a_writer(tmp_path: Path):
    await push(layout(tmp_path), ANY, image(), V1)
    (tmp_path / ".tagferry").mkdir(exist_ok=True)

    reader = layout(tmp_path)
    await reader.get_manifest(ANY, V1)
    await reader.commit()
    await reader.close()

    assert (tmp_path / ".tagferry").is_dir()


async def test_a_blob_is_written_although_another_writer_removes_the_directory_of_drafts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    mkdir, removed = Path.mkdir, list[Path]()

    def made_and_removed(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        mkdir(path, mode, parents, exist_ok)
        if path.name == ".tagferry" and not removed:
            path.rmdir()
            removed.append(path)

    monkeypatch.setattr(Path, "mkdir", made_and_removed)

    await push(layout(tmp_path), ANY, image(), V1)

    assert removed
    assert (await layout(tmp_path).get_manifest(ANY, V1)).digest == image().digest


async def test_the_only_image_needs_no_name(tmp_path: Path):
    sample, store = image(), layout(tmp_path)
    await push(store, ANY, sample, V1)
    await push(store, ANY, artifact(subject=sample.manifest))
    assert (await store.find("")).descriptor.digest == sample.digest

    await push(store, ANY, image(seed="second"), V2)

    with pytest.raises(Conflict, match="has 2 images; it has v1, v2"):
        await store.find("")


async def test_an_image_is_found_by_any_name_that_the_layout_records(tmp_path: Path):
    first, second = image(seed="first"), image(seed="second")
    await push(layout(tmp_path), ANY, first, V1)
    await push(layout(tmp_path), ANY, second, V2)
    names = [
        {
            "io.containerd.image.name": f"docker.io/library/{name}:latest",
            "org.opencontainers.image.ref.name": "latest",
        }
        for name in ("first", "second")
    ]
    rename(tmp_path, names)
    store = layout(tmp_path)

    assert (await store.find("docker.io/library/second:latest")).descriptor.digest == second.digest
    with pytest.raises(Conflict, match='several images of the layout have the name "latest"'):
        await store.find("latest")
    with pytest.raises(NotFound, match="it has latest"):
        await store.find("v9")


async def test_referrers_without_a_name_are_found_by_their_subject(tmp_path: Path):
    """As oras writes them."""
    sample = image()
    signature = artifact(subject=sample.manifest)
    await push(layout(tmp_path), ANY, sample, V1)
    await push(layout(tmp_path), ANY, signature, V2)
    rename(tmp_path, [{"org.opencontainers.image.ref.name": "v1"}, {}])

    assert [one.digest for one in await layout(tmp_path).list_referrers(ANY, sample.digest)] == [signature.digest]
    assert (await layout(tmp_path).find("")).descriptor.digest == sample.digest


async def test_an_index_of_referrers_is_no_tag_to_list(tmp_path: Path):
    sample, store = image(), layout(tmp_path)
    await push(store, ANY, sample, V1)
    await push(store, ANY, artifact(subject=sample.manifest))

    assert [tag async for tag in store.list_tags(ANY)] == [V1]
    assert len(entries(tmp_path)) == 2


@pytest.mark.parametrize("open_store", [layout, written_archive])
async def test_an_unfinished_blob_is_continued_where_it_ended(
    tmp_path: Path, open_store: Callable[[Path], LayoutStore]
):
    content = secrets.token_bytes(3_000_000)
    broken = Broken(content, 2_500_000)
    store = open_store(tmp_path / "images.tar")
    with pytest.raises(Refused):
        await store.write_blob(ANY, blob(content), broken)
    await store.close()
    again = Broken(content, 2_900_000)

    store = open_store(tmp_path / "images.tar")
    with pytest.raises(Refused):
        await store.write_blob(ANY, blob(content), again)
    await store.close()
    offsets = []

    def rest(offset: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        offsets.append(offset)
        return opening(content)(offset)

    store = open_store(tmp_path / "images.tar")
    assert await store.write_blob(ANY, blob(content), rest) is BlobOutcome.UPLOADED
    assert (again.offsets, offsets) == ([2_500_000], [2_900_000])
    assert await read(store, ANY, blob(content)) == content


async def test_a_wrong_beginning_of_an_earlier_process_is_fetched_again(tmp_path: Path):
    content = secrets.token_bytes(1000)
    drafts = tmp_path / ".tagferry"
    drafts.mkdir()
    (drafts / Digest.of(content).replace(":", "-")).write_bytes(b"?" * 500)

    await layout(tmp_path).write_blob(ANY, blob(content), opening(content))

    assert await read(layout(tmp_path), ANY, blob(content)) == content


async def test_a_truncated_blob_does_not_count_as_present(tmp_path: Path):
    content, store = secrets.token_bytes(1000), layout(tmp_path)
    await store.write_blob(ANY, blob(content), opening(content))
    (tmp_path / "blobs/sha256" / Digest.of(content).encoded).write_bytes(content[:10])

    assert await store.write_blob(ANY, blob(content), opening(content)) is BlobOutcome.UPLOADED
    assert await read(store, ANY, blob(content)) == content


def with_wrong_sizes(sample: SampleImage, by: int) -> SampleImage:
    """Return an index that lists its entries with sizes that differ from theirs."""
    document = json.loads(sample.manifest.raw)
    for listed in document["manifests"]:
        listed["size"] += by
    return replace(sample, manifest=Manifest.parse(json.dumps(document).encode(), sample.manifest.media_type))


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize("name", ["layout", "images.tar"])
async def test_manifests_are_complete_although_an_index_lists_other_sizes(tmp_path: Path, name: str, by: int):
    path, sample = tmp_path / name, index(with_wrong_sizes(index(), by), image())
    store = layout(path) if name == "layout" else written_archive(path)

    await push(store, ANY, sample, V1)
    await store.commit()

    store = layout(path) if name == "layout" else archive(path)
    assert (await store.get_manifest(ANY, V1)).raw == sample.manifest.raw
    assert not await store.is_damaged(ANY, sample.digest)


async def test_an_entry_of_an_index_that_is_a_blob_of_another_size_is_damaged(tmp_path: Path):
    store, sample = layout(tmp_path), with_wrong_sizes(listing_blobs(), 1)

    await push(store, ANY, sample, V1)

    assert await store.is_damaged(ANY, sample.digest)


@pytest.mark.parametrize("name", ["layout", "images.tar"])
async def test_a_large_document_is_a_blob(tmp_path: Path, name: str):
    path, content = tmp_path / name, json.dumps({"packages": "x" * bounds.MANIFEST_BYTES}).encode()
    sample = artifact(payload=content, media_type="application/vnd.in-toto+json")
    store = layout(path) if name == "layout" else written_archive(path)

    await push(store, ANY, sample, V1)
    await store.commit()

    store = layout(path) if name == "layout" else archive(path)
    assert not await store.is_damaged(ANY, sample.digest)


async def test_a_damaged_manifest_is_corrupt(tmp_path: Path):
    sample = image()
    await push(layout(tmp_path), ANY, sample, V1)
    (tmp_path / "blobs/sha256" / sample.digest.encoded).write_bytes(b"{}")

    with pytest.raises(Corrupt, match=r"holds wrong bytes: .*; copy the image there again$"):
        await layout(tmp_path).get_manifest(ANY, V1)


async def test_an_archive_appears_only_when_it_is_whole(tmp_path: Path):
    store, sample = written_archive(tmp_path / "images.tar"), index()
    await push(store, ANY, sample, V1)
    assert not (tmp_path / "images.tar").exists()

    await store.commit()

    assert names_in(tmp_path) == {"images.tar"}
    with tarfile.open(tmp_path / "images.tar") as file:
        assert {"oci-layout", "index.json"} <= set(file.getnames())
    assert (await archive(tmp_path / "images.tar").get_manifest(ANY, V1)).digest == sample.digest


async def test_an_image_is_added_to_an_archive_beside_the_others(tmp_path: Path):
    path, samples = tmp_path / "images.tar", {V1: image(seed="1"), V2: image(seed="2")}
    for tag, sample in samples.items():
        await write_archive(path, sample, tag)

    store = archive(path)
    assert [tag async for tag in store.list_tags(ANY)] == [V1, V2]
    for tag, sample in samples.items():
        assert (await store.get_manifest(ANY, tag)).digest == sample.digest
        for content in sample.all_blobs.values():
            assert await read(store, ANY, blob(content)) == content


async def test_an_archive_that_needs_nothing_is_not_written(tmp_path: Path):
    path = tmp_path / "images.tar"
    await write_archive(path, image(), V1)
    before = path.stat()

    again = written_archive(path)
    assert await again.head_manifest(ANY, V1) is not None
    await again.commit()

    assert path.stat().st_ino == before.st_ino


async def test_what_an_interrupted_process_added_to_an_archive_is_part_of_the_next_one(tmp_path: Path):
    await kill_after_push(tmp_path / "images.tar", image(), V1)

    store = written_archive(tmp_path / "images.tar")
    assert [tag async for tag in store.list_tags(ANY)] == [V1]
    await store.commit()

    with tarfile.open(tmp_path / "images.tar") as file:
        assert "index.json" in file.getnames()


async def test_a_compressed_archive_is_refused_with_the_program_that_decompresses_it(tmp_path: Path):
    path = tmp_path / "images.tar"
    path.write_bytes(gzip.compress(b"anything"))

    with pytest.raises(Invalid, match="must not be compressed; decompress it with: gunzip"):
        await archive(path).find("")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("index.json", b"", r"index\.json of layout must be JSON in UTF-8"),
        ("index.json", b'{"manifests":[', r"index\.json of layout must be JSON in UTF-8"),
        ("index.json", b"[]", r"index\.json of layout must be a JSON object"),
        ("index.json", b"{}", r"index\.json of layout: manifests must be an array"),
        (
            "index.json",
            b'{"manifests":[{"digest":"x"}]}',
            r"index\.json of layout: manifests\[0\]\.size must be a number",
        ),
        ("index.json", b'{"manifests":[],"manifests":[]}', r"index\.json of layout must not repeat a name"),
        ("oci-layout", b"", r"oci-layout of layout must be JSON in UTF-8"),
        ("oci-layout", b"{}", r'oci-layout of layout: imageLayoutVersion must be "1\.0\.0"'),
        (
            "oci-layout",
            b'{"imageLayoutVersion":1}',
            r'oci-layout of layout: imageLayoutVersion must be "1\.0\.0": got 1',
        ),
    ],
)
async def test_a_malformed_file_is_named_with_the_rule(tmp_path: Path, name: str, content: bytes, message: str):
    await push(layout(tmp_path), ANY, image(), V1)
    (tmp_path / name).write_bytes(content)

    with pytest.raises(Invalid, match=f"^{message}"):
        await layout(tmp_path).find("")
    with pytest.raises(Invalid, match=f"^{message}"):
        await layout(tmp_path).head_manifest(ANY, V1, for_write=True)


async def test_a_layout_of_another_version_is_refused(tmp_path: Path):
    await push(layout(tmp_path), ANY, image(), V1)
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')

    with pytest.raises(Unsupported, match=r'oci-layout of layout has the version "2\.0\.0"; tagferry reads'):
        await layout(tmp_path).find("")


async def test_a_layout_without_its_marker_is_read(tmp_path: Path):
    await push(layout(tmp_path), ANY, image(), V1)
    (tmp_path / "oci-layout").unlink()

    assert (await layout(tmp_path).find("")).tag == V1


@pytest.mark.parametrize(("open_store", "kind"), [(layout, "OCI layout"), (archive, "archive")])
async def test_a_missing_layout_is_reported_by_its_path(
    tmp_path: Path, open_store: Callable[[Path], LayoutStore], kind: str
):
    with pytest.raises(NotFound, match=rf"^{kind} .* does not exist; check its path, and that it has an index\.json"):
        await open_store(tmp_path / "nothing").get_manifest(ANY, V1)


async def test_a_directory_without_permission_is_refused(tmp_path: Path):
    class Locked(DirectoryFiles):
        def read(self, name: str, limit: int) -> bytes | None:
            raise PermissionError(13, "Permission denied", name)

    with pytest.raises(Refused, match=r"cannot access layout: index\.json: Permission denied"):
        await LayoutStore(Locked(tmp_path), name="layout").find("")
