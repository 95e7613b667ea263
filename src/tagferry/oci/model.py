"""Descriptors and manifests as the OCI image-spec 1.1 and Docker's image manifest version 2 schema 2 define them.

A `Manifest` keeps the bytes that were received and never serializes them again, so digests stay the same.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from tagferry import bounds
from tagferry.errors import Corrupt, Invalid, Unsupported
from tagferry.names import Digest
from tagferry.oci.fields import annotations_of, optional_text, plain_text, platform_name, urls_of
from tagferry.oci.optional_fields import check_optional_fields
from tagferry.oci.strict_json import parse_object

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_ARTIFACT_MANIFEST = "application/vnd.oci.artifact.manifest.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
OCI_EMPTY_CONFIG = "application/vnd.oci.empty.v1+json"
IN_TOTO = "application/vnd.in-toto+json"
ATTESTATION = "application/vnd.docker.attestation.manifest.v1+json"
"""The artifact type of BuildKit's attestations."""

MANIFEST_TYPES = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST, OCI_ARTIFACT_MANIFEST)
"""The supported media types of manifests, in order of preference."""

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
_SCHEMA_1 = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)

_PARSING = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tagferry-manifests")
"""Parses large manifests one after another: threads share one interpreter, and the event loop waits for each."""
_CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG, OCI_EMPTY_CONFIG})
_GENERIC_TYPES = frozenset(
    {"", "application/json", "text/json", "text/plain", "application/octet-stream", "binary/octet-stream"}
)
"""Content types with which storage servers send files of unknown types."""


class Descriptor(NamedTuple):
    """A reference to content: its type, digest and size in bytes (OCI image-spec, "Content Descriptors")."""

    media_type: str
    digest: Digest
    size: int
    urls: tuple[str, ...] = ()
    artifact_type: str | None = None
    annotations: Mapping[str, str] = MappingProxyType({})
    platform: str | None = None

    def __hash__(self) -> int:
        # Mappings have no hash.
        return hash((self.media_type, self.digest, self.size, self.urls, self.artifact_type, self.platform))

    @property
    def is_foreign(self) -> bool:
        """True for a non-distributable layer, which registries need not hold."""
        return "nondistributable" in self.media_type or "foreign.diff" in self.media_type

    @property
    def may_be_manifest(self) -> bool:
        """True if an entry of an index is a manifest, or may be one by its media type.

        BuildKit's cache indexes list blobs: layers, and a config (`application/vnd.buildkit.cacheconfig.v0`). All
        manifest types are JSON types.
        """
        media_type = _plain_type(self.media_type)
        if media_type in _CONFIGS:
            return False
        return self.is_known_manifest or media_type.endswith("json") or "/" not in media_type

    @property
    def is_known_manifest(self) -> bool:
        """True if the media type is that of a manifest."""
        media_type = _plain_type(self.media_type)
        return media_type in MANIFEST_TYPES or media_type in _SCHEMA_1

    @property
    def is_external(self) -> bool:
        """True for a foreign layer with `urls`."""
        return self.is_foreign and bool(self.urls)

    @classmethod
    def from_json(cls, document: Any, *, field: str = "descriptor") -> Self:
        """Parse the JSON form at `field`; raises Invalid, which names the field inside it."""
        if not isinstance(document, dict):
            raise Invalid(field, "must be a JSON object", document)
        media_type, size = document.get("mediaType"), document.get("size")
        digest = document.get("digest")
        if not isinstance(digest, str):
            raise Invalid(f"{field}.digest", "must be a string", digest)
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= bounds.CONTENT_BYTES:
            raise Invalid(f"{field}.size", f"must be a number of bytes, 0 to {bounds.CONTENT_BYTES}", size)
        if not isinstance(media_type, str):
            raise Invalid(f"{field}.mediaType", "must be a string", media_type)
        return cls(
            media_type=plain_text(media_type, field, "mediaType"),
            digest=Digest(digest, field=f"{field}.digest"),
            size=size,
            urls=urls_of(document["urls"], field) if "urls" in document else (),
            artifact_type=optional_text(document, field, "artifactType"),
            annotations=annotations_of(document, field) if "annotations" in document else {},
            platform=platform_name(document["platform"]) if "platform" in document else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form without empty fields."""
        document: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.urls:
            document["urls"] = list(self.urls)
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return document


class Manifest:
    """An image manifest or an index: the raw bytes, their media type and digest, and the content they reference."""

    def __init__(self, raw: bytes, media_type: str, digest: Digest) -> None:
        self.raw = raw
        self.media_type = media_type
        self.digest = digest

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Manifest):
            return NotImplemented
        return (self.digest, self.media_type, self.raw) == (other.digest, other.media_type, other.raw)

    def __hash__(self) -> int:
        return hash((self.digest, self.media_type))

    @classmethod
    def parse(
        cls, raw: bytes, media_type: str | None, *, digest: Digest | None = None, is_pushed: bool = False
    ) -> Self:
        """Parse and check a manifest's bytes.

        Args:
            raw: the bytes as received.
            media_type: the Content-Type; if absent, the `mediaType` field or the shape decides.
            digest: the expected digest, if known; otherwise the sha256 digest is computed.
            is_pushed: whether a client pushes the manifest; then optional fields of wrong types are refused, too.

        Raises:
            Corrupt: the bytes do not match the digest.
            Unsupported: the manifest has Docker's schema 1, or an unknown type.
            Invalid: the bytes are not a manifest; names the field.
        """
        actual = Digest.of(raw, digest.algorithm if digest else "sha256")
        if digest is not None and actual != digest:
            raise Corrupt(f"the manifest's bytes hash to {actual} instead of {digest}")
        document = parse_object(raw, field="manifest")
        manifest = cls(raw=raw, media_type=_media_type(document, media_type), digest=actual)
        # Fills the cached property, so that the bytes are not parsed again.
        manifest.__dict__["document"] = document
        _check_shape(manifest)
        _check_sizes(manifest)
        _ = manifest.subject, manifest.artifact_type, manifest.annotations
        if is_pushed:
            check_optional_fields(document)
        return manifest

    @cached_property
    def document(self) -> dict[str, Any]:
        """The manifest's JSON object."""
        return parse_object(self.raw, field="manifest")

    @property
    def size(self) -> int:
        """Bytes of the manifest itself."""
        return len(self.raw)

    def hashes_to(self, digest: Digest) -> bool:
        """Return whether the bytes have this digest, by its algorithm."""
        return digest == self.digest or Digest.of(self.raw, digest.algorithm) == digest

    @property
    def is_index(self) -> bool:
        """True for an OCI index or a Docker manifest list."""
        return self.media_type in INDEX_TYPES

    @cached_property
    def listed(self) -> tuple[Descriptor, ...]:
        """All entries of an index, in its order: manifests, and blobs if it lists some."""
        return _descriptors(self.document, "manifests") if self.is_index else ()

    @cached_property
    def children(self) -> tuple[Descriptor, ...]:
        """The manifests that an index lists, in its order; a store may hold some of them as blobs."""
        return tuple(one for one in self.listed if one.may_be_manifest)

    @cached_property
    def blobs(self) -> tuple[Descriptor, ...]:
        """The config, if any, and the layers of an image, or the blobs of an artifact or index, in their order."""
        if self.is_index:
            return tuple(one for one in self.listed if not one.may_be_manifest)
        if self.media_type == OCI_ARTIFACT_MANIFEST:
            return _descriptors(self.document, "blobs")
        return (self.config, *self.layers) if self.config else self.layers

    @cached_property
    def config(self) -> Descriptor | None:
        """The image's config."""
        config = self.document.get("config")
        return Descriptor.from_json(config, field="config") if config is not None else None

    @cached_property
    def layers(self) -> tuple[Descriptor, ...]:
        """The image's layers, in the manifest's order."""
        return _descriptors(self.document, "layers")

    @cached_property
    def subject(self) -> Descriptor | None:
        """The manifest that this one refers to, which makes this one its referrer."""
        subject = self.document.get("subject")
        return Descriptor.from_json(subject, field="subject") if subject is not None else None

    @property
    def artifact_type(self) -> str | None:
        """The artifact type, as the referrers API reports it (distribution-spec 1.1)."""
        declared = optional_text(self.document, "", "artifactType")
        if declared or self.is_index:
            return declared
        return self.config.media_type if self.config else None

    @property
    def is_attestation(self) -> bool:
        """True for a BuildKit attestation of an image, in either of its two forms.

        Source: BuildKit, docs/attestations/attestation-storage.md.
        """
        if self.is_index:
            return False
        if self.document.get("artifactType") == ATTESTATION:
            return True
        is_image = self.config is not None and self.config.media_type == OCI_CONFIG
        return is_image and bool(self.layers) and all(layer.media_type == IN_TOTO for layer in self.layers)

    @property
    def artifact_class(self) -> str:
        """The class of manifests that a registry accepts or refuses: the media type, a space, and the artifact type."""
        kind = ATTESTATION if self.is_attestation else self.artifact_type
        plain = "(blobs)" if self.is_index and self.blobs else "(plain)"
        return f"{self.media_type} {kind or plain}"

    @property
    def annotations(self) -> Mapping[str, str]:
        """The manifest's own annotations."""
        return annotations_of(self.document, "")

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of this manifest."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=self.size)

    @property
    def referrer_descriptor(self) -> Descriptor:
        """The descriptor in the referrers API (distribution-spec 1.1, "Listing Referrers")."""
        return Descriptor(
            media_type=self.media_type,
            digest=self.digest,
            size=self.size,
            artifact_type=self.artifact_type,
            annotations=self.annotations,
        )


async def parse_manifest(
    raw: bytes, media_type: str | None, *, digest: Digest | None = None, is_pushed: bool = False
) -> Manifest:
    """Parse a manifest as `Manifest.parse` does; parse a large one in a thread, so that the event loop is not blocked.

    Raises:
        Corrupt, Unsupported, Invalid: as `Manifest.parse`.
    """
    if len(raw) <= bounds.PARSED_AT_ONCE_BYTES:
        return Manifest.parse(raw, media_type, digest=digest, is_pushed=is_pushed)
    parse = partial(Manifest.parse, raw, media_type, digest=digest, is_pushed=is_pushed)
    return await asyncio.get_running_loop().run_in_executor(_PARSING, parse)


def _media_type(document: dict[str, Any], declared: str | None) -> str:
    embedded = _plain_type(optional_text(document, "", "mediaType"))
    header = _plain_type(plain_text(declared or "", "", "Content-Type"))
    if header in _SCHEMA_1 or document.get("schemaVersion") == 1:
        raise Unsupported(
            "Docker image manifests of schema 1 are not supported; push the image again with a current "
            "docker, which writes schema 2"
        )
    if header in MANIFEST_TYPES:
        if embedded and embedded != header:
            raise Invalid("mediaType", f"must equal the Content-Type {header}", document["mediaType"])
        return header
    if embedded in MANIFEST_TYPES:
        return embedded
    if not embedded and header in _GENERIC_TYPES:
        return _media_type_by_shape(document)
    raise Unsupported(f"manifests of the media type {embedded or header} are not supported")


def _plain_type(media_type: Any) -> str:
    """Return a media type in lower case without parameters (RFC 9110, section 8.3.1); empty if none is declared."""
    return media_type.partition(";")[0].strip().lower() if isinstance(media_type, str) else ""


def _check_shape(manifest: Manifest) -> None:
    """Refuse a manifest without its mandatory field, or with fields of both an image and an index (CVE-2021-41190)."""
    if manifest.media_type == OCI_ARTIFACT_MANIFEST:
        return
    required, foreign = ("manifests", {"layers", "config"}) if manifest.is_index else ("config", {"manifests"})
    if required not in manifest.document:
        raise Invalid(required, f"is required in a manifest of the type {manifest.media_type}")
    for name in sorted(foreign & manifest.document.keys()):
        raise Invalid(name, f"must not occur in a manifest of the type {manifest.media_type}")


def _media_type_by_shape(document: dict[str, Any]) -> str:
    if isinstance(document.get("manifests"), list):
        return OCI_INDEX
    if isinstance(document.get("config"), dict):
        return OCI_MANIFEST
    # Other JSON, such as an error document, must not pass for an image without layers.
    raise Invalid("manifest", "must have a config or manifests if no media type is declared")


def _check_sizes(manifest: Manifest) -> None:
    """Limit the total size, so that sizes can be added up and stored everywhere."""
    if sum(one.size for one in (*manifest.blobs, *manifest.children)) > bounds.CONTENT_BYTES:
        raise Invalid("manifest", f"must refer to at most {bounds.CONTENT_BYTES} bytes in total")


def _descriptors(document: dict[str, Any], name: str) -> tuple[Descriptor, ...]:
    entries = document.get(name)
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise Invalid(name, "must be an array of descriptors", entries)
    if len(entries) > bounds.DESCRIPTORS:
        raise Invalid(name, f"must have at most {bounds.DESCRIPTORS} entries", len(entries))
    return tuple(Descriptor.from_json(entry, field=f"{name}[{index}]") for index, entry in enumerate(entries))
