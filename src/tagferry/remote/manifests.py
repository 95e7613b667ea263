"""Manifests at a registry: read, written and deleted as the bytes that they are."""

from urllib.parse import quote

from tagferry.errors import Corrupt, NotFound, Unsupported
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.model import MANIFEST_TYPES, Descriptor, Manifest
from tagferry.remote.answer import Answer
from tagferry.remote.transport import Call, Transport
from tagferry.remote.upload import pushing

_ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}
_MISSING_CODES = frozenset({"BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN", "NAME_UNKNOWN"})


def pulling(repository: RepositoryName) -> str:
    """The scope of requests that read from a repository."""
    return f"repository:{repository}:pull"


class Manifests:
    """The manifests of one registry (distribution-spec 1.1, "Pulling manifests", "Pushing Manifests")."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def head(self, repository: RepositoryName, reference: Reference) -> Descriptor | None:
        """See `ImageStore.head_manifest`; costs a GET only at a registry that leaves the digest out of HEAD."""
        answer = await self._transport.fetch(self._call("HEAD", "look for", repository, reference))
        if answer.status == 404:
            return None
        digest = reference if isinstance(reference, Digest) else answer.digest
        if digest is not None and answer.length is not None and answer.media_type:
            self._check(answer, digest, f"manifest {repository}:{reference}")
            return Descriptor(media_type=answer.media_type, digest=digest, size=answer.length)
        try:
            return (await self.get(repository, reference)).descriptor
        except NotFound:
            return None

    async def get(self, repository: RepositoryName, reference: Reference) -> Manifest:
        """See `ImageStore.get_manifest`."""
        answer = await self._transport.fetch(self._call("GET", "give", repository, reference))
        if answer.status == 404:
            raise _not_found(repository, reference, answer)
        expected = reference if isinstance(reference, Digest) else answer.digest
        return Manifest.parse(answer.body, answer.media_type, digest=expected)

    async def put(self, repository: RepositoryName, manifest: Manifest, tag: Tag | None) -> bool:
        """Store a manifest.

        Returns:
            Whether the registry said that it took note of the manifest's subject (`OCI-Subject`).
        """
        if tag is None or manifest.digest.algorithm != "sha256":
            # A registry computes sha256 for what is put under a tag; only the URL can tell it another algorithm.
            noted = await self._put(repository, manifest, manifest.digest)
            return noted if tag is None else await self._put(repository, manifest, tag)
        return await self._put(repository, manifest, tag)

    async def delete(self, repository: RepositoryName, reference: Reference) -> None:
        """See `ImageStore.delete_manifest`."""
        call = Call(
            method="DELETE",
            task=f"delete manifest {repository}:{reference}",
            url=f"/v2/{repository}/manifests/{reference}",
            scopes=(deleting(repository),),
            accept=frozenset({200, 202, 204, 400, 404, 405}),
        )
        answer = await self._transport.fetch(call)
        if answer.status == 404:
            raise _not_found(repository, reference, answer)
        # Distribution before 3.0 takes a tag for a digest, and answers that it does not match.
        no_tags = answer.status == 400 and isinstance(reference, Tag)
        if no_tags or answer.status == 405 or answer.code == "UNSUPPORTED":
            what = "a tag" if isinstance(reference, Tag) else "a manifest"
            raise Unsupported(f"registry {self._transport.name} does not delete {what}: {answer.explanation}")
        if answer.status == 400:
            raise self._transport.failure(call, answer)

    async def _put(self, repository: RepositoryName, manifest: Manifest, reference: Reference) -> bool:
        call = Call(
            method="PUT",
            task=f"store manifest {repository}:{reference}",
            url=f"/v2/{repository}/manifests/{reference}",
            scopes=(pushing(repository),),
            headers={"Content-Type": manifest.media_type},
            body=manifest.raw,
            accept=frozenset({200, 201, 202, 400, 404}),
        )
        answer = await self._transport.fetch(call)
        if answer.status == 404 or (answer.status == 400 and answer.code in _MISSING_CODES):
            hint = f"registry {self._transport.name} refused to {call.task}: {answer.status} {answer.explanation}"
            kind = "manifest" if answer.code == "MANIFEST_UNKNOWN" or manifest.is_index else "blob"
            raise NotFound(kind, answer.missing or f"of manifest {manifest.digest}", hint)
        if answer.status == 400:
            failure = self._transport.failure(call, answer)
            raise Corrupt(str(failure)) if answer.code == "DIGEST_INVALID" else failure
        self._check(answer, manifest.digest, f"manifest {repository}:{reference}")
        return "OCI-Subject" in answer.headers

    def _check(self, answer: Answer, expected: Digest, what: str) -> None:
        told = answer.digest
        if told is not None and told.algorithm == expected.algorithm and told != expected:
            raise Corrupt(f"registry {self._transport.name} says that {what} has the digest {told}, not {expected}")

    def _call(self, method: str, verb: str, repository: RepositoryName, reference: Reference) -> Call:
        return Call(
            method=method,
            task=f"{verb} manifest {repository}:{reference}",
            url=f"/v2/{repository}/manifests/{quote(reference, safe=':')}",
            scopes=(pulling(repository),),
            headers=_ACCEPT,
            accept=frozenset({200, 404}),
            redirects=True,
        )


def deleting(repository: RepositoryName) -> str:
    """The scope of requests that delete from a repository."""
    return f"repository:{repository}:pull,delete"


def _not_found(repository: RepositoryName, reference: Reference, answer: Answer) -> NotFound:
    if answer.code == "NAME_UNKNOWN":
        return NotFound("repository", repository)
    if isinstance(reference, Digest):
        return NotFound("manifest", f"{repository}@{reference}")
    return NotFound("tag", f"{repository}:{reference}")
