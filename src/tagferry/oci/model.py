"""Descriptors and manifests as the OCI image-spec 1.1 and Docker's image manifest version 2 schema 2 define them.

A `Manifest` keeps the bytes that were received: they are never serialized anew, so digests stay what they were.
"""

import asyncio
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Self

from tagferry import bounds
from tagferry.errors import Corrupt, Invalid, Unsupported
from tagferry.names import Digest
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
"""Every manifest media type that is understood here, in the order in which it is asked for."""

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
_SCHEMA_1 = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)

_PARSING = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tagferry-manifests")
"""Large manifests are parsed one after another: threads share one interpreter, and the event loop waits for each."""
_CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG, OCI_EMPTY_CONFIG})
_UNTELLING = frozenset(
    {"", "application/json", "text/json", "text/plain", "application/octet-stream", "binary/octet-stream"}
)
"""Content types with which storages serve what they know nothing about."""
_NOT_PRINTED = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and lone surrogates."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to content: its type, digest and size in bytes (OCI image-spec, "Content Descriptors")."""

    media_type: str
    digest: Digest
    size: int
    urls: tuple[str, ...] = ()
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    platform: str | None = None

    @property
    def is_foreign(self) -> bool:
        """Whether this is a non-distributable layer, which registries need not hold."""
        return "nondistributable" in self.media_type or "foreign.diff" in self.media_type

    @property
    def may_be_manifest(self) -> bool:
        """Return whether an entry of an index is a manifest, or may be one by its media type.

        BuildKit's cache indexes list blobs: layers, and a config (`application/vnd.buildkit.cacheconfig.v0`). Every
        type of manifest is one of JSON.
        """
        media_type = _plain_type(self.media_type)
        if media_type in _CONFIGS:
            return False
        return self.is_known_manifest or media_type.endswith("json") or "/" not in media_type

    @property
    def is_known_manifest(self) -> bool:
        """Return whether its media type is that of a manifest."""
        media_type = _plain_type(self.media_type)
        return media_type in MANIFEST_TYPES or media_type in _SCHEMA_1

    @property
    def is_external(self) -> bool:
        """Whether this is a foreign layer that its `urls` lead to."""
        return self.is_foreign and bool(self.urls)

    @classmethod
    def from_json(cls, document: Any, *, field: str = "descriptor") -> Self:
        """Read the JSON form that stands at `field`; raises Invalid naming the field inside it."""
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
            media_type=_plain_text(media_type, field, "mediaType"),
            digest=Digest(digest, field=f"{field}.digest"),
            size=size,
            urls=_urls(document["urls"], field) if "urls" in document else (),
            artifact_type=_optional_text(document, field, "artifactType"),
            annotations=_annotations(document, field) if "annotations" in document else {},
            platform=platform_name(document["platform"]) if "platform" in document else None,
        )

    def to_json(self) -> dict[str, Any]:
        """The JSON form, with what is empty left out."""
        document: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.urls:
            document["urls"] = list(self.urls)
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return document


@dataclass(frozen=True)
class Manifest:
    """An image manifest or an index: the raw bytes, their media type and digest, and what they refer to."""

    raw: bytes
    media_type: str
    digest: Digest

    @classmethod
    def parse(
        cls, raw: bytes, media_type: str | None, *, digest: Digest | None = None, is_pushed: bool = False
    ) -> Self:
        """Read and check a manifest's bytes.

        Args:
            raw: the bytes as received.
            media_type: the Content-Type they came with; where there is none, their own `mediaType` field or
                their shape tells.
            digest: what the bytes must hash to, where that is known; otherwise it is computed by sha256.
            is_pushed: whether a client pushes it; then optional fields of wrong types are refused, too.

        Raises:
            Corrupt: the bytes do not match the digest.
            Unsupported: the manifest is of Docker's schema 1, or of an unknown type.
            Invalid: the bytes are not a manifest; names the field.
        """
        actual = Digest.of(raw, digest.algorithm if digest else "sha256")
        if digest is not None and actual != digest:
            raise Corrupt(f"the manifest's bytes hash to {actual} instead of {digest}")
        document = parse_object(raw, field="manifest")
        manifest = cls(raw=raw, media_type=_settle_media_type(document, media_type), digest=actual)
        # What was parsed just now need not be parsed again.
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
        """Return whether these bytes have a digest, of any algorithm."""
        return digest == self.digest or Digest.of(self.raw, digest.algorithm) == digest

    @property
    def is_index(self) -> bool:
        """Whether this lists other manifests: an OCI index or a Docker manifest list."""
        return self.media_type in INDEX_TYPES

    @cached_property
    def listed(self) -> tuple[Descriptor, ...]:
        """Everything that an index lists, in its order: its children, and blobs where it lists some."""
        return _descriptors(self.document, "manifests") if self.is_index else ()

    @cached_property
    def children(self) -> tuple[Descriptor, ...]:
        """The manifests that an index lists, in its order; of some only their store knows that they are blobs."""
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
        """What kind of artifact this is, as the referrers API reports it (distribution-spec 1.1)."""
        declared = _optional_text(self.document, "", "artifactType")
        if declared or self.is_index:
            return declared
        return self.config.media_type if self.config else None

    @property
    def is_attestation(self) -> bool:
        """Return whether this is an attestation of an image by BuildKit, in either of its two forms.

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
        """The class of manifests that a registry accepts or refuses: the media type, a blank, and the artifact type."""
        kind = ATTESTATION if self.is_attestation else self.artifact_type
        plain = "(blobs)" if self.is_index and self.blobs else "(plain)"
        return f"{self.media_type} {kind or plain}"

    @property
    def annotations(self) -> Mapping[str, str]:
        """The manifest's own annotations."""
        return _annotations(self.document, "")

    @property
    def descriptor(self) -> Descriptor:
        """What refers to this manifest."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=self.size)

    @property
    def referrer_descriptor(self) -> Descriptor:
        """What the referrers API lists for this manifest (distribution-spec 1.1, "Listing Referrers")."""
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
    """Read a manifest as `Manifest.parse` does, and a large one in a thread, so that the event loop goes on.

    Raises:
        Corrupt, Unsupported, Invalid: as `Manifest.parse`.
    """
    if len(raw) <= bounds.PARSED_AT_ONCE_BYTES:
        return Manifest.parse(raw, media_type, digest=digest, is_pushed=is_pushed)
    parse = partial(Manifest.parse, raw, media_type, digest=digest, is_pushed=is_pushed)
    return await asyncio.get_running_loop().run_in_executor(_PARSING, parse)


def _settle_media_type(document: dict[str, Any], declared: str | None) -> str:
    embedded = _plain_type(_optional_text(document, "", "mediaType"))
    header = _plain_type(_plain_text(declared or "", "", "Content-Type"))
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
    if not embedded and header in _UNTELLING:
        return _media_type_by_shape(document)
    raise Unsupported(f"manifests of the media type {embedded or header} are not supported")


def _plain_type(media_type: Any) -> str:
    """A media type without its parameters, in lower case (RFC 9110, section 8.3.1); nothing where none is declared."""
    return media_type.partition(";")[0].strip().lower() if isinstance(media_type, str) else ""


def _check_shape(manifest: Manifest) -> None:
    """Refuse what lacks its mandatory field, and what could be read as an image and as an index (CVE-2021-41190)."""
    if manifest.media_type == OCI_ARTIFACT_MANIFEST:
        return
    required, foreign = ("manifests", {"layers", "config"}) if manifest.is_index else ("config", {"manifests"})
    if required not in manifest.document:
        raise Invalid(required, f"is mandatory in a manifest of the type {manifest.media_type}")
    for name in sorted(foreign & manifest.document.keys()):
        raise Invalid(name, f"must not stand in a manifest of the type {manifest.media_type}")


def _media_type_by_shape(document: dict[str, Any]) -> str:
    if isinstance(document.get("manifests"), list):
        return OCI_INDEX
    if isinstance(document.get("config"), dict):
        return OCI_MANIFEST
    # Some other JSON, an error document say, would else pass for an image without layers.
    raise Invalid("manifest", "must have a config or manifests where no media type is declared")


def _check_sizes(manifest: Manifest) -> None:
    """Refuse what nothing can hold, so that sizes can be added up and recorded everywhere."""
    if sum(one.size for one in (*manifest.blobs, *manifest.children)) > bounds.CONTENT_BYTES:
        raise Invalid("manifest", f"must refer to at most {bounds.CONTENT_BYTES} bytes in all")


def _descriptors(document: dict[str, Any], name: str) -> tuple[Descriptor, ...]:
    entries = document.get(name)
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise Invalid(name, "must be an array of descriptors", entries)
    if len(entries) > bounds.DESCRIPTORS:
        raise Invalid(name, f"must have at most {bounds.DESCRIPTORS} entries", len(entries))
    return tuple(Descriptor.from_json(entry, field=f"{name}[{place}]") for place, entry in enumerate(entries))


def _urls(urls: Any, field: str) -> tuple[str, ...]:
    if not isinstance(urls, list):
        return ()
    if len(urls) > bounds.DESCRIPTOR_URLS:
        raise Invalid(f"{field}.urls", f"must have at most {bounds.DESCRIPTOR_URLS} entries", len(urls))
    return tuple(url for url in urls if isinstance(url, str))


def _annotations(document: dict[str, Any], field: str) -> dict[str, str]:
    annotations = document.get("annotations")
    if not isinstance(annotations, dict):
        return {}
    for key, value in annotations.items():
        if "\0" in key or (isinstance(value, str) and "\0" in value):
            raise Invalid(_inside(field, "annotations"), "must not contain the character U+0000", key)
    return {key: value for key, value in annotations.items() if isinstance(value, str)}


def _optional_text(document: dict[str, Any], field: str, name: str) -> str | None:
    value = document.get(name)
    return _plain_text(value, field, name) if isinstance(value, str) and value else None


def _plain_text(text: str, field: str, name: str) -> str:
    """A text that can be shown, recorded and sent everywhere; raises Invalid."""
    if len(text) > bounds.MEDIA_TYPE_CHARACTERS:
        raise Invalid(_inside(field, name), f"must be at most {bounds.MEDIA_TYPE_CHARACTERS} characters long", text)
    if not text.isprintable() and _NOT_PRINTED.search(text):
        raise Invalid(_inside(field, name), "must not contain control characters or lone surrogates", text)
    return text


def _inside(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def platform_name(document: Any) -> str | None:
    """`os/architecture[/variant]` of a descriptor's `platform`, or of an image's config; None where it tells none.

    A part that is no text to be shown is left out.
    """
    if not isinstance(document, dict):
        return None
    parts = (document.get("os"), document.get("architecture"), document.get("variant"))
    return "/".join(part for part in parts if isinstance(part, str) and _is_name(part)) or None


def _is_name(text: str) -> bool:
    return 0 < len(text) <= bounds.MEDIA_TYPE_CHARACTERS and not _NOT_PRINTED.search(text)
