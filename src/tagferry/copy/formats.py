"""The two formats of manifests, OCI and Docker, and the conversion between them.

Sources: OCI image-spec 1.1, "Compatibility Matrix"; Docker's image manifest version 2 schema 2.
"""

import json
from typing import Any, Literal

from tagferry.errors import Unsupported
from tagferry.names import Digest
from tagferry.oci.model import (
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Manifest,
)

Format = Literal["oci", "docker"]

_OCI_LAYER = "application/vnd.oci.image.layer"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs"
_TO_DOCKER = {
    OCI_MANIFEST: DOCKER_MANIFEST,
    OCI_INDEX: DOCKER_LIST,
    OCI_CONFIG: DOCKER_CONFIG,
    f"{_OCI_LAYER}.v1.tar": f"{_DOCKER_LAYER}.diff.tar",
    f"{_OCI_LAYER}.v1.tar+gzip": f"{_DOCKER_LAYER}.diff.tar.gzip",
    f"{_OCI_LAYER}.nondistributable.v1.tar": f"{_DOCKER_LAYER}.foreign.diff.tar",
    f"{_OCI_LAYER}.nondistributable.v1.tar+gzip": f"{_DOCKER_LAYER}.foreign.diff.tar.gzip",
}
_EQUIVALENTS: dict[Format, dict[str, str]] = {
    "docker": _TO_DOCKER,
    "oci": {docker: oci for oci, docker in _TO_DOCKER.items()},
}
_OCI_ONLY = ("subject", "artifactType")


def format_of(manifest: Manifest) -> Format:
    """Return the format of a manifest, by its own media type."""
    return "docker" if manifest.media_type in (DOCKER_MANIFEST, DOCKER_LIST) else "oci"


def convert(manifest: Manifest, wanted: Format | None) -> Manifest:
    """Return a manifest in the wanted format; unchanged if it has that format, or if `wanted` is None.

    The entries of an index stay unchanged. Fields that the format does not define are kept, since readers ignore them.

    Raises:
        Unsupported: a part of the manifest has no equivalent in that format.
    """
    if wanted is None or format_of(manifest) == wanted:
        return manifest
    media_type = _equivalent(manifest, manifest.media_type, wanted)
    if wanted == "docker":
        _check_fits_docker(manifest)
    if manifest.is_index:
        return with_fields(manifest, mediaType=media_type)
    config = _descriptor(manifest, manifest.document["config"], wanted)
    layers = [_descriptor(manifest, layer, wanted) for layer in manifest.document.get("layers") or ()]
    return with_fields(manifest, mediaType=media_type, config=config, layers=layers)


def with_fields(manifest: Manifest, **fields: Any) -> Manifest:
    """Return a manifest with other values in these fields; the same values always give the same bytes."""
    document = manifest.document | fields
    raw = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return Manifest.parse(
        raw, fields.get("mediaType", manifest.media_type), digest=Digest.of(raw, manifest.digest.algorithm)
    )


def _check_fits_docker(manifest: Manifest) -> None:
    for name in _OCI_ONLY:
        if manifest.document.get(name):
            raise _no_equivalent(manifest, f"the field {name}", "docker")
    for index, child in enumerate(manifest.listed):
        if child.platform is None:
            # A manifest list requires the platform of every entry.
            raise _no_equivalent(manifest, f"manifests[{index}], which has no platform,", "docker")


def _descriptor(manifest: Manifest, descriptor: dict[str, Any], wanted: Format) -> dict[str, Any]:
    return descriptor | {"mediaType": _equivalent(manifest, descriptor["mediaType"], wanted)}


def _equivalent(manifest: Manifest, media_type: str, wanted: Format) -> str:
    equivalents = _EQUIVALENTS[wanted]
    if media_type in equivalents.values():
        return media_type
    if media_type not in equivalents:
        raise _no_equivalent(manifest, f"the type {media_type}", wanted)
    return equivalents[media_type]


def _no_equivalent(manifest: Manifest, what: str, wanted: Format) -> Unsupported:
    return Unsupported(
        f"{manifest.digest} cannot be converted to the format {wanted}, the only one that the target region accepts: "
        f"{what} has no equivalent there"
    )
