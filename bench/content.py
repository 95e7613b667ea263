"""The images that are copied: random bytes in gzip layers, the same in every run, generated during the push."""

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from bench.client import RegistryClient

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_PIECE = 1024 * 1024

KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True)
class Images:
    """The content of one repository of the source.

    Attributes:
        digests: the digest of each tag.
        blobs: the number of distinct blobs.
        size: the bytes of all of them.
    """

    repository: str
    digests: dict[str, str]
    blobs: int
    size: int

    @property
    def tags(self) -> list[str]:
        return list(self.digests)


def layer(seed: str, size: int) -> Iterator[bytes]:
    """Return a gzip stream around `size` random bytes. They are stored uncompressed, since only copying is measured."""
    content = random.Random(seed)  # noqa: S311
    packer = zlib.compressobj(level=0, wbits=31)
    for start in range(0, size, _PIECE):
        yield packer.compress(content.randbytes(min(_PIECE, size - start)))
    yield packer.flush()


class Author:
    """Pushes images into one repository."""

    def __init__(self, client: RegistryClient, repository: str) -> None:
        self._client = client
        self._repository = repository
        self._sizes: dict[str, int] = {}
        self._digests: dict[str, str] = {}
        self._serial = count()

    def layers(self, number: int, size: int) -> list[dict[str, Any]]:
        """Push new layers; returns their descriptors."""
        return [self._layer(f"{self._repository} {next(self._serial)}", size) for _ in range(number)]

    def image(self, layers: list[dict[str, Any]], *, tag: str | None = None) -> dict[str, Any]:
        """Push an image with a config of its own; returns its descriptor."""
        config = f'{{"architecture":"amd64","os":"linux","serial":{next(self._serial)}}}'.encode()
        digest = self._client.push_bytes(self._repository, config)
        self._sizes[digest] = len(config)
        document = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": digest, "size": len(config)},
            "layers": layers,
        }
        return self._manifest(document, tag)

    def index(self, children: list[dict[str, Any]], *, tag: str) -> dict[str, Any]:
        """Push an index of these images; returns its descriptor."""
        entries = [
            child | {"platform": {"os": "linux", "architecture": f"arch{number}"}}
            for number, child in enumerate(children)
        ]
        return self._manifest({"schemaVersion": 2, "mediaType": _INDEX, "manifests": entries}, tag)

    def images(self) -> Images:
        """Return the content that was pushed."""
        return Images(self._repository, dict(self._digests), len(self._sizes), sum(self._sizes.values()))

    def _layer(self, seed: str, size: int) -> dict[str, Any]:
        digest, stored = self._client.push_stream(self._repository, layer(seed, size))
        self._sizes[digest] = stored
        return {"mediaType": _LAYER, "digest": digest, "size": stored}

    def _manifest(self, document: dict[str, Any], tag: str | None) -> dict[str, Any]:
        digest, size = self._client.push_manifest(self._repository, tag or "{digest}", document)
        if tag is not None:
            self._digests[tag] = digest
        return {"mediaType": document["mediaType"], "digest": digest, "size": size}


def one_image(client: RegistryClient, repository: str, *, layers: int, layer_size: int) -> Images:
    """Push one tag with a few layers."""
    author = Author(client, repository)
    author.image(author.layers(layers, layer_size), tag="latest")
    return author.images()


def many_tags(client: RegistryClient, repository: str, *, tags: int, layer_size: int) -> Images:
    """Push tags of 8 layers each, 6 of which all of them share, and a config."""
    author = Author(client, repository)
    shared = author.layers(6, layer_size)
    for number in range(tags):
        author.image([*shared, *author.layers(2, layer_size)], tag=f"v{number}")
    return author.images()


def wide_index(client: RegistryClient, repository: str, *, platforms: int, layer_size: int) -> Images:
    """Push one index of several platforms with 10 layers each."""
    author = Author(client, repository)
    author.index([author.image(author.layers(10, layer_size)) for _ in range(platforms)], tag="latest")
    return author.images()
