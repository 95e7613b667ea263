"""Images at a scripted registry, so that a test scripts only the unusual behavior."""

from tagferry.names import RepositoryName, Tag
from tagferry.oci.model import Manifest
from tests.support.images import SampleImage
from tests.support.scripted_registry import Reply, ScriptedRegistry


def hold(script: ScriptedRegistry, repository: RepositoryName, sample: SampleImage, *tags: Tag) -> None:
    """Script a registry to serve an image with all its content, by its digest and these tags."""
    for digest, content in sample.all_blobs.items():
        for method in ("HEAD", "GET"):
            script.always(method, f"/v2/{repository}/blobs/{digest}", Reply(body=content, headers=_sized(content)))
    for manifest in sample.all_manifests:
        hold_manifest(script, repository, manifest, manifest.digest)
    for tag in tags:
        hold_manifest(script, repository, sample.manifest, tag)


def hold_manifest(script: ScriptedRegistry, repository: RepositoryName, manifest: Manifest, reference: str) -> None:
    """Script a registry to serve a manifest by a tag or digest."""
    headers = {
        **_sized(manifest.raw),
        "Content-Type": manifest.media_type,
        "Docker-Content-Digest": manifest.digest,
    }
    for method in ("HEAD", "GET"):
        path = f"/v2/{repository}/manifests/{reference}"
        script.always(method, path, Reply(body=manifest.raw, headers=headers))


def _sized(content: bytes) -> dict[str, str]:
    return {"Content-Length": str(len(content))}
