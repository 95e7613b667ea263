"""A repository at a scripted registry, with the deletion behavior of one registry or another."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.model import Manifest
from tests.support.images import SampleImage
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error, said


@dataclass
class Shelf:
    """The manifests of a repository by digest and tag, and the registry's deletion behavior.

    Attributes:
        name: the repository's name.
        delete: handles a deletion and returns the response.
    """

    name: RepositoryName
    delete: Callable[["Shelf", Reference], Reply]
    held: dict[Reference, Manifest] = field(default_factory=dict)
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    deleted: list[Reference] = field(default_factory=list)

    def put(self, sample: SampleImage, *tags: Tag) -> None:
        self.held |= {manifest.digest: manifest for manifest in sample.all_manifests}
        self.held |= dict.fromkeys(tags, sample.manifest)
        self.blobs |= sample.all_blobs

    def tags(self) -> list[str]:
        return sorted(one for one in self.held if isinstance(one, Tag))

    def answer(self, asked: Asked) -> Reply:
        reference = _reference(asked)
        if asked.method == "DELETE":
            self.deleted.append(reference)
            return self.delete(self, reference)
        manifest = self.held.get(reference)
        if manifest is None:
            return error(404, "MANIFEST_UNKNOWN")
        headers = {"Docker-Content-Digest": manifest.digest, "Content-Type": manifest.media_type}
        if asked.method == "HEAD":
            headers["Content-Length"] = str(manifest.size)
        return Reply(headers=headers, body=manifest.raw)

    def blob(self, asked: Asked) -> Reply:
        content = self.blobs.get(Digest(asked.path.rpartition("/")[2]))
        return error(404, "BLOB_UNKNOWN") if content is None else Reply(body=content)

    def serve(self, script: ScriptedRegistry) -> None:
        for method in ("GET", "HEAD", "DELETE"):
            script.always(method, f"/v2/{self.name}/manifests/*", self.answer)
        script.always("GET", f"/v2/{self.name}/blobs/*", self.blob)
        script.always("GET", "/v2/_catalog", said({"repositories": [self.name]}))
        script.always("GET", f"/v2/{self.name}/tags/list", lambda _: said({"tags": self.tags() or None}))
        script.always("GET", f"/v2/{self.name}/referrers/*", said({"schemaVersion": 2, "manifests": []}))


def _reference(asked: Asked) -> Reference:
    name = asked.path.rpartition("/")[2]
    return Digest(name) if ":" in name else Tag(name)


def that_alone(shelf: Shelf, reference: Reference) -> Reply:
    """As crane's registry: delete only the tag or only the digest."""
    if shelf.held.pop(reference, None) is None:
        return error(404, "MANIFEST_UNKNOWN")
    return Reply(status=202)


def by_digest_alone(shelf: Shelf, reference: Reference) -> Reply:
    """As CNCF distribution before 3.0: delete a manifest with its tags, and no single tags."""
    if isinstance(reference, Tag):
        return error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
    if reference not in shelf.held:
        return error(404, "MANIFEST_UNKNOWN")
    shelf.held = {one: manifest for one, manifest in shelf.held.items() if manifest.digest != reference}
    return Reply(status=202)


def tags_before_manifests(shelf: Shelf, reference: Reference) -> Reply:
    """As Google's registry: delete a manifest only if no tag references it."""
    if any(isinstance(one, Tag) and manifest.digest == reference for one, manifest in shelf.held.items()):
        return error(400, "GOOGLE_MANIFEST_DANGLING_TAG", "Manifest is still referenced by tag")
    return that_alone(shelf, reference)


def nothing(shelf: Shelf, reference: Reference) -> Reply:
    """Accept the deletion and delete nothing."""
    return Reply(status=202)
