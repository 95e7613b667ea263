"""The copy of one tag by a plan: blobs, manifests, referrers, then the tag."""

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import NamedTuple

from tagferry import tracing
from tagferry.concurrency import SingleFlight, gather
from tagferry.copy.blobs import BlobCopier, ContentKey, content_key
from tagferry.copy.held_content import HeldContent
from tagferry.copy.image import Image
from tagferry.copy.outcome import Outcome, outcome_of_overwrite
from tagferry.copy.plan import Plan
from tagferry.copy.preflight import Finding, Verdict
from tagferry.copy.progress import Progress, Transfer
from tagferry.copy.referrers import Referrer
from tagferry.copy.route import Route
from tagferry.copy.tag_blobs import TagBlobs
from tagferry.copy.timeline import Step
from tagferry.copy.verify import ContentVerifier, Defect, incomplete
from tagferry.errors import Conflict, Corrupt, NotFound, Unavailable
from tagferry.names import Digest, Tag
from tagferry.oci.model import Descriptor, Manifest
from tagferry.tracing import Attributes

_STALE_SECONDS = 5.0
"""The age at which a comparison is repeated before a tag is written without `override`.

It is also repeated if the target is queried as another user since then."""


class _ContentMissing(Exception):
    """The target rejected a manifest because something it references is missing."""

    def __init__(self, rejection: NotFound) -> None:
        super().__init__(rejection.message)
        self.rejection = rejection


class _TagOverwritten(Exception):
    """Another client has written the target's tag since the comparison."""


class _ReferrerUnreadable(Exception):
    """The source does not return a blob that only referrers need."""

    def __init__(self, blob: Digest, reason: str, *, may_pass: bool) -> None:
        super().__init__(reason)
        self.blob = blob
        self.reason = reason
        self.may_pass = may_pass


class SharedContent(NamedTuple):
    """The content that the copies of a process share.

    Attributes:
        blobs: copies blobs, each once.
        held: the content that the targets are known to hold.
        verifier: verifies content at the targets.
        is_verified: whether content is verified before its tag is written.
        referrers_required: whether a tag fails if one of its referrers cannot be copied.
        clock: seconds, monotonic.
        manifests: the manifests being written.
    """

    blobs: BlobCopier
    held: HeldContent
    verifier: ContentVerifier
    is_verified: bool
    referrers_required: bool
    clock: Callable[[], float]
    manifests: SingleFlight[ContentKey, None]


class TagCopy:
    """The copy of one tag.

    Attributes:
        shared: the content shared with other copies.
        route: the source and target.
        plan: the content to copy; without the referrers that turn out to be unreadable.
        blobs: copies the blobs, of which some may have begun already.
        finding: the comparison that led to this copy.
        found_at: when the target was compared, by the shared clock.
        override: whether a different image under that tag may be replaced.
        progress: filled while the copy runs.
        before_tag: awaited just before the tag is written.
    """

    def __init__(
        self,
        *,
        shared: SharedContent,
        route: Route,
        plan: Plan,
        blobs: TagBlobs,
        finding: Finding,
        found_at: float,
        override: bool,
        progress: Progress,
        before_tag: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.shared = shared
        self.route = route
        self.plan = plan
        self.blobs = blobs
        self.finding = finding
        self.found_at = found_at
        self.override = override
        self.progress = progress
        self.before_tag = before_tag

    async def run(self) -> Outcome:
        """Copy the content and write the tag.

        Raises:
            TagferryError: any error of either store; the target's tag is unchanged.
        """
        while True:
            try:
                return await self._attempt_twice()
            except _ReferrerUnreadable as error:
                self.plan = self.plan.without(error.blob, error.reason, may_pass=error.may_pass)

    async def _attempt_twice(self) -> Outcome:
        """Copy the plan, and once more if the target then lacks content that it was recorded to hold."""
        try:
            return await self._attempt()
        except _ContentMissing:
            self.shared.held.forget(self.route.target, self.route.target_repository)
        missing = await self._missing()
        try:
            return await self._attempt(missing=missing)
        except _ContentMissing as error:
            defects = await self._defects(again=missing) if missing else []
            raise (incomplete(self.route, defects) if defects else error.rejection) from None

    async def _attempt(self, *, missing: Collection[Digest] = ()) -> Outcome:
        await self._copy_and_verify(missing)
        if (outcome := await self._outcome_of_overwrite()) is not None:
            return outcome
        if self.before_tag is not None:
            await self.before_tag()
        plan = self.plan
        try:
            with tracing.span("write tag", _described(plan.root.digest), is_essential=True):
                await _put(self.route, plan.root, plan.tag, override=self.override, seen=self.finding.target)
        except _TagOverwritten:
            return Outcome(verdict=Verdict.BLOCKED, digest=None)
        self.progress.timeline.add(Step.TAG_WRITTEN, plan.root.digest)
        return Outcome(verdict=Verdict.COPY, digest=plan.root.digest, rewritten=plan.rewritten, gaps=plan.gaps)

    async def _outcome_of_overwrite(self) -> Outcome | None:
        is_stale = (
            self.shared.clock() - self.found_at > _STALE_SECONDS or self.finding.identity != self.route.target.identity
        )
        if self.override or not is_stale:
            return None
        return await outcome_of_overwrite(self.route, self.plan, self.finding)

    async def _copy_and_verify(self, missing: Collection[Digest]) -> None:
        """Copy everything that must exist before the tag, verify it, and send once more what is missing.

        Raises:
            Unavailable: content is missing even after it was sent again.
            Corrupt: a blob has another size even after it was sent again.
        """
        self.progress.begin([self.shared.blobs.transfer(self.route, blob) for blob in self.plan.blobs])
        timeline = self.progress.timeline
        timeline.add(Step.PLANNED, size=self.plan.size, blobs=len(self.plan.blobs))
        await self._copy_content(missing)
        if missing := await self._missing():
            await self._copy_content(missing)
            if defects := await self._defects(again=missing):
                raise incomplete(self.route, defects)
        if self.shared.is_verified:
            timeline.add(Step.VERIFIED)

    async def _missing(self) -> frozenset[Digest]:
        if not self.shared.is_verified:
            return frozenset()
        with tracing.span("verify", is_essential=True):
            return frozenset(defect.part.digest for defect in await self._defects())

    async def _defects(self, *, again: Collection[Digest] = ()) -> list[Defect]:
        return await self.shared.verifier.defects(self.route, self.plan, again=again)

    async def _copy_content(self, missing: Collection[Digest]) -> None:
        await gather(
            *(
                self._ensure_blob(blob, transfer, force=blob.digest in missing)
                for blob, transfer in zip(self.plan.blobs, self.progress.transfers, strict=True)
            ),
            # Blobs that still arrive are not sent again by the next attempt.
            finishing=(Unavailable,),
        )
        await self._ensure_children(self.plan.image)
        if self.plan.referrers:
            # Written before the tag: a client that admits only signed images must never see it unsigned.
            await self._ensure_manifest(self.plan.root)
            for referrer in self.plan.referrers:
                await self._ensure_referrer(referrer)

    async def _ensure_blob(self, blob: Descriptor, transfer: Transfer, *, force: bool) -> None:
        try:
            await self.blobs.ensure(blob, transfer, force=force)
        except (NotFound, Corrupt) as error:
            is_lost = isinstance(error, Corrupt) or error.kind == "blob"
            if is_lost and blob.digest in self.plan.referrer_blobs:
                raise _ReferrerUnreadable(blob.digest, error.message, may_pass=False) from None
            raise
        except Unavailable as error:
            if blob.digest in self.plan.referrer_blobs and not self.shared.referrers_required:
                error.is_optional = True
                if self.plan.lenient:
                    raise _ReferrerUnreadable(blob.digest, error.message, may_pass=True) from None
            raise

    async def _ensure_children(self, image: Image) -> None:
        for level in image.levels:
            await gather(*(self._ensure_manifest(manifest) for manifest in level))

    async def _ensure_referrer(self, referrer: Referrer) -> None:
        await self._ensure_children(referrer.image)
        root, tag = referrer.image.root, referrer.tag
        if tag is None:
            await self._ensure_manifest(root)
            return
        current = await self.route.target.head_manifest(
            self.route.target_repository, tag, for_write=True, confirm_missing=not self.override
        )
        if current is None or (self.override and current.digest != root.digest):
            # A tag that another client writes meanwhile stays, as one that existed before does.
            with suppress(_TagOverwritten):
                await _put(self.route, root, tag, override=self.override)

    async def _ensure_manifest(self, manifest: Manifest) -> None:
        held, repository = self.shared.held, self.route.target_repository
        if held.holds(self.route.target, repository, manifest.digest):
            return

        async def put() -> None:
            with tracing.span("manifest", _described(manifest.digest, manifest.size)):
                await _put(self.route, manifest)
            held.add(self.route.target, repository, manifest.digest, manifest.size)

        await self.shared.manifests.run(content_key(self.route, manifest.digest), put)


def _described(digest: Digest, size: int | None = None) -> Attributes:
    """Return the attributes of a span for content; nothing is looked up if traces are off."""
    if size is None:
        return {"tagferry.digest": digest}
    return {"tagferry.digest": digest, "tagferry.bytes": size}


async def _put(
    route: Route, manifest: Manifest, tag: Tag | None = None, *, override: bool = True, seen: Digest | None = None
) -> None:
    try:
        await route.target.put_manifest(route.target_repository, manifest, tag, override=override, seen=seen)
    except NotFound as rejection:
        raise _ContentMissing(rejection) from None
    except Conflict as conflict:
        # Conflicts of other kinds do not concern this tag and are reported.
        if conflict.kind != "tag":
            raise
        raise _TagOverwritten from None
