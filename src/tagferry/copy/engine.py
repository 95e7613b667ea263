"""The copy engine: compares, plans and copies tags, and shares content between them."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from tagferry import tracing
from tagferry.concurrency import SingleFlight
from tagferry.copy.bandwidth import BandwidthLimiter
from tagferry.copy.blob_lock import BlobLock, NullBlobLock
from tagferry.copy.blobs import BlobCopier
from tagferry.copy.held_content import HeldContent
from tagferry.copy.mount_sources import MountSources
from tagferry.copy.outcome import Outcome, outcome_without_copy
from tagferry.copy.plan import Plan, plan_tag
from tagferry.copy.preflight import ContentCheck, Finding, compare, compare_all
from tagferry.copy.progress import Progress
from tagferry.copy.referrers import Gaps, ReferrerSearch, are_tags_up_to_date
from tagferry.copy.route import Route
from tagferry.copy.tag_blobs import TagBlobs
from tagferry.copy.tag_copy import SharedContent, TagCopy
from tagferry.copy.timeline import Step
from tagferry.copy.verify import ContentVerifier, VerifyMode
from tagferry.errors import Expired, TagferryError, Unavailable
from tagferry.names import RepositoryName, Tag
from tagferry.oci.images import ImageStore

if TYPE_CHECKING:
    from tagferry.copy.estimate import Estimates


class Limits(NamedTuple):
    """Limits on concurrent copies in this process.

    Attributes:
        tags: tags copied at once between two stores.
        blobs: blobs copied at once between two stores.
        tag_timeout_seconds: the time limit of a tag's copy, without the wait for a slot; None for no limit.
    """

    tags: int = 32
    blobs: int = 32
    tag_timeout_seconds: float | None = None


class CopyEngine:
    """Copies tags along routes; one engine a process, so that content that tags share is copied once.

    A reload changes `tag_timeout_seconds`, for copies that start later.

    Args:
        limits: limits on concurrent copies.
        held_content: the content that the targets are known to hold.
        mount_sources: the repositories from which blobs can be mounted.
        blob_lock: keeps other processes from copying the same blob at the same time.
        referrers: whether to copy signatures and other referrers of an image; if `required`, a tag fails if they cannot
            be found and read.
        verify: the tags whose content is verified at the target.
        bandwidth: the limit of each store by its name, for both directions together.
        splice: whether blobs may stay in the kernel on their path between the stores, if both support it and the
            target verifies them.
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
        held_content = held_content or HeldContent(clock=clock)
        self._tag_slots: dict[tuple[str, str], asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(limits.tags))
        self.tag_timeout_seconds = limits.tag_timeout_seconds
        self._mount_sources = mount_sources or MountSources()
        self._verifier = ContentVerifier(held_content)
        self._check_content: ContentCheck | None = self._gaps_if_complete if verify is VerifyMode.ALL else None
        self._required = referrers == "required"
        self._search = ReferrerSearch(required=self._required, clock=clock) if referrers else None
        self._lenient_search = ReferrerSearch(lenient=True, clock=clock)
        self._clock = clock
        self._blobs = BlobCopier(
            limit=limits.blobs,
            held_content=held_content,
            mount_sources=self._mount_sources,
            blob_lock=blob_lock or NullBlobLock(),
            bandwidth={} if bandwidth is None else bandwidth,
            splice=splice,
        )
        self._shared = SharedContent(
            blobs=self._blobs,
            held=held_content,
            verifier=self._verifier,
            is_verified=verify is not VerifyMode.OFF,
            referrers_required=self._required,
            clock=clock,
            manifests=SingleFlight(),
        )

    def add_tags(self, store: ImageStore, repository: RepositoryName, tags: Iterable[Tag], *, asked_at: float) -> None:
        """Use a list of all tags of a repository to find referrers, as long as it is fresh.

        Args:
            store: the store of the repository.
            repository: the repository.
            tags: all its tags.
            asked_at: when the caller requested them, by the clock.
        """
        if self._search is not None:
            self._search.add_tags(store, repository, tags, asked_at=asked_at)

    async def compare_all(
        self,
        route: Route,
        tags: Sequence[Tag],
        *,
        override: bool,
        thorough: bool = False,
        until: float | None = None,
    ) -> dict[Tag, Finding | TagferryError]:
        """Compare the target's tags with the source's; return the error of a tag that cannot be compared.

        Args:
            route: the source and target.
            tags: the tags.
            override: whether other images under them may be replaced.
            thorough: for images that are up to date, also search the referrers of all their parts.
            until: when to stop, by the event loop's clock; tags not compared by then are `Expired`.
        """
        check_content = self._content_check(thorough=thorough)
        found_at = self._clock()
        findings = await compare_all(
            route, tags, override=override, search=self._search, check_content=check_content, until=until
        )
        return {
            tag: found._replace(found_at=found_at) if isinstance(found, Finding) else found
            for tag, found in findings.items()
        }

    async def estimate_all(self, route: Route, tags: Sequence[Tag], *, override: bool) -> "Estimates":
        """Return the work that `copy` would do for each of these tags, without writing anything."""
        # Imported here: a copy starts without it.
        from tagferry.copy.estimate import estimate_all

        findings = await self.compare_all(route, tags, override=override)
        return await estimate_all(route, findings, mount_sources=self._mount_sources, search=self._search)

    async def plan(self, route: Route, tag: Tag) -> Plan:
        """Read the tag's content at the source, and look up its mount sources; raises as `plan_tag`."""
        plan = await plan_tag(route, tag, search=self._search)
        await self._blobs.find_mount_sources(route, plan.blobs)
        return plan

    async def _plan(self, route: Route, tag: Tag, search: ReferrerSearch | None, blobs: TagBlobs) -> Plan:
        plan = await plan_tag(route, tag, search=search, on_manifest=blobs.begin)
        await blobs.find_mount_sources(plan.blobs)
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
        """Copy all content of a tag, and then point the target's tag to the source's image.

        Args:
            route: the source and target.
            tag: the target's tag; `route.references` has the source's, if it differs.
            override: whether a different image under that tag may be replaced.
            finding: the result of an earlier comparison, which is then not repeated.
            plan: the result of `plan`, which is then not repeated.
            progress: filled while the copy runs.
            before_tag: awaited just before the tag is written.
            thorough: as for `compare_all`, if there is no finding.
            is_last: returns whether the copy is not retried after this error; then the copy leaves out referrers that
                are temporarily unreadable instead of failing.

        Raises:
            NotFound: the source lacks the tag or a part of its image.
            Expired: the copy exceeded its time limit.
            TagferryError: any error of either store; the target's tag is unchanged.
        """
        started_at = self._clock()
        tracked = progress if progress is not None else Progress()
        blobs = TagBlobs(self._blobs, route, tracked)

        async def attempt(
            search: ReferrerSearch | None, finding: Finding | None = None, plan: Awaitable[Plan] | None = None
        ) -> Outcome:
            found_at = started_at
            if finding is None:
                found_at = self._clock()
                check_content = self._content_check(thorough=thorough)
                with tracing.span("compare", is_essential=True):
                    finding = await compare(route, tag, override=override, search=search, check_content=check_content)
            elif finding.found_at is not None:
                found_at = finding.found_at
            tracked.timeline.add(Step.COMPARED, finding.target)
            if (outcome := outcome_without_copy(route, finding)) is not None:
                return outcome
            with tracing.span("plan", is_essential=True) as span:
                planned = await (plan or self._plan(route, tag, search, blobs))
                span.set({"tagferry.blobs": len(planned.blobs), "tagferry.bytes": planned.size})
            return await TagCopy(
                shared=self._shared,
                route=route,
                plan=planned,
                blobs=blobs,
                finding=finding,
                found_at=found_at,
                override=override,
                progress=tracked,
                before_tag=before_tag,
            ).run()

        async with self._tag_slots[route.source.name, route.target.name]:
            seconds = self.tag_timeout_seconds
            deadline = asyncio.timeout(seconds)
            try:
                async with deadline:
                    try:
                        return await attempt(self._search, finding, plan)
                    except Unavailable as error:
                        if not is_last(error):
                            await blobs.finish()
                            raise
                        if not error.is_optional:
                            raise
                        return await attempt(self._lenient_search)
            except TimeoutError:
                if not deadline.expired():
                    raise
                raise Expired(f"the copy of {tag} exceeded its time limit of {seconds:g} s") from None
            finally:
                await blobs.close()

    def _content_check(self, *, thorough: bool) -> ContentCheck | None:
        """Return the check of images that are up to date by their digests and direct referrers."""
        return self._check_content or (self._gaps_or_error if thorough and self._search is not None else None)

    async def _gaps_if_complete(self, route: Route, tag: Tag, override: bool) -> Gaps | None:
        plan = await plan_tag(route, tag, search=self._search)
        if not await are_tags_up_to_date(route, plan.referrers, override=override):
            return None
        return None if await self._verifier.defects(route, plan) else plan.gaps

    async def _gaps_or_error(self, route: Route, tag: Tag, override: bool) -> Gaps | None:
        """Search all referrers; unless they are required, an error of the search becomes a gap."""
        try:
            return await self._gaps_if_complete(route, tag, override)
        except TagferryError as error:
            if self._required:
                raise
            return Gaps(search_error=error.message)
