"""One image in detail: its manifests, platforms, layers, and what is attached to it."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tagferry import bounds
from tagferry.catalog import ReferrerDetails, describe_referrer, list_referrers
from tagferry.catalog.contents import BoundedReader
from tagferry.concurrency import bounded_gather
from tagferry.errors import TagferryError
from tagferry.names import Digest, RepositoryName
from tagferry.oci.attestations import attestation_subject, is_listed_as_attestation
from tagferry.oci.dates import parse_date
from tagferry.oci.fields import platform_name
from tagferry.oci.images import ImageStore
from tagferry.oci.model import Descriptor, Manifest
from tagferry.oci.strict_json import has_too_many_values

_MANIFESTS = 32
_REFERRERS = 50
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer, or another blob of an artifact.

    Attributes:
        command: the build step that made it, by the image's config; "" if unknown.
    """

    descriptor: Descriptor
    command: str = ""


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """A manifest of an image.

    Attributes:
        platform: its platform, by the index or the config; "" if it has none.
        size: bytes of its blobs.
        blobs: its config and layers.
        created: when it was built, by its config.
        is_attestation: whether it documents another manifest of the index.
        documented: the platform of that manifest; "" if unknown.
        reason: why it could not be read; "" if it was.
    """

    digest: Digest
    media_type: str
    platform: str = ""
    size: int = 0
    blobs: tuple[Descriptor, ...] = ()
    layers: tuple[Layer, ...] = ()
    created: datetime | None = None
    is_attestation: bool = False
    documented: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ImageContent:
    """An image with everything below it, and what is attached to it.

    Attributes:
        manifests: the manifests of its platforms and attestations, or the image's own.
        left_out: the number of further manifests.
        referrers: signatures, SBOMs and other referrers.
        referrers_left_out: the number of further referrers.
        referrers_reason: why the referrers are not known; "" if they are.
    """

    root: Manifest
    manifests: tuple[ImageManifest, ...]
    left_out: int
    referrers: tuple[ReferrerDetails, ...] = ()
    referrers_left_out: int = 0
    referrers_reason: str = ""

    @property
    def size(self) -> int:
        """Bytes of all distinct blobs."""
        return sum({blob.digest: blob.size for one in self.manifests for blob in one.blobs}.values())


async def describe_content(store: ImageStore, name: RepositoryName, root: Manifest) -> ImageContent:
    """Return an image with its manifests and referrers, as far as they can be read and within limits."""
    if root.is_index:
        children = root.children[:_MANIFESTS]
        found = await bounded_gather(children, lambda child: _child(store, name, child), limit=_AT_ONCE)
        platforms = {str(child.digest): child.platform or "" for child in children}
        manifests = [
            replace(one, documented=platforms.get(attestation_subject(child) or "", ""))
            for one, child in zip(found, children, strict=True)
        ]
    else:
        manifests = [await _manifest(store, name, root)]
    left_out = max(0, len(root.children) - _MANIFESTS)
    try:
        referrers = await list_referrers(store, name, root.digest)
    except (TagferryError, OSError) as error:
        return ImageContent(root, tuple(manifests), left_out, referrers_reason=_reason(error))
    reader = BoundedReader(store)
    described = await bounded_gather(
        referrers[:_REFERRERS], lambda one: describe_referrer(store, name, one, reader), limit=_AT_ONCE
    )
    return ImageContent(
        root,
        tuple(manifests),
        left_out,
        referrers=tuple(one for one in described if one is not None),
        referrers_left_out=max(0, len(referrers) - _REFERRERS),
    )


async def _child(store: ImageStore, name: RepositoryName, child: Descriptor) -> ImageManifest:
    is_attestation = is_listed_as_attestation(child)
    platform = "" if is_attestation else child.platform or ""
    try:
        manifest = await store.get_manifest(name, child.digest)
    except (TagferryError, OSError) as error:
        return ImageManifest(
            child.digest, child.media_type, platform, is_attestation=is_attestation, reason=_reason(error)
        )
    return await _manifest(store, name, manifest, platform=platform, is_attestation=is_attestation)


async def _manifest(
    store: ImageStore, name: RepositoryName, manifest: Manifest, *, platform: str = "", is_attestation: bool = False
) -> ImageManifest:
    config = await _config(store, name, manifest.config) if manifest.config and not is_attestation else {}
    blobs = manifest.layers or (() if manifest.config else manifest.blobs)
    commands = _commands(config, len(blobs))
    return ImageManifest(
        digest=manifest.digest,
        media_type=manifest.media_type,
        platform=platform or platform_name(config) or "",
        size=sum(blob.size for blob in manifest.blobs),
        blobs=tuple(manifest.blobs),
        layers=tuple(Layer(blob, command) for blob, command in zip(blobs, commands, strict=True)),
        created=parse_date(config.get("created")),
        is_attestation=is_attestation,
    )


async def _config(store: ImageStore, name: RepositoryName, config: Descriptor) -> Mapping[str, Any]:
    """Return an image's config; empty if it is none, is too large, or cannot be read."""
    if config.size > bounds.CONFIG_BYTES or not config.media_type.endswith("json"):
        return {}
    try:
        async with store.read_blob(name, config) as chunks:
            raw = b"".join([chunk async for chunk in chunks])
    except (TagferryError, OSError):
        return {}
    return await asyncio.to_thread(_parsed, raw) if len(raw) > bounds.PARSED_AT_ONCE_BYTES else _parsed(raw)


def _parsed(raw: bytes) -> Mapping[str, Any]:
    if has_too_many_values(raw):
        return {}
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _commands(config: Mapping[str, Any], layers: int) -> Sequence[str]:
    """Return the build step of each layer by the config's history, or empty texts if that does not fit the layers."""
    history = config.get("history")
    if not isinstance(history, list):
        return [""] * layers
    steps = [one for one in history if isinstance(one, dict) and not one.get("empty_layer")]
    if len(steps) != layers:
        return [""] * layers
    return [text if isinstance(text := step.get("created_by"), str) else "" for step in steps]


def _reason(error: TagferryError | OSError) -> str:
    return error.message if isinstance(error, TagferryError) else f"cannot read it: {error.strerror}"
