"""Small valid images for tests: their manifests and blobs, and a function that pushes them to any image store."""

import gzip
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.images import ImageStore, OpenBlob
from tagferry.oci.model import (
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_EMPTY_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
)

OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_ZSTD_LAYER = "application/vnd.oci.image.layer.v1.tar+zstd"
IN_TOTO = "application/vnd.in-toto+json"
CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"
SIGNATURE = "application/vnd.example.signature"


@dataclass(frozen=True)
class SampleImage:
    """A manifest with all content that it references.

    Attributes:
        manifest: the image, artifact or index itself.
        blobs: content by digest, for this manifest only.
        children: what an index lists.
    """

    manifest: Manifest
    blobs: Mapping[Digest, bytes] = field(default_factory=dict)
    children: tuple["SampleImage", ...] = ()

    @property
    def digest(self) -> Digest:
        return self.manifest.digest

    @property
    def all_blobs(self) -> dict[Digest, bytes]:
        """The blobs of this manifest and of those that it lists."""
        collected = dict(self.blobs)
        for child in self.children:
            collected |= child.all_blobs
        return collected

    @property
    def all_manifests(self) -> list[Manifest]:
        """The manifests in an order in which they can be pushed: children first."""
        return [inner for child in self.children for inner in child.all_manifests] + [self.manifest]


def image(
    *layers: bytes,
    seed: str = "image",
    platform: tuple[str, ...] = ("linux", "amd64"),
    docker: bool = False,
    subject: Manifest | None = None,
    algorithm: str = "sha256",
    annotations: Mapping[str, str] | None = None,
    layer_type: str | None = None,
) -> SampleImage:
    """An image with these layers (already compressed), or with one small layer made from the seed."""
    contents = layers or (layer(seed),)
    told = dict(zip(("os", "architecture", "variant"), platform, strict=False))
    config = _json({**told, "rootfs": {"type": "layers"}, "seed": seed})
    layer_type = layer_type or (DOCKER_LAYER if docker else OCI_LAYER)
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
        "config": _descriptor(config, DOCKER_CONFIG if docker else OCI_CONFIG, algorithm),
        "layers": [_descriptor(content, layer_type, algorithm) for content in contents],
    }
    if subject is not None:
        document["subject"] = subject.descriptor.to_json()
    if annotations:
        document["annotations"] = dict(annotations)
    blobs = {Digest.of(content, algorithm): content for content in (config, *contents)}
    return SampleImage(manifest=_manifest(document, algorithm), blobs=blobs)


def configured(config: bytes, *layers: bytes) -> SampleImage:
    """An image with this config."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor(config, OCI_CONFIG),
        "layers": [_descriptor(content, OCI_LAYER) for content in layers],
    }
    return SampleImage(manifest=_manifest(document), blobs={Digest.of(one): one for one in (config, *layers)})


def built(created: Any, *layers: bytes, seed: str = "") -> SampleImage:
    """An image with this build date in its config."""
    return configured(_json({"created": created, "seed": seed}), *layers)


def artifact(
    *,
    subject: Manifest | None = None,
    artifact_type: str = SIGNATURE,
    payload: bytes = b"signed",
    media_type: str = "application/octet-stream",
) -> SampleImage:
    """An OCI 1.1 artifact, such as a signature, with the empty config and, if given, a subject."""
    empty = b"{}"
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": _descriptor(empty, OCI_EMPTY_CONFIG),
        "layers": [_descriptor(payload, media_type)],
        "annotations": {"org.example.made-by": "tagferry's tests"},
    }
    if subject is not None:
        document["subject"] = subject.descriptor.to_json()
    blobs = {Digest.of(content): content for content in (empty, payload)}
    return SampleImage(manifest=_manifest(document), blobs=blobs)


def index(*children: SampleImage, docker: bool = False) -> SampleImage:
    """A multi-platform index, or Docker manifest list, of these images; of two small ones if none is given."""
    if not children:
        platforms = (("linux", "amd64"), ("linux", "arm64"))
        children = tuple(image(seed=f"index {name}", platform=(os, name), docker=docker) for os, name in platforms)
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_LIST if docker else OCI_INDEX,
        "manifests": [child.manifest.descriptor.to_json() | {"platform": _platform_of(child)} for child in children],
    }
    return SampleImage(manifest=_manifest(document), children=children)


def attestation(seed: str = "attestation") -> SampleImage:
    """A BuildKit attestation of an image, with an unknown platform."""
    return image(seed.encode(), seed=seed, platform=("unknown", "unknown"), layer_type=IN_TOTO)


def attested(*children: SampleImage, docker: bool = False, annotations: Mapping[str, str] | None = None) -> SampleImage:
    """An index of these images, each with an attestation that the index lists too, as BuildKit pushes them."""
    attestations = [attestation(f"about {child.digest}") for child in children]
    plain = index(*children, *attestations, docker=docker)
    document = json.loads(plain.manifest.raw)
    for place, child in enumerate(children):
        document["manifests"][len(children) + place]["annotations"] = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": child.digest,
        }
    if annotations:
        document["annotations"] = dict(annotations)
    return SampleImage(manifest=_manifest(document), children=plain.children)


def listing_blobs(
    *contents: bytes, media_types: tuple[str, ...] = (OCI_LAYER, CACHE_CONFIG), children: tuple[SampleImage, ...] = ()
) -> SampleImage:
    """An index that lists blobs, as BuildKit exports its cache: by default a layer and the cache's config."""
    contents = contents or (layer("cached"), b'{"layers":[],"records":[]}')
    listed = [_descriptor(content, media_type) for content, media_type in zip(contents, media_types, strict=True)]
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [*listed, *(child.manifest.descriptor.to_json() for child in children)],
    }
    blobs = {Digest.of(content): content for content in contents}
    return SampleImage(manifest=_manifest(document), blobs=blobs, children=children)


def layer(text: str, repeat: int = 1) -> bytes:
    """A gzip layer whose bytes depend only on the text."""
    return gzip.compress(text.encode() * repeat, mtime=0)


def blob(content: bytes, algorithm: str = "sha256", media_type: str = OCI_LAYER) -> Descriptor:
    """The descriptor of a blob with this content."""
    return Descriptor(media_type=media_type, digest=Digest.of(content, algorithm), size=len(content))


def opening(content: bytes, chunk: int = 64 * 1024) -> OpenBlob:
    """A source for `write_blob` that can be opened as often as needed."""

    def open_blob(offset: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return _opened(content[offset:], chunk)

    return open_blob


async def push(store: ImageStore, repository: RepositoryName, sample: SampleImage, tag: Tag | None = None) -> None:
    """Push an image with all content that it references to a store, children first."""
    for digest, content in sample.all_blobs.items():
        await store.write_blob(repository, blob(content, digest.algorithm), opening(content))
    *children, top = sample.all_manifests
    for child in children:
        await store.put_manifest(repository, child)
    await store.put_manifest(repository, top, tag)


async def read(store: ImageStore, repository: RepositoryName, descriptor: Descriptor, *, offset: int = 0) -> bytes:
    """A blob's content from the offset."""
    async with store.read_blob(repository, descriptor, offset=offset) as chunks:
        return b"".join([chunk async for chunk in chunks])


@asynccontextmanager
async def _opened(content: bytes, chunk: int) -> AsyncIterator[AsyncIterator[bytes]]:
    yield _pieces(content, chunk)


async def _pieces(content: bytes, chunk: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), chunk):
        yield content[start : start + chunk]


def _platform_of(child: SampleImage) -> dict[str, str]:
    config = child.manifest.config
    document = json.loads(child.blobs[config.digest]) if config and config.digest in child.blobs else {}
    return {key: document[key] for key in ("os", "architecture", "variant") if key in document}


def _descriptor(content: bytes, media_type: str, algorithm: str = "sha256") -> dict[str, Any]:
    return blob(content, algorithm, media_type).to_json()


def _manifest(document: dict[str, Any], algorithm: str = "sha256") -> Manifest:
    raw = json.dumps(document, indent=3).encode()
    return Manifest.parse(raw, document["mediaType"], digest=Digest.of(raw, algorithm))


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()
