"""Reads and writes manifests at a registry as raw bytes; `deletions` deletes them."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple
from urllib.parse import quote

from tagferry.errors import Corrupt, Invalid, NotFound, Refused, TagferryError, Unavailable, WrongContent
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.images import may_be_replaced, tag_changed
from tagferry.oci.model import MANIFEST_TYPES, Descriptor, Manifest, parse_manifest
from tagferry.oci.referrer_tags import subject_digest
from tagferry.oci.refusal import BLOBS_HINT, attestation_hint, manifest_refused
from tagferry.remote.blobs.size import NO_HEAD
from tagferry.remote.capabilities import HEAD_MANIFESTS, LearnedCapabilities
from tagferry.remote.refusals import Refusals
from tagferry.remote.transport.idempotent_write import IdempotentWrite, WriteNotApplied
from tagferry.remote.transport.requests import Call, Transport
from tagferry.remote.transport.response import Answer, NotAuthenticated
from tagferry.remote.transport.scopes import pull_scope, push_scope

_ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}
_KIND_REFUSED = frozenset({405, 406, 415, 422, 501})
_STORED = frozenset({200, 201, 202, 204})
_OF_MANIFESTS = frozenset({"schemaVersion", "mediaType", "config", "layers", "fsLayers", "manifests", "blobs"})
"""Members of which every manifest has at least one."""
_MISSING_CODES = frozenset({"BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN", "NAME_UNKNOWN"})


class Guard(NamedTuple):
    """The condition under which a tag may be replaced.

    Attributes:
        seen: the digest that the tag pointed to; None if it did not exist.
    """

    seen: Digest | None


class Manifests:
    """The manifests of one registry (distribution-spec 1.1, "Pulling manifests", "Pushing Manifests")."""

    def __init__(self, transport: Transport, learned: LearnedCapabilities) -> None:
        self._transport = transport
        self._learned = learned
        self.refusals = Refusals(learned)

    async def head(
        self,
        repository: RepositoryName,
        reference: Reference,
        known: Descriptor | None = None,
        *,
        once: bool = False,
    ) -> Descriptor | None:
        """See `ImageStore.head_manifest`; `once` does not retry.

        If a registry does not support HEAD, or does not report the digest, GET is used from then on.
        """
        if HEAD_MANIFESTS in (await self._learned.known()).unavailable:
            return await self.find_by_get(repository, reference, known, once=once)
        call = self._call("HEAD", "find", repository, reference, known, accept=NO_HEAD)
        answer = await self._transport.fetch(call, once=once)
        if answer.status == 404:
            return None
        if answer.status in NO_HEAD:
            reason = str(self._transport.failure(call, answer))
            found = await self.find_by_get(repository, reference, known, once=once)
            if found is not None or answer.status in (405, 501):
                await self._learned.mark_unavailable(HEAD_MANIFESTS, reason)
            return found
        if known is not None and answer.status == 304:
            self._check(answer, known.digest, f"manifest {repository}:{reference}")
            return known
        digest = reference if isinstance(reference, Digest) else answer.digest
        if digest is not None and answer.length and answer.media_type:
            self._check(answer, digest, f"manifest {repository}:{reference}")
            await self._learned.mark_available(HEAD_MANIFESTS)
            return Descriptor(media_type=answer.media_type, digest=digest, size=answer.length)
        found = await self.find_by_get(repository, reference, known, once=once)
        if found is not None:
            await self._learned.mark_unavailable(HEAD_MANIFESTS, "it reports no digest, type or length")
        return found

    async def get(self, repository: RepositoryName, reference: Reference) -> Manifest:
        """See `ImageStore.get_manifest`."""
        answer = await self._get(repository, reference)
        if answer.status == 404:
            raise not_found(repository, reference, answer, hint=self._transport.missing_hint)
        expected = reference if isinstance(reference, Digest) else answer.digest
        try:
            return await parse_manifest(answer.body, answer.media_type, digest=expected)
        except Corrupt as error:
            if not isinstance(reference, Digest):
                # Its header may be wrong instead of its bytes.
                raise Corrupt(
                    f"registry {self._transport.name} returned manifest {repository}:{reference} with the digest "
                    f"{expected}, but other bytes; try again, or push the image there again"
                ) from error
            digest = Digest.of(answer.body, reference.algorithm)
            raise self._wrong_content(repository, reference, digest) from error
        except Invalid as error:
            what = f"manifest {repository}:{reference}"
            raise Invalid(what, f"of registry {self._transport.name} is invalid: {error.message}") from error
        finally:
            answer.release()

    async def find_by_get(
        self,
        repository: RepositoryName,
        reference: Reference,
        known: Descriptor | None = None,
        *,
        once: bool = False,
    ) -> Descriptor | None:
        """Return what a reference points to, from GET without parsing the manifest; None if it does not exist.

        The arguments are those of `head`.
        """
        answer = await self._get(repository, reference, known, once=once)
        if answer.status == 404:
            return None
        if answer.status == 304:
            return known
        if answer.document.keys().isdisjoint(_OF_MANIFESTS):
            task = f"return manifest {repository}:{reference}"
            raise Unavailable(f"registry {self._transport.name} answered with no manifest when asked to {task}")
        if isinstance(reference, Digest):
            digest = Digest.of(answer.body, reference.algorithm)
            if digest != reference:
                raise self._wrong_content(repository, reference, digest)
        else:
            digest = Digest.of(answer.body, answer.digest.algorithm if answer.digest else "sha256")
            if answer.digest not in (None, digest):
                # One of the two is wrong, and another response may be right.
                what = f"manifest {repository}:{reference} with the digest {answer.digest}"
                raise Unavailable(f"registry {self._transport.name} returned {what}, whose bytes hash to {digest}")
        return Descriptor(media_type=answer.media_type, digest=digest, size=len(answer.body))

    async def _get(
        self,
        repository: RepositoryName,
        reference: Reference,
        known: Descriptor | None = None,
        *,
        once: bool = False,
    ) -> Answer:
        """Return the response to GET; 404 if a refusal means the same.

        Artifactory refuses requests for signature tags that do not exist. A user who may write to a repository and read
        an image may also read its referrers; for a user who only reads, this is not certain.
        """
        try:
            return await self._transport.fetch(self._call("GET", "return", repository, reference, known), once=once)
        except Refused:
            subject = subject_digest(reference) if isinstance(reference, Tag) else None
            is_target = self._transport.expects_writes(repository)
            if subject is None or not is_target or await self.head(repository, subject, once=True) is None:
                raise
            return Answer(404, {})

    async def put(
        self, repository: RepositoryName, manifest: Manifest, tag: Tag | None, *, guard: Guard | None = None
    ) -> bool:
        """Store a manifest.

        Returns:
            Whether the registry processed the manifest's subject (`OCI-Subject`).

        Raises:
            Conflict: the guard does not allow to replace what the tag points to.
        """
        if tag is not None and manifest.digest.algorithm == "sha256":
            answer = await self._put(repository, manifest, tag, guard=guard)
            return answer is not None and "OCI-Subject" in answer.headers
        # A registry computes sha256 for a manifest that is put under a tag; only the URL can state another algorithm. A
        # registry that supports it also sets the tag, and reports that.
        answer = await self._put(repository, manifest, manifest.digest, tag, guard=guard if tag is not None else None)
        reported = "" if answer is None else answer.headers.get("OCI-Tag", "")
        if tag is not None and tag not in reported.replace(",", " ").split():
            answer = await self._put(repository, manifest, tag, guard=guard)
        return answer is not None and "OCI-Subject" in answer.headers

    async def _put(
        self,
        repository: RepositoryName,
        manifest: Manifest,
        reference: Reference,
        named: Tag | None = None,
        *,
        guard: Guard | None = None,
    ) -> Answer | None:
        """Store a manifest under a reference; return None if it was stored and the response was lost."""
        query = "" if named is None else f"?tag={named}"
        call = Call(
            method="PUT",
            task=f"store manifest {repository}:{reference}",
            url=f"/v2/{repository}/manifests/{reference}{query}",
            scopes=(push_scope(repository),),
            headers={"Content-Type": manifest.media_type},
            body=manifest.raw,
            accept=_STORED | _KIND_REFUSED | {400, 404},
            is_guarded=guard is not None,
        )

        misses_something = False

        async def send() -> Answer:
            # The guard has been checked, so the request may be sent with another authorization.
            nonlocal call, misses_something
            sent, call = call, call._replace(is_guarded=False)
            try:
                answer = await self._transport.fetch(sent, once=True)
            except Refused as refusal:
                raise self._hinted(refusal, manifest) from None
            if answer.status == 400 and answer.code == "DIGEST_INVALID":
                # The bytes match the digest. Distribution also returns this while another request rewrites the link of
                # one of the blobs.
                raise WriteNotApplied(str(self._transport.failure(call, answer)))
            misses_something = _is_about_content(answer)
            return answer

        async def is_stored() -> bool:
            if misses_something and guard is None:
                return False
            if guard is None:
                found = await self._current(repository, reference)
            else:
                tag = named or Tag(reference)
                is_allowed = partial(may_be_replaced, manifest=manifest, seen=guard.seen)
                current = await self._current(repository, tag, is_allowed)
                if current is not None and not is_allowed(current.digest):
                    raise tag_changed(repository, tag)
                found = current if named is None else await self._current(repository, reference)
            # A manifest that is refused for its content is not stored by pointing the tag to it.
            return found is not None and manifest.hashes_to(found.digest) and not misses_something

        # Registries with immutable tags also refuse the image that a tag already points to.
        names_tag = named is not None or isinstance(reference, Tag)
        write = IdempotentWrite(
            self._transport.retry, send, is_stored, is_guarded=guard is not None, may_be_done=names_tag
        )
        answer = await write.run()
        if answer is not None:
            if _is_about_content(answer):
                hint = f"registry {self._transport.name} refused to {call.task}: {answer.status} {answer.explanation}"
                if manifest.is_index and manifest.blobs:
                    hint += f"; {BLOBS_HINT}"
                kind = "manifest" if answer.code == "MANIFEST_UNKNOWN" or manifest.is_index else "blob"
                raise NotFound(
                    kind, answer.missing or "", hint, where="" if answer.missing else f'of manifest "{manifest.digest}"'
                )
            if answer.status not in _STORED:
                raise await self._refusal(call, manifest, answer)
            self._check(answer, manifest.digest, f"manifest {repository}:{reference}")
        await self.refusals.note_accepted(manifest)
        return answer

    def _wrong_content(self, repository: RepositoryName, digest: Digest, actual: Digest) -> WrongContent:
        return WrongContent(
            f"registry {self._transport.name} holds wrong bytes: manifest {digest} of {repository} has content with "
            f"the digest {actual}; push the image there again"
        )

    async def _current(
        self, repository: RepositoryName, reference: Reference, is_expected: Callable[[Digest], bool] | None = None
    ) -> Descriptor | None:
        """Return the current manifest, requested once.

        Some registries answer HEAD with 404 for existing manifests, or with a wrong digest: if it does not find what is
        expected, the bytes decide.
        """
        found = await self.head(repository, reference, once=True)
        if found is not None and (is_expected is None or is_expected(found.digest)):
            return found
        return await self.find_by_get(repository, reference, once=True)

    async def _refusal(self, call: Call, manifest: Manifest, answer: Answer) -> TagferryError:
        """Return the error of a refusal, and record it if it concerns the kind of manifest."""
        is_of_kind = answer.status in _KIND_REFUSED or answer.code in ("UNSUPPORTED", "MANIFEST_INVALID")
        if not is_of_kind:
            return self._hinted(self._transport.failure(call, answer), manifest)
        await self.refusals.note_refused(manifest, answer.status)
        reported = f"{answer.status} {answer.explanation}".strip() + f" when asked to {call.task}"
        return manifest_refused(self._transport.name, manifest, answer=reported)

    def _hinted(self, failure: TagferryError, manifest: Manifest) -> TagferryError:
        """Add a hint to a refusal that may concern attestations, though its status does not say so."""
        hint = attestation_hint(self._transport.name, manifest)
        if not hint or not isinstance(failure, Refused | Invalid) or isinstance(failure, NotAuthenticated):
            return failure
        reported = f"is a build attestation or lists one, and {failure}; {hint}"
        what = f"manifest {manifest.digest}"
        return Invalid(what, reported) if isinstance(failure, Invalid) else Refused(f"{what} {reported}")

    def _check(self, answer: Answer, expected: Digest, what: str) -> None:
        reported = answer.digest
        if reported is not None and reported.algorithm == expected.algorithm and reported != expected:
            raise Corrupt(
                f"registry {self._transport.name} reports the digest {reported} instead of {expected} for {what}"
            )

    def _call(
        self,
        method: str,
        verb: str,
        repository: RepositoryName,
        reference: Reference,
        known: Descriptor | None = None,
        *,
        accept: frozenset[int] = frozenset(),
    ) -> Call:
        # Registries use a manifest's digest as its ETag (RFC 9110, section 13.1.2). If one does not, the condition
        # never matches, and the response is the same as without it.
        condition = {} if known is None else {"If-None-Match": f'"{known.digest}"'}
        return Call(
            method=method,
            task=f"{verb} manifest {repository}:{reference}",
            url=f"/v2/{repository}/manifests/{quote(reference, safe=':')}",
            scopes=(pull_scope(repository),),
            headers={**_ACCEPT, **condition},
            accept=accept | ({200, 404} if known is None else {200, 304, 404}),
            redirects=True,
        )


def _is_about_content(answer: Answer) -> bool:
    """Return whether a manifest is refused because something that it references is missing."""
    return answer.status == 404 or (answer.status == 400 and answer.code in _MISSING_CODES)


def not_found(repository: RepositoryName, reference: Reference, answer: Answer, *, hint: str = "") -> NotFound:
    """Return the error that a 404 for a tag or manifest means; the hint is for a manifest."""
    if answer.code == "NAME_UNKNOWN":
        return NotFound("repository", repository)
    if isinstance(reference, Digest):
        return NotFound("manifest", f"{repository}@{reference}", hint)
    return NotFound("tag", f"{repository}:{reference}")
