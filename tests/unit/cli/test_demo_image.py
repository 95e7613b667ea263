"""The demo's image is a real one: any tool can unpack what it says it holds."""

import gzip
import hashlib
import json
import tarfile

import pytest

from tagferry.cli.demo_image import DemoImage, build
from tagferry.names import Digest

DATA_BYTES = 3 * 1024 * 1024 + 17


def ignore(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> DemoImage:
    return build(tmp_path_factory.mktemp("image"), progress=ignore, data_bytes=DATA_BYTES)


def test_the_index_lists_one_manifest_a_platform(image):
    assert [child.platform for child in image.index.children] == ["linux/amd64", "linux/arm64"]
    assert [child.digest for child in image.index.children] == [manifest.digest for manifest in image.manifests]


def test_every_blob_is_a_file_of_its_digest_and_size(image):
    wanted = {blob.digest: blob.size for manifest in image.manifests for blob in manifest.blobs}
    assert {digest: path.stat().st_size for digest, path in image.blobs.items()} == wanted
    assert {Digest.of(path.read_bytes()) for path in image.blobs.values()} == set(wanted)
    assert image.size == sum(wanted.values())


def test_nothing_else_is_left_in_the_directory(image):
    directory = next(iter(image.blobs.values())).parent
    assert set(directory.iterdir()) == set(image.blobs.values())


def test_the_platforms_share_one_layer_and_have_one_of_their_own(image):
    first, second = (manifest.layers for manifest in image.manifests)
    assert first[0] == second[0]
    assert first[1].digest != second[1].digest


def test_each_config_tells_its_platform_and_the_digests_of_the_unpacked_layers(image):
    for manifest, architecture in zip(image.manifests, ["amd64", "arm64"], strict=True):
        config = json.loads(image.blobs[manifest.config.digest].read_bytes())
        unpacked = [
            f"sha256:{hashlib.sha256(gzip.decompress(image.blobs[layer.digest].read_bytes())).hexdigest()}"
            for layer in manifest.layers
        ]
        assert (config["os"], config["architecture"]) == ("linux", architecture)
        assert config["rootfs"] == {"type": "layers", "diff_ids": unpacked}
        assert len(config["history"]) == len(unpacked)


def test_the_layers_unpack(image):
    library, data = image.manifests[0].layers
    with tarfile.open(image.blobs[library.digest]) as archive:
        names = archive.getnames()
        assert "usr/lib/python3/tarfile.py" in names
        assert {member.mtime for member in archive} == {0}
    with tarfile.open(image.blobs[data.digest]) as archive:
        assert [(member.name, member.size) for member in archive] == [("srv/data/amd64.bin", DATA_BYTES)]


def test_the_data_does_not_compress(image):
    content = image.blobs[image.manifests[0].layers[1].digest].read_bytes()
    assert len(gzip.compress(content, 1)) > 0.99 * DATA_BYTES


def test_a_second_build_has_the_same_digests_and_tells_its_progress(image, tmp_path):
    told: list[str] = []
    again = build(tmp_path / "made", progress=told.append, data_bytes=DATA_BYTES)
    assert again.index.raw == image.index.raw
    assert set(again.blobs) == set(image.blobs)
    assert len(told) == 3
