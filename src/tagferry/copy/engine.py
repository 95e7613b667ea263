"""The copy engine: runs plans, each blob once, and writes a tag only when all that it refers to is there."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

from tagferry.concurrency import SingleFlight, gather
from tagferry.copy.bandwidth import BandwidthLimiter
from tagferry.copy.blob_lock import BlobLock, NullBlobLock
from tagferry.copy.blobs import BlobCopier, ContentKey, content_key
from tagferry.copy.estimate import Estimates, estimate_all
from tagferry.copy.held_content import HeldContent
from tagferry.copy.image import Image
from tagferry.copy.mount_sources import MountSources
from tagferry.copy.outcome import Outcome, outcome_of_overwrite, outcome_without_copy
from tagferry.copy.plan import Plan, plan_tag
from tagferry.copy.preflight import ContentCheck, Finding, Verdict, compare, compare_all
from tagferry.copy.progress import Progress, Transfer
from tagferry.copy.referrers import Gaps, Referrer, ReferrerSearch, are_tags_up_to_date
from tagferry.copy.route import Route
from tagferry.copy.verify import ContentVerifier, VerifyMode, incomplete
from tagferry.errors import Conflict, Corrupt, Expired, NotFound, TagferryError, Unavailable
from tagferry.names import Digest, Tag
from tagferry.oci.model import Descriptor, Manifest

_STALE_SECONDS = 5.0
"""After this long, what was found at the target is asked again before a tag is written without `override`.

So it is once the target is asked as another user than when that was found."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is in flight at once in this process.

    Attributes:
        tag_seconds: how long a tag's copy may take from its turn on; None means without limit.
    """

    tags: int = 32
    blobs: int = 32
    tag_seconds: float | None = None


class _Lacking(Exception):
    """The target takes a manifest not yet, because it misses something that the manifest refers to."""

    def __init__(self, refusal: NotFound) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class _Overtaken(Exception):
    """Others have written the tag at the target since it was looked at."""


class _Unreadable(Exception):
    """The source does not give a blob that only attachments need."""

    def __init__(self, blob: Digest, reason: str, *, may_pass: bool) -> None:
        super().__init__(reason)
        self.blob = blob
        self.reason = reason
        self.may_pass = may_pass


class CopyEngine:
    """Copies tags along routes. One engine a process, so that what tags share is moved once.

    Args:
        limits: how much is in flight at once.
        known: what the targets are known to hold.
        homes: where the targets are known to have blobs.
        moves: lets one mover at a time bring a blob, where other processes do so too.
        attachments: whether signatures and whatever else is attached to an image go with it; where they are
            `required`, an image fails if they cannot be found and read.
        verify: whose tags' content is proven to be at the target.
        paces: the rate that each store of this name keeps, in and out together.
        splice: whether large blobs may go from one store to the other without being seen here, where both know how
            and the target verifies them.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        held_content: HeldContent | None = None,
        mount_sources: MountSources | None = None,
        blob_lock: BlobLock | None = None,
        referrers: bool | Literal["required"] = True,
        verify: VerifyMode = VerifyMode.COPIED,
        bandwidth: Mapping[str, BandwidthLimiter] | None = None,
        splice: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = limits or Limits()
        self._tag_slots: dict[tuple[str, str], asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(limits.tags))
        self._tag_seconds = limits.tag_seconds
        self._held_content = held_content or HeldContent(clock=clock)
        self._mount_sources = mount_sources or MountSources()
        self._verify = verify
        self._verifier = ContentVerifier(self._held_content)
        self._check_content: ContentCheck | None = self._holds_all_of if verify is VerifyMode.ALL else None
        self._required = referrers == "required"
        self._search = ReferrerSearch(required=self._required, clock=clock) if referrers else None
        self._lenient_search = ReferrerSearch(lenient=True, clock=clock)
        self._clock = clock
        self._blobs = BlobCopier(
            limit=limits.blobs,
            held_content=self._held_content,
            mount_sources=self._mount_sources,
            blob_lock=blob_lock or NullBlobLock(),
            bandwidth=bandwidth or {},
            splice=splice,
        )
        self._manifests: SingleFlight[ContentKey, None] = SingleFlight()

    async def compare_all(
        self,
        route: Route,
        tags: Sequence[Tag],
        *,
        override: bool,
        thorough: bool = False,
        until: float | None = None,
    ) -> dict[Tag, Finding | TagferryError]:
        """Compare the target with the source; for a tag that cannot be examined, return its error.

        Args:
            route: from where to where.
            tags: the tags.
            override: whether other images under them may be replaced.
            thorough: search below an image in place too, for what is attached to any part of it.
            until: when to leave it at what is known by then, by the event loop's clock.
        """
        check_content = self._examiner(thorough=thorough)
        found_at = self._clock()
        findings = await compare_all(
            route, tags, override=override, search=self._search, check_content=check_content, until=until
        )
        return {
            tag: found._replace(found_at=found_at) if isinstance(found, Finding) else found
            for tag, found in findings.items()
        }

    async def estimate_all(self, route: Route, tags: Sequence[Tag], *, override: bool) -> Estimates:
        """What `copy` would have to do for each of these tags; nothing is written anywhere."""
        findings = await self.compare_all(route, tags, override=override)
        return await estimate_all(route, findings, mount_sources=self._mount_sources, search=self._search)

    async def plan(self, route: Route, tag: Tag) -> Plan:
        """What the tag's copy consists of, read at the source, and recall where its blobs are; raises as `plan_tag`."""
        return await self._plan(route, tag, self._search)

    async def _plan(self, route: Route, tag: Tag, search: ReferrerSearch | None) -> Plan:
        plan = await plan_tag(route, tag, search=search)
        await self._blobs.find_mount_sources(route, plan.blobs)
        return plan

    async def copy(
        self,
        route: Route,
        tag: Tag,
        *,
        override: bool,
        finding: Finding | None = None,
        plan: Awaitable[Plan] | None = None,
        progress: Progress | None = None,
        before_tag: Callable[[], Awaitable[None]] | None = None,
        thorough: bool = False,
        is_last: Callable[[TagferryError], bool] = lambda _: False,
    ) -> Outcome:
        """Make the target's tag point to the source's image, complete.

        Args:
            route: from where to where.
            tag: the tag, which has the same name on both sides.
            override: whether a different image under that tag may be replaced.
            finding: what `examine` found before, so that it is not asked again.
            plan: what `plan` reads just now, likewise.
            progress: filled while the copy runs.
            before_tag: awaited just before the tag is written.
            thorough: as for `compare_all`, where there is no finding.
            is_last: whether the copy is not tried again after this error: then it leaves what is attached and cannot
                be read for now behind, rather than fail.

        Raises:
            NotFound: the source lacks the tag or a part of its image.
            Expired: it took longer than the limit.
            TagferryError: whatever either store raises; the target's tag is as it was.
        """
        found_at = self._clock()

        async def attempt(
            search: ReferrerSearch | None, finding: Finding | None = None, plan: Awaitable[Plan] | None = None
        ) -> Outcome:
            since = found_at
            if finding is None:
                since = self._clock()
                check_content = self._examiner(thorough=thorough)
                finding = await compare(route, tag, override=override, search=search, check_content=check_content)
            elif finding.found_at is not None:
                since = finding.found_at
            if (outcome := outcome_without_copy(route, finding)) is not None:
                return outcome
            return await self._copy(
                route,
                finding,
                plan or self._plan(route, tag, search),
                override=override,
                found_at=since,
                progress=progress,
                before_tag=before_tag,
            )

        async with self._tag_slots[route.source.name, route.target.name]:
            deadline = asyncio.timeout(self._tag_seconds)
            try:
                async with deadline:
                    try:
                        return await attempt(self._search, finding, plan)
                    except Unavailable as error:
                        if not error.is_optional or not is_last(error):
                            raise
                        return await attempt(self._lenient_search)
            except TimeoutError:
                if not deadline.expired():
                    raise
                raise Expired(f"the copy of {tag} was given up after {self._tag_seconds:g} s") from None

    async def _copy(
        self,
        route: Route,
        finding: Finding,
        planned: Awaitable[Plan],
        *,
        override: bool,
        found_at: float,
        progress: Progress | None,
        before_tag: Callable[[], Awaitable[None]] | None,
    ) -> Outcome:
        progress = progress if progress is not None else Progress()
        plan = await planned
        while True:
            run = partial(
                self._run, route, plan, finding, progress, override=override, found_at=found_at, before_tag=before_tag
            )
            try:
                return await self._run_until_whole(route, plan, run)
            except _Unreadable as unreadable:
                plan = plan.without(unreadable.blob, unreadable.reason, may_pass=unreadable.may_pass)

    async def _run_until_whole(self, route: Route, plan: Plan, run: Callable[..., Awaitable[Outcome]]) -> Outcome:
        """Run a plan, and once more where the target then lacks what it was seen to hold."""
        try:
            return await run()
        except _Lacking:
            # The target misses something that it was seen to hold, so this time nothing is taken for granted.
            self._held_content.forget(route.target, route.target_repository)
        lost = await self._lost(route, plan)
        try:
            return await run(lost=lost)
        except _Lacking as lacking:
            defects = await self._verifier.defects(route, plan, again=lost) if lost else []
            raise (incomplete(route, defects) if defects else lacking.refusal) from None

    async def _run(
        self,
        route: Route,
        plan: Plan,
        finding: Finding,
        progress: Progress,
        *,
        override: bool,
        found_at: float,
        before_tag: Callable[[], Awaitable[None]] | None,
        lost: Collection[Digest] = (),
    ) -> Outcome:
        await self._complete(route, plan, progress, override=override, lost=lost)
        is_stale = self._clock() - found_at > _STALE_SECONDS or finding.identity != route.target.identity
        if not override and is_stale and (outcome := await outcome_of_overwrite(route, plan, finding)) is not None:
            return outcome
        if before_tag is not None:
            await before_tag()
        try:
            await _put(route, plan.root, plan.tag, override=override, seen=finding.target)
        except _Overtaken:
            return Outcome(verdict=Verdict.BLOCKED, digest=None)
        return Outcome(verdict=Verdict.COPY, digest=plan.root.digest, rewritten=plan.rewritten, gaps=plan.gaps)

    async def _complete(
        self, route: Route, plan: Plan, progress: Progress, *, override: bool, lost: Collection[Digest]
    ) -> None:
        """Bring whatever must be there before the tag, prove that it is, and mend once what is not.

        Raises:
            Unavailable: something is not there even after it was sent for that reason.
            Corrupt: likewise a blob that is there with another size.
        """
        progress.begin([self._blobs.transfer(route, blob) for blob in plan.blobs])
        await self._bring(route, plan, progress, override=override, lost=lost)
        if lost := await self._lost(route, plan):
            await self._bring(route, plan, progress, override=override, lost=lost)
            if defects := await self._verifier.defects(route, plan, again=lost):
                raise incomplete(route, defects)

    async def _lost(self, route: Route, plan: Plan) -> frozenset[Digest]:
        if self._verify is VerifyMode.OFF:
            return frozenset()
        return frozenset(defect.part.digest for defect in await self._verifier.defects(route, plan))

    def _examiner(self, *, thorough: bool) -> ContentCheck | None:
        """Return how an image in place is examined, in addition to its digest and the referrers of that."""
        return self._check_content or (self._searched if thorough and self._search is not None else None)

    async def _holds_all_of(self, route: Route, tag: Tag, override: bool) -> Gaps | None:
        plan = await plan_tag(route, tag, search=self._search)
        tags_stand = await are_tags_up_to_date(route, plan.referrers, override=override)
        return plan.gaps if tags_stand and not await self._verifier.defects(route, plan) else None

    async def _searched(self, route: Route, tag: Tag, override: bool) -> Gaps | None:
        """Search for all that is attached; an image in place does not fail because that cannot be done."""
        try:
            return await self._holds_all_of(route, tag, override)
        except TagferryError as error:
            if self._required:
                raise
            return Gaps(unsearched=error.message)

    async def _bring(
        self, route: Route, plan: Plan, progress: Progress, *, override: bool, lost: Collection[Digest]
    ) -> None:
        await gather(
            *(
                self._ensure_blob(route, plan, blob, way, force=blob.digest in lost)
                for blob, way in zip(plan.blobs, progress.transfers, strict=True)
            ),
            # What still gets through is not sent again by the next attempt.
            finishing=(Unavailable,),
        )
        await self._ensure_below(route, plan.image)
        if plan.referrers:
            # They come before the tag: whoever admits only signed images must never see it unsigned.
            await self._ensure_manifest(route, plan.root)
            for referrer in plan.referrers:
                await self._ensure_attachment(route, referrer, override=override)

    async def _ensure_blob(self, route: Route, plan: Plan, blob: Descriptor, way: Transfer, *, force: bool) -> None:
        try:
            await self._blobs.ensure(route, blob, way, force=force)
        except (NotFound, Corrupt) as error:
            is_lost = isinstance(error, Corrupt) or error.kind == "blob"
            if is_lost and blob.digest in plan.referrer_blobs:
                raise _Unreadable(blob.digest, error.message, may_pass=False) from None
            raise
        except Unavailable as error:
            if blob.digest in plan.referrer_blobs and not self._required:
                error.is_optional = True
                if plan.lenient:
                    raise _Unreadable(blob.digest, error.message, may_pass=True) from None
            raise

    def _holds(self, route: Route, digest: Digest) -> bool:
        return self._held_content.holds(route.target, route.target_repository, digest)

    async def _ensure_below(self, route: Route, image: Image) -> None:
        for level in image.levels:
            await gather(*(self._ensure_manifest(route, manifest) for manifest in level))

    async def _ensure_attachment(self, route: Route, referrer: Referrer, *, override: bool) -> None:
        await self._ensure_below(route, referrer.image)
        root, tag = referrer.image.root, referrer.tag
        if tag is None:
            await self._ensure_manifest(route, root)
            return
        standing = await route.target.head_manifest(
            route.target_repository, tag, for_write=True, confirm_missing=not override
        )
        if standing is None or (override and standing.digest != root.digest):
            # What others write meanwhile stays, as what was there before does.
            with suppress(_Overtaken):
                await _put(route, root, tag, override=override)

    async def _ensure_manifest(self, route: Route, manifest: Manifest) -> None:
        if self._holds(route, manifest.digest):
            return

        async def put() -> None:
            await _put(route, manifest)
            self._held_content.add(route.target, route.target_repository, manifest.digest, manifest.size)

        await self._manifests.run(content_key(route, manifest.digest), put)


async def _put(
    route: Route, manifest: Manifest, tag: Tag | None = None, *, override: bool = True, seen: Digest | None = None
) -> None:
    try:
        await route.target.put_manifest(route.target_repository, manifest, tag, override=override, seen=seen)
    except NotFound as refusal:
        raise _Lacking(refusal) from None
    except Conflict as conflict:
        # Another kind is about something else than this tag, and has to be reported.
        if conflict.kind != "tag":
            raise
        raise _Overtaken from None
