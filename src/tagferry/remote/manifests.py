"""Manifests at a registry: read, written and deleted as the bytes that they are."""

from urllib.parse import quote

from tagferry.errors import Corrupt, NotFound, TagferryError, Unavailable
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.images import media_type_not_taken
from tagferry.oci.model import MANIFEST_TYPES, Descriptor, Manifest
from tagferry.remote.answer import Answer
from tagferry.remote.capabilities import Learned
from tagferry.remote.pushing import pushing
from tagferry.remote.transport import Call, Transport

_ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}
_TYPE_REFUSED = frozenset({405, 406, 415, 501})
_MISSING_CODES = frozenset({"BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN", "NAME_UNKNOWN"})


def pulling(repository: RepositoryName) -> str:
    """The scope of requests that read from a repository."""
    return f"repository:{repository}:pull"


class Manifests:
    """The manifests of one registry (distribution-spec 1.1, "Pulling manifests", "Pushing Manifests")."""

    def __init__(self, transport: Transport, learned: Learned) -> None:
        self._transport = transport
        self._learned = learned
        self._doubted: dict[str, Digest] = {}

    async def head(
        self, repository: RepositoryName, reference: Reference, known: Descriptor | None = None
    ) -> Descriptor | None:
        """See `ImageStore.head_manifest`; costs a GET only at a registry that leaves the digest out of HEAD."""
        answer = await self._transport.fetch(self._call("HEAD", "look for", repository, reference, known))
        if answer.status == 404:
            return None
        if known is not None and answer.status == 304:
            self._check(answer, known.digest, f"manifest {repository}:{reference}")
            return known
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
            raise not_found(repository, reference, answer)
        expected = reference if isinstance(reference, Digest) else answer.digest
        return Manifest.parse(answer.body, answer.media_type, digest=expected)

    async def look(self, repository: RepositoryName, reference: Reference) -> Descriptor | None:
        """Return what a reference points to, found by GET and without parsing it; None if it does not exist."""
        answer = await self._transport.fetch(self._call("GET", "give", repository, reference))
        if answer.status == 404:
            return None
        digest = reference if isinstance(reference, Digest) else answer.digest or Digest.of(answer.body)
        return Descriptor(media_type=answer.media_type, digest=digest, size=len(answer.body))

    async def put(self, repository: RepositoryName, manifest: Manifest, tag: Tag | None) -> bool:
        """Store a manifest.

        Returns:
            Whether the registry said that it took note of the manifest's subject (`OCI-Subject`).
        """
        if tag is not None and manifest.digest.algorithm == "sha256":
            return "OCI-Subject" in (await self._put(repository, manifest, tag)).headers
        # A registry computes sha256 for what is put under a tag; only the URL can tell it another algorithm. One that
        # knows how gives the tag along with it, and says so.
        answer = await self._put(repository, manifest, manifest.digest, tag)
        if tag is not None and tag not in answer.headers.get("OCI-Tag", "").replace(",", " ").split():
            answer = await self._put(repository, manifest, tag)
        return "OCI-Subject" in answer.headers

    async def _put(
        self, repository: RepositoryName, manifest: Manifest, reference: Reference, named: Tag | None = None
    ) -> Answer:
        query = "" if named is None else f"?tag={named}"
        call = Call(
            method="PUT",
            task=f"store manifest {repository}:{reference}",
            url=f"/v2/{repository}/manifests/{reference}{query}",
            scopes=(pushing(repository),),
            headers={"Content-Type": manifest.media_type},
            body=manifest.raw,
            accept=_TYPE_REFUSED | {200, 201, 202, 204, 400, 404},
        )

        async def attempt() -> Answer:
            answer = await self._transport.fetch(call, once=True)
            if answer.status == 400 and answer.code == "DIGEST_INVALID":
                # The bytes have the digest, so this is not about them: distribution says so, too, where it reads the
                # link of one of the blobs while somebody writes it anew.
                raise Unavailable(str(self._transport.failure(call, answer)))
            return answer

        answer = await self._transport.retry.run(attempt)
        if answer.status == 404 or (answer.status == 400 and answer.code in _MISSING_CODES):
            hint = f"registry {self._transport.name} refused to {call.task}: {answer.status} {answer.explanation}"
            kind = "manifest" if answer.code == "MANIFEST_UNKNOWN" or manifest.is_index else "blob"
            raise NotFound(kind, answer.missing or f"of manifest {manifest.digest}", hint)
        if answer.status == 400 or answer.status in _TYPE_REFUSED:
            raise await self._refusal(call, manifest, answer)
        self._check(answer, manifest.digest, f"manifest {repository}:{reference}")
        taken = (await self._learned.known()).taken_types
        await self._learned.learn(taken_types=taken | {manifest.media_type})
        return answer

    async def _refusal(self, call: Call, manifest: Manifest, answer: Answer) -> TagferryError:
        """Whether a registry refuses a manifest for its media type, which is learned, or for itself.

        A type of which it has taken another manifest is not the reason. A registry that has taken nothing at all may
        be in the way altogether, so that nothing is learned from it. MANIFEST_INVALID may mean this one manifest, so
        that it takes two of them for the type to be refused before its blobs are moved.
        """
        failure = self._transport.failure(call, answer)
        known = await self._learned.known()
        media_type = manifest.media_type
        is_clear = answer.status in _TYPE_REFUSED or answer.code == "UNSUPPORTED"
        if media_type in known.taken_types or not (is_clear or answer.code == "MANIFEST_INVALID"):
            return failure
        if not known.taken_types and answer.status != 415:
            return failure
        is_sure = is_clear or self._doubted.setdefault(media_type, manifest.digest) != manifest.digest
        if known.taken_types and is_sure:
            await self._learned.learn(refused_types=known.refused_types | {media_type})
        told = f"{answer.status} {answer.explanation}".strip()
        return media_type_not_taken(self._transport.name, media_type, told=told)

    def _check(self, answer: Answer, expected: Digest, what: str) -> None:
        told = answer.digest
        if told is not None and told.algorithm == expected.algorithm and told != expected:
            raise Corrupt(f"registry {self._transport.name} says that {what} has the digest {told}, not {expected}")

    def _call(
        self, method: str, verb: str, repository: RepositoryName, reference: Reference, known: Descriptor | None = None
    ) -> Call:
        # Registries use a manifest's digest as its ETag (RFC 9110, section 13.1.2); where one uses something else, the
        # condition never holds, and the answer is as it is without it.
        condition = {} if known is None else {"If-None-Match": f'"{known.digest}"'}
        return Call(
            method=method,
            task=f"{verb} manifest {repository}:{reference}",
            url=f"/v2/{repository}/manifests/{quote(reference, safe=':')}",
            scopes=(pulling(repository),),
            headers={**_ACCEPT, **condition},
            accept=frozenset({200, 404} if known is None else {200, 304, 404}),
            redirects=True,
        )


def not_found(repository: RepositoryName, reference: Reference, answer: Answer) -> NotFound:
    """The error that the answer 404 to a request for a tag or manifest means."""
    if answer.code == "NAME_UNKNOWN":
        return NotFound("repository", repository)
    if isinstance(reference, Digest):
        return NotFound("manifest", f"{repository}@{reference}")
    return NotFound("tag", f"{repository}:{reference}")
