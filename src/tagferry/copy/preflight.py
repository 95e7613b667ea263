"""What stands at the target before anything moves, and what follows from it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import NamedTuple

from tagferry.concurrency import bounded_gather
from tagferry.copy.plan import read_accepted
from tagferry.copy.referrers import NO_GAPS, Gaps, ReferrerSearch
from tagferry.copy.rewrite import Rewrite
from tagferry.copy.route import Route
from tagferry.errors import Expired, NotFound, TagferryError, detached
from tagferry.names import Digest, Tag
from tagferry.oci.model import Descriptor, Manifest

_AT_ONCE = 64
_HEAD_START_SECONDS = 0.1
"""How long a target of which it is not known how far away it is has to answer before the source is asked too."""

ContentCheck = Callable[[Route, Tag, bool], Awaitable[Gaps | None]]
"""Returns what may be missing although the target holds all that the source's tag was found to consist of; None where
it does not hold that. Asked with `override`."""


class Verdict(Enum):
    """What to do about a tag."""

    COPY = "copy"
    """The target lacks it, or holds another image and may be overwritten."""
    UP_TO_DATE = "up to date"
    """The target holds the identical image, or what it takes of it."""
    BLOCKED = "blocked"
    """The target holds another image, which must not be overwritten."""
    MISSING = "missing"
    """The source has no such tag."""


class Finding(NamedTuple):
    """What was found about a tag.

    Attributes:
        source: what the tag points to at the source; may be unknown where the target's absence already decides.
        target: what the tag points to at the target, None where there is no such tag.
        rewritten: how the image in place differs from the source's, where it has to.
        identity: as whom the target was asked (`ImageStore.identity`).
        gaps: referrers at the source that an image in place may lack.
        found_at: when that was asked, by the clock of the engine that did; None where it was just before.
    """

    tag: Tag
    verdict: Verdict
    source: Digest | None
    target: Digest | None
    rewritten: Rewrite | None = None
    identity: int = 0
    gaps: Gaps = NO_GAPS
    found_at: float | None = None


async def compare(
    route: Route,
    tag: Tag,
    *,
    override: bool,
    search: ReferrerSearch | None = None,
    check_content: ContentCheck | None = None,
    query_source: bool = False,
) -> Finding:
    """Find out what is to be done about a tag.

    The source is asked in any case with `asks_source`, else only where it takes its answer to tell that. With
    `search`, an image is in place only together with what is attached to it; with `is_whole`, only where that says
    so. Where the target may not take the image as it is, the source's manifests are read to know under which digest it
    would arrive.
    """
    source, target = await _look(route, tag, override=override, query_source=query_source)
    as_whom = route.target.identity
    if target is None:
        digest = source.digest if source else None
        return Finding(tag=tag, verdict=Verdict.COPY, source=digest, target=None, identity=as_whom)
    if source is None:
        source = await _read_missing(route, tag)
    if source is None:
        return Finding(tag=tag, verdict=Verdict.MISSING, source=None, target=target.digest)
    is_same, rewritten = await _is_up_to_date(route, source, target)
    if not is_same:
        verdict = Verdict.COPY if override else Verdict.BLOCKED
        return Finding(tag=tag, verdict=verdict, source=source.digest, target=target.digest, identity=as_whom)
    is_complete, gaps = not await route.target.is_damaged(route.target_repository, target.digest), NO_GAPS
    # What is attached to the source's root does not go with an image that was rewritten.
    if is_complete and rewritten is None and search is not None:
        is_complete, gaps = await search.is_up_to_date(route, tag, source.digest, override=override)
    if is_complete and check_content is not None:
        more = await check_content(route, tag, override)
        is_complete, gaps = more is not None, gaps | (more or NO_GAPS)
    if not is_complete:
        return Finding(tag=tag, verdict=Verdict.COPY, source=source.digest, target=target.digest, identity=as_whom)
    return Finding(
        tag=tag,
        verdict=Verdict.UP_TO_DATE,
        source=source.digest,
        target=target.digest,
        rewritten=rewritten,
        gaps=gaps,
    )


async def compare_all(
    route: Route,
    tags: Sequence[Tag],
    *,
    override: bool,
    search: ReferrerSearch | None = None,
    check_content: ContentCheck | None = None,
    until: float | None = None,
) -> dict[Tag, Finding | TagferryError]:
    """Examine several tags at once; a tag that cannot be examined is told by its error and harms no other.

    Of the first one it is known afterwards whether the source has it. What has not been found out at the time `until`,
    by the event loop's clock, is `Expired`.
    """
    first = tags[0] if tags else None

    async def one(tag: Tag) -> Finding | TagferryError:
        deadline = asyncio.timeout_at(until)
        try:
            async with deadline:
                return await compare(
                    route,
                    tag,
                    override=override,
                    search=search,
                    check_content=check_content,
                    query_source=tag == first,
                )
        except TagferryError as error:
            return detached(error)
        except TimeoutError:
            if not deadline.expired():
                raise
            return Expired("the registries have not answered yet")

    return dict(zip(tags, await bounded_gather(tags, one, limit=_AT_ONCE), strict=True))


async def _look(
    route: Route, tag: Tag, *, override: bool, query_source: bool
) -> tuple[Descriptor | None, Descriptor | None]:
    """What the tag points to at the source and at the target; where the target lacks it, the source may not be asked.

    The target is asked first: where it lacks the tag, the copy's own read of the source is enough, and where it has
    it, the source need only say that it has the same. Of the target an unconditional answer is wanted: it shows that
    the manifest can be read there. Nobody waits for a target that is far away, or where the source is asked anyway.
    """
    asking = asyncio.ensure_future(
        route.target.head_manifest(route.target_repository, tag, for_write=True, confirm_missing=not override)
    )
    try:
        if route.target.high_latency is None and not query_source:
            await asyncio.wait([asking], timeout=_HEAD_START_SECONDS)
        if query_source or (route.target.high_latency is not False and not asking.done()):
            return await route.source.head_manifest(route.source_repository, tag), await asking
        target = await asking
    finally:
        if not asking.done():
            asking.cancel()
            await asyncio.wait([asking])
        elif not asking.cancelled():
            # Where the source's fault is raised, this one counts as read.
            asking.exception()
    if target is None:
        return None, None
    return await route.source.head_manifest(route.source_repository, tag, known=target), target


async def _read_missing(route: Route, tag: Tag) -> Descriptor | None:
    """Return what a source gives that reported the tag as missing: some answer GET only."""
    try:
        return (await route.source.get_manifest(route.source_repository, tag)).descriptor
    except NotFound:
        return None


async def _is_up_to_date(route: Route, source: Descriptor, target: Descriptor) -> tuple[bool, Rewrite | None]:
    """Whether the target holds what it takes of the source's image, and what differs in that."""
    if route.accepts.may_change:
        _, image, rewritten = await read_accepted(route, source.digest)
        if rewritten is not None:
            return image.root.digest == target.digest, rewritten
    return await _is_same_image(route, source, target), None


async def _is_same_image(route: Route, source: Descriptor, target: Descriptor) -> bool:
    if source.digest == target.digest:
        return True
    if source.digest.algorithm == target.digest.algorithm:
        return False
    # A registry may answer for the same bytes by another algorithm, so the bytes themselves decide.
    manifest = await route.source.get_manifest(route.source_repository, source.digest)
    return await holds_bytes(route, manifest, target)


async def holds_bytes(route: Route, manifest: Manifest, target: Descriptor) -> bool:
    """Return whether the target's manifest of this descriptor is the given one, byte for byte."""
    if manifest.digest.algorithm == target.digest.algorithm:
        return manifest.digest == target.digest
    return (await route.target.get_manifest(route.target_repository, target.digest)).raw == manifest.raw
