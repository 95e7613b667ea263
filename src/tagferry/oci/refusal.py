"""The error of a store that refuses a manifest, with a hint."""

from tagferry.errors import Unsupported
from tagferry.oci.attestations import is_listed_as_attestation
from tagferry.oci.model import (
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_ARTIFACT_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Manifest,
)

_OTHER_FORMAT = {OCI_MANIFEST: "docker", OCI_INDEX: "docker", DOCKER_MANIFEST: "oci", DOCKER_LIST: "oci"}
BLOBS_HINT = "it may not accept indexes that list blobs; let BuildKit export its cache with image-manifest=true"
"""The hint for an index that lists blobs, if it is refused as such or because the blobs are no manifests."""


def manifest_refused(store: str, manifest: Manifest, *, answer: str = "") -> Unsupported:
    """Return the error of a store that refuses a manifest.

    Args:
        store: the store's name, which is the region's id.
        manifest: the manifest.
        answer: the store's answer; empty if it was not queried, because it refused others of this kind.
    """
    reason = f"it answered {answer}" if answer else "it refused others of this kind within the last minutes"
    return Unsupported(
        f"registry {store} does not accept manifest {manifest.digest} ({_kind(manifest)}): {reason}; "
        f"{_hint(store, manifest)}"
    )


def attestation_hint(store: str, manifest: Manifest) -> str:
    """Return the hint for copying images without build attestations; empty if the manifest is unrelated to them."""
    setting = f"set [regions.{store}.accepts] attestations = false to copy images without"
    if manifest.is_attestation:
        return f"{setting} their build attestations"
    if any(is_listed_as_attestation(child) for child in manifest.children):
        return f"if it does not accept the build attestations that this index lists, {setting} them"
    return ""


def _kind(manifest: Manifest) -> str:
    if manifest.is_attestation:
        return f"a build attestation with the type {manifest.media_type}"
    if manifest.artifact_type in (None, OCI_CONFIG, DOCKER_CONFIG):
        return manifest.media_type
    return f"{manifest.media_type}, artifact type {manifest.artifact_type}"


def _hint(store: str, manifest: Manifest) -> str:
    accepts = f"[regions.{store}.accepts]"
    if hint := attestation_hint(store, manifest):
        return hint
    if manifest.is_index and manifest.blobs:
        return BLOBS_HINT
    if manifest.media_type == OCI_ARTIFACT_MANIFEST:
        return "push the artifact at the source as an OCI image manifest with an artifactType"
    if manifest.artifact_type not in (None, OCI_CONFIG, DOCKER_CONFIG):
        return "check that the registry is configured to accept such artifacts"
    wanted = _OTHER_FORMAT[manifest.media_type]
    return f'if it accepts only the other format, set {accepts} format = "{wanted}" and rewrite = true to convert it'
