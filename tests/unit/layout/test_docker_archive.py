"""Archives of docker before version 25, of podman and of crane, which have no manifests."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tagferry.errors import Corrupt, Invalid, Misused
from tagferry.layout import LayoutStore
from tagferry.names import Digest, Tag
from tagferry.oci.model import OCI_MANIFEST
from tests.support.images import image, push, read
from tests.unit.layout.test_layout import ANY, V1, archive, names_in, written_archive

BASE, TOP = b"the base " * 1000, b"the top " * 500
GZIP = gzip.compress(TOP, mtime=0)


def config(*layers: bytes) -> bytes:
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    return json.dumps(
        {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    ).encode()


CONFIG = config(BASE, TOP)
IMAGE = {"Config": "abc.json", "RepoTags": ["alpine:3.20"], "Layers": ["1/layer.tar", "2/layer.tar"]}


def write(path: Path, files: dict[str, bytes], listed: Any, *, links: dict[str, str] | None = None) -> LayoutStore:
    """Write an archive with a list of images; return it, to read."""
    with tarfile.open(path, "w") as tar:
        for name, content in ({"manifest.json": json.dumps(listed).encode()} | files).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return archive(path)


def saved(folder: Path, **changes: Any) -> LayoutStore:
    files = {"abc.json": CONFIG, "1/layer.tar": BASE, "2/layer.tar": TOP}
    return write(folder / "image.tar", files, [IMAGE | changes])


async def test_config_and_layers_keep_their_content_and_the_manifest_is_made(tmp_path: Path):
    store = saved(tmp_path)

    manifest = await store.get_manifest(ANY, Tag("3.20"))

    document = json.loads(manifest.raw)
    assert document["mediaType"] == OCI_MANIFEST
    assert document["config"]["digest"] == Digest.of(CONFIG)
    assert [layer["mediaType"] for layer in document["layers"]] == ["application/vnd.oci.image.layer.v1.tar"] * 2
    assert [await read(store, ANY, blob) for blob in manifest.blobs] == [CONFIG, BASE, TOP]
    (tmp_path / "again").mkdir()
    assert (await saved(tmp_path / "again").get_manifest(ANY, Tag("3.20"))).digest == manifest.digest


@pytest.mark.parametrize("name", ["", "3.20", "alpine:3.20", "docker.io/library/alpine:3.20"])
async def test_an_image_is_found_by_all_its_names(tmp_path: Path, name: str):
    store = saved(tmp_path)

    assert (await store.find(name)).descriptor.digest == (await store.get_manifest(ANY, Tag("3.20"))).digest
    assert (await store.find("")).tag == Tag("3.20")


@pytest.mark.parametrize("names", [None, []])
async def test_an_image_without_a_name_is_the_only_one(tmp_path: Path, names: list[str] | None):
    entry = await saved(tmp_path, RepoTags=names).find("")

    assert entry.tag is None
    assert entry.descriptor.media_type == OCI_MANIFEST


async def test_a_repository_with_a_port_is_no_tag(tmp_path: Path):
    store = saved(tmp_path, RepoTags=["localhost:5000/team/app", "localhost:5000/team/app:v1"])

    assert [tag async for tag in store.list_tags(ANY)] == [V1]
    assert (await store.find("localhost:5000/team/app:v1")).tag == V1


async def test_a_layer_that_is_a_link_to_another_is_read(tmp_path: Path):
    files = {"abc.json": config(BASE, BASE), "1/layer.tar": BASE}
    store = write(tmp_path / "image.tar", files, [IMAGE], links={"2/layer.tar": "../1/layer.tar"})

    manifest = await store.get_manifest(ANY, Tag("3.20"))

    assert [await read(store, ANY, blob) for blob in manifest.blobs][1:] == [BASE, BASE]


async def test_a_compressed_layer_is_named_by_its_own_digest(tmp_path: Path):
    files = {"abc.json": CONFIG, "1/layer.tar": BASE, "2/layer.tar": GZIP}
    store = write(tmp_path / "image.tar", files, [IMAGE])

    (_, _, top) = (await store.get_manifest(ANY, Tag("3.20"))).blobs

    assert (top.digest, top.media_type) == (Digest.of(GZIP), "application/vnd.oci.image.layer.v1.tar+gzip")
    assert await read(store, ANY, top) == GZIP


async def test_a_layer_with_other_content_than_its_config_says_is_not_copied(tmp_path: Path):
    files = {"abc.json": CONFIG, "1/layer.tar": BASE, "2/layer.tar": TOP[::-1]}
    store = write(tmp_path / "image.tar", files, [IMAGE])
    manifest, target = await store.get_manifest(ANY, Tag("3.20")), written_archive(tmp_path / "target.tar")

    with pytest.raises(Corrupt):
        await target.write_blob(
            ANY, manifest.blobs[2], lambda offset: store.read_blob(ANY, manifest.blobs[2], offset=offset)
        )
    await target.close()


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ({}, r"manifest\.json of .*image\.tar must be an array of objects"),
        ([7], r"manifest\.json of .*image\.tar must be an array of objects"),
        ([{}], r"manifest\.json of .*: \[0\]\.Config must be a string"),
        ([IMAGE | {"Config": "none.json"}], r'\[0\]\.Config must name files of the archive: got "none\.json"'),
        ([IMAGE, IMAGE | {"Layers": []}], r"\[1\]\.Layers must have a layer for each of rootfs\.diff_ids"),
        (
            [IMAGE | {"Layers": ["1/layer.tar", "3/layer.tar"]}],
            r'Layers must name files of the archive: got "3/layer\.tar"',
        ),
        ([IMAGE | {"Layers": ["1/layer.tar", 2]}], r"\[0\]\.Layers must be strings"),
    ],
)
async def test_a_malformed_list_is_refused_with_its_rule(tmp_path: Path, listed: Any, message: str):
    files = {"abc.json": CONFIG, "1/layer.tar": BASE, "2/layer.tar": TOP}
    store = write(tmp_path / "image.tar", files, listed)

    for _ in range(2):
        with pytest.raises(Invalid, match=message):
            await store.find("")


async def test_nothing_is_added_to_such_an_archive(tmp_path: Path):
    saved(tmp_path)
    before = (tmp_path / "image.tar").read_bytes()
    store = written_archive(tmp_path / "image.tar")

    with pytest.raises(Misused, match="TARGET must not be an archive in docker's older format"):
        await push(store, ANY, image(), V1)
    await store.commit()
    await store.close()

    assert (tmp_path / "image.tar").read_bytes() == before
    assert names_in(tmp_path) == {"image.tar"}
