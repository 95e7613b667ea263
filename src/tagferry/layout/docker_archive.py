"""Read an archive of `docker save` before docker 25, of podman or of crane as an OCI layout (`docker-archive:`).

Source: the Docker Image Specification 1.2, "Combined Image JSON + Filesystem Changeset Format". Such an archive has no
manifests, only a list of images with the files of their configs and layers. So the manifests are made here. Configs and
layers keep their bytes and digests, and the same archive always leads to the same manifests.
"""

import hashlib
import json
import os
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tagferry import bounds
from tagferry.errors import Invalid
from tagferry.layout.files import INDEX, blob_name
from tagferry.layout.index import IMAGE_NAME, REF_NAME
from tagferry.names import Digest
from tagferry.oci.model import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from tagferry.oci.strict_json import parse_object

LIST = "manifest.json"
"""The list of images, which makes a tar file such an archive."""
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_COMPRESSIONS = {b"\x1f\x8b": "+gzip", b"\x28\xb5\x2f\xfd": "+zstd"}
_HEAD_BYTES = 4
_READ_BYTES = 1024 * 1024
_LINKS = 10
"""The most links that are followed to a layer."""

Position = tuple[int, int]
"""Where a file begins in the archive, and its size."""


@dataclass(frozen=True, slots=True)
class DockerArchive:
    """A tar file with a list of images.

    Attributes:
        descriptor: its descriptor.
        name: its name in errors.
        files: the regular files in it.
        links: the targets of the links in it.
    """

    descriptor: int
    name: str
    files: Mapping[str, Position]
    links: Mapping[str, str]

    def layout(self) -> tuple[dict[str, Position], dict[str, bytes]]:
        """Return the files of the layout that are in the archive, and those that are made.

        Raises:
            Invalid: the list or a config is malformed, or a file is missing.
        """
        found: dict[str, Position] = {}
        made: dict[str, bytes] = {}
        entries: list[dict[str, Any]] = []
        for number, image in enumerate(self._images()):
            field = f"{LIST} of {self.name}: [{number}]"
            manifest = self._manifest(image, field, found)
            digest = Digest.of(manifest)
            made[blob_name(digest)] = manifest
            described = {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(manifest)}
            names = image.get("RepoTags") or []
            annotations = [one for name in names if isinstance(name, str) for one in _annotations(name)]
            entries += [{**described, "annotations": one} for one in annotations] or [described]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        return found, {**made, INDEX: json.dumps(index).encode()}

    def _images(self) -> list[dict[str, Any]]:
        field = f"{LIST} of {self.name}"
        # The parser takes objects only.
        wrapped = b'{"images":%s}' % self._content(LIST, bounds.TAG_LIST_BYTES, field)
        images = parse_object(wrapped, field=field)["images"]
        if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
            raise Invalid(field, "must be an array of objects")
        return images

    def _manifest(self, image: Mapping[str, Any], field: str, found: dict[str, Position]) -> bytes:
        """Make a manifest, and note where its config and layers are."""
        name = image.get("Config")
        if not isinstance(name, str):
            raise Invalid(f"{field}.Config", "must be a string", name)
        content = self._content(name, bounds.CONFIG_BYTES, f"{field}.Config")
        rootfs = parse_object(content, field=f"{name} of {self.name}").get("rootfs")
        layers, diff_ids = image.get("Layers"), rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
        if not isinstance(layers, list) or not isinstance(diff_ids, list) or len(layers) != len(diff_ids):
            raise Invalid(f"{field}.Layers", "must have a layer for each of rootfs.diff_ids in Config")
        digest = Digest.of(content)
        found[blob_name(digest)] = self._position(name, f"{field}.Config")
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": digest, "size": len(content)},
            "layers": [
                self._layer(layer, diff_id, f"{field}.Layers", found)
                for layer, diff_id in zip(layers, diff_ids, strict=True)
            ],
        }
        return json.dumps(document, separators=(",", ":")).encode()

    def _layer(self, name: Any, diff_id: Any, field: str, found: dict[str, Position]) -> dict[str, Any]:
        if not isinstance(name, str) or not isinstance(diff_id, str):
            raise Invalid(field, "must be strings, as rootfs.diff_ids in Config", name)
        position = start, size = self._position(name, field)
        head = os.pread(self.descriptor, min(size, _HEAD_BYTES), start)
        compression = next((suffix for magic, suffix in _COMPRESSIONS.items() if head.startswith(magic)), "")
        # The digest of a layer without compression is its diff_id, which is verified while it is copied.
        digest = self._digest(position) if compression else Digest(diff_id, field="rootfs.diff_ids")
        found[blob_name(digest)] = position
        return {"mediaType": f"{_LAYER}{compression}", "digest": digest, "size": size}

    def _digest(self, position: Position) -> Digest:
        running = hashlib.sha256()
        for chunk in self._chunks(position):
            running.update(chunk)
        return Digest(f"sha256:{running.hexdigest()}")

    def _chunks(self, position: Position) -> Iterator[bytes]:
        start, left = position
        while left and (chunk := os.pread(self.descriptor, min(left, _READ_BYTES), start)):
            yield chunk
            start, left = start + len(chunk), left - len(chunk)

    def _content(self, name: str, limit: int, field: str) -> bytes:
        start, size = self._position(name, field)
        if size > limit:
            raise Invalid(f"{name} of {self.name}", f"must have at most {limit} bytes", size)
        return os.pread(self.descriptor, size, start)

    def _position(self, name: str, field: str) -> Position:
        """Return where a file is; docker writes a layer once, and links to it."""
        path = posixpath.normpath(name)
        for _ in range(_LINKS):
            if path not in self.links:
                break
            path = self.links[path]
        if path not in self.files:
            raise Invalid(field, "must name files of the archive", name)
        return self.files[path]


def _annotations(name: str) -> Iterator[dict[str, str]]:
    """Yield the annotations for the entries of an image with this name, such as `alpine:3.20`."""
    repository, _, tag = name.rpartition(":")
    yield {REF_NAME: tag, IMAGE_NAME: name} if repository and "/" not in tag else {IMAGE_NAME: name}
    first, slash, _ = name.partition("/")
    is_host = slash and (any(mark in first for mark in ".:") or first == "localhost")
    if not is_host:
        # As newer versions of docker write it.
        yield {IMAGE_NAME: f"docker.io/{name}" if slash else f"docker.io/library/{name}"}
