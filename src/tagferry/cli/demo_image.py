"""A multi-platform image for `tagferry demo`, built from files that every machine has.

Both platforms share one layer, Python's standard library. Each also has its own layer of data, large enough for a
visible transfer. The digests depend only on the Python installation.
"""

import gzip
import hashlib
import io
import json
import os
import random
import sysconfig
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from tagferry.names import Digest
from tagferry.oci.model import OCI_INDEX, OCI_MANIFEST, Manifest

ARCHITECTURES = ("amd64", "arm64")
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_EPOCH = "1970-01-01T00:00:00Z"
_PIECE = 1024 * 1024
_LIBRARY_SUFFIX = ".py"
_LEFT_OUT = frozenset({"__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib"})


@dataclass(frozen=True, slots=True)
class DemoImage:
    """An image on disk.

    Attributes:
        index: the index, with one manifest for each platform.
        manifests: the index's children, in the same order.
        blobs: the file of every config and layer.
    """

    index: Manifest
    manifests: tuple[Manifest, ...]
    blobs: Mapping[Digest, Path]

    @property
    def size(self) -> int:
        """The size of all blobs in bytes, each counted once."""
        return sum(path.stat().st_size for path in self.blobs.values())


@dataclass(frozen=True, slots=True)
class _Layer:
    digest: Digest
    diff_id: Digest
    size: int
    created_by: str

    @property
    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": _LAYER, "digest": self.digest, "size": self.size}


def build(directory: Path, *, progress: Callable[[str], None], data_bytes: int = 52 * 1024 * 1024) -> DemoImage:
    """Build the image in a directory.

    Args:
        directory: where to write the blobs; created if it does not exist.
        progress: called with a short description of each step.
        data_bytes: size of each platform's own layer; the default is more than 100 MB for both.
    """
    directory.mkdir(parents=True, exist_ok=True)
    blobs: dict[Digest, Path] = {}
    progress("packing Python's standard library, the layer that both platforms share")
    library = _write_layer(directory, blobs, _add_library, created_by="COPY python /usr/lib/python3", level=1)
    manifests = []
    for architecture in ARCHITECTURES:
        progress(f"writing {data_bytes:,} bytes of data for linux/{architecture}")
        # Random data does not compress, so level 0 stores it without spending time.
        data = _write_layer(
            directory,
            blobs,
            partial(_add_data, seed=architecture, length=data_bytes),
            created_by=f"COPY data /srv/data # {architecture}",
            level=0,
        )
        manifests.append(_image(directory, blobs, architecture, [library, data]))
    return DemoImage(index=_index(manifests), manifests=tuple(manifests), blobs=blobs)


def _image(directory: Path, blobs: dict[Digest, Path], architecture: str, layers: list[_Layer]) -> Manifest:
    config = _encode(
        {
            "architecture": architecture,
            "os": "linux",
            "created": _EPOCH,
            "config": {
                "Entrypoint": ["/usr/bin/python3"],
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "WorkingDir": "/srv",
                "Labels": {"org.opencontainers.image.title": "tagferry demo"},
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created": _EPOCH, "created_by": layer.created_by} for layer in layers],
        }
    )
    digest = Digest.of(config)
    blobs[digest] = _blob_path(directory, digest)
    blobs[digest].write_bytes(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": _CONFIG, "digest": digest, "size": len(config)},
        "layers": [layer.descriptor for layer in layers],
        "annotations": {"org.opencontainers.image.created": _EPOCH},
    }
    return Manifest.parse(_encode(manifest), OCI_MANIFEST)


def _index(manifests: list[Manifest]) -> Manifest:
    children = [
        {
            "mediaType": manifest.media_type,
            "digest": manifest.digest,
            "size": manifest.size,
            "platform": {"architecture": architecture, "os": "linux"},
        }
        for architecture, manifest in zip(ARCHITECTURES, manifests, strict=True)
    ]
    annotations = {
        "org.opencontainers.image.title": "tagferry demo",
        "org.opencontainers.image.description": "Python's standard library and some data, for two platforms",
    }
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children, "annotations": annotations}
    return Manifest.parse(_encode(index), OCI_INDEX)


def _write_layer(
    directory: Path, blobs: dict[Digest, Path], fill: Callable[[tarfile.TarFile], None], *, created_by: str, level: int
) -> _Layer:
    unfinished = directory / "unfinished.tar.gz"
    with unfinished.open("wb") as file:
        compressed = _Tee(file)
        # Without a file name and time in the header, the same content has the same digest.
        with gzip.GzipFile(
            filename="", mode="wb", fileobj=cast("IO[bytes]", compressed), compresslevel=level, mtime=0
        ) as packed:
            plain = _Tee(packed)
            with tarfile.open(mode="w|", fileobj=cast("IO[bytes]", plain), format=tarfile.PAX_FORMAT) as archive:
                fill(archive)
    path = _blob_path(directory, compressed.digest)
    unfinished.replace(path)
    blobs[compressed.digest] = path
    return _Layer(digest=compressed.digest, diff_id=plain.digest, size=path.stat().st_size, created_by=created_by)


def _add_library(archive: tarfile.TarFile) -> None:
    root = Path(sysconfig.get_path("stdlib"))
    for path in _library_files(root):
        content = path.read_bytes()
        archive.addfile(_entry(f"usr/lib/python3/{path.relative_to(root)}", len(content)), io.BytesIO(content))


def _library_files(root: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(root):
        names[:] = sorted(set(names) - _LEFT_OUT)
        yield from (Path(directory, name) for name in sorted(files) if name.endswith(_LIBRARY_SUFFIX))


def _add_data(archive: tarfile.TarFile, *, seed: str, length: int) -> None:
    archive.addfile(_entry(f"srv/data/{seed}.bin", length), cast("IO[bytes]", _RandomBytes(seed, length)))


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = 0o644
    return entry


def _encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def _blob_path(directory: Path, digest: Digest) -> Path:
    return directory / digest.encoded


@dataclass(slots=True)
class _Tee:
    """A writer that hashes what it forwards, so that one pass gives both digests of a layer."""

    target: Any
    _hash: Any = field(default_factory=hashlib.sha256)

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.target.write(data)
        return len(data)

    def flush(self) -> None:
        self.target.flush()

    @property
    def digest(self) -> Digest:
        return Digest(f"sha256:{self._hash.hexdigest()}")


class _RandomBytes:
    """A file of pseudo-random bytes determined by the seed, generated piece by piece."""

    def __init__(self, seed: str, length: int) -> None:
        # Not for secrets: the bytes must be reproducible.
        self._random = random.Random(seed)  # noqa: S311
        self._left = length

    def read(self, wanted: int) -> bytes:
        piece = self._random.randbytes(min(wanted, self._left, _PIECE))
        self._left -= len(piece)
        return piece
