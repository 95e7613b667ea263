"""Compare the target with the source before a copy, and decide what to do."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from enum import Enum
from typing import NamedTuple

from tagferry.concurrency import bounded_gather
from tagferry.copy.plan import read_accepted
from tagferry.copy.referrers import NO_GAPS, Gaps, ReferrerSearch
from tagferry.copy.rewrite import Rewrite
from tagferry.copy.route import Route
from tagferry.errors import Expired, NotFound, TagferryError, detached
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.images import ImageStore, high_latency
from tagferry.oci.model import Descriptor, Manifest

_AT_ONCE = 64
_HEAD_START_SECONDS = 0.1
"""The time that a target of unknown latency has to answer before the source is queried too."""

ContentCheck = Callable[[Route, Tag, bool], Awaitable[Gaps | None]]
"""Returns the gaps of a target that holds all content found for the source's tag, or None if content is missing.

The last argument is `override`."""


class Verdict(Enum):
    """The action for a tag."""

    COPY = "copy"
    """The target lacks the tag, or holds another image that may be overwritten."""
    UP_TO_DATE = "up to date"
    """The target holds the identical image, or its rewritten form."""
    BLOCKED = "blocked"
    """The target holds another image that must not be overwritten."""
    MISSING = "missing"
    """The source lacks the tag."""


class Finding(NamedTuple):
    """The result of comparing a tag at the source and the target.

    Attributes:
        source: the digest at the source; may be None if the target lacks the tag, since the source was not queried
            then.
        target: the digest at the target; None if it lacks the tag.
        rewritten: how an up-to-date image differs from the source's, if it was rewritten.
        identity: the user as whom the target was queried (`ImageStore.identity`).
        gaps: referrers at the source that an up-to-date image may lack.
        found_at: when the target was queried, by the engine's clock; None if just before.
    """

    tag: Tag
    verdict: Verdict
    source: Digest | None
    target: Digest | None
    rewritten: Rewrite | None = None
    identity: int = 0
    gaps: Gaps = NO_GAPS
    found_at: float | None = None


def absent(route: Route, tag: Tag) -> Finding:
    """Return the finding for a tag of a target repository that has no tags; for copies with `override` only."""
    return Finding(tag=tag, verdict=Verdict.COPY, source=None, target=None, identity=route.target.identity)


async def compare(
    route: Route,
    tag: Tag,
    *,
    override: bool,
    search: ReferrerSearch | None = None,
    check_content: ContentCheck | None = None,
    query_source: bool = False,
) -> Finding:
    """Compare a tag at the target with the source, and return the action.

    The source is queried if the target has the tag, and always with `query_source`. With `search`, an image is up to
    date only if its referrers are; with `check_content`, only if that check passes. If the target may require a
    rewrite, the source's manifests are read to compute the digest of the rewritten image.
    """
    source, target = await _query(route, tag, override=override, query_source=query_source)
    identity = route.target.identity
    if target is None:
        digest = source.digest if source else None
        return Finding(tag=tag, verdict=Verdict.COPY, source=digest, target=None, identity=identity)
    if source is None:
        source = await _read_missing(route, tag)
    if source is None:
        return Finding(tag=tag, verdict=Verdict.MISSING, source=None, target=target.digest)
    accepted = await _accepted_form(route, source)
    is_same = await _is_up_to_date(route, source, accepted, target)
    if not is_same and not override:
        # A wrong digest in a header must not end the job: the manifests themselves decide.
        before = source
        with suppress(NotFound):
            source, target = await _read_both(route, tag)
        if source.digest != before.digest:
            accepted = await _accepted_form(route, source)
        is_same = await _is_up_to_date(route, source, accepted, target)
    if not is_same:
        verdict = Verdict.COPY if override else Verdict.BLOCKED
        return Finding(tag=tag, verdict=verdict, source=source.digest, target=target.digest, identity=identity)
    is_complete, gaps = not await route.target.is_damaged(route.target_repository, target.digest), NO_GAPS
    # Referrers of the source's root are not copied with a rewritten image.
    if is_complete and accepted is None and search is not None:
        is_complete, gaps = await search.is_up_to_date(route, tag, source.digest, override=override)
    if is_complete and check_content is not None:
        more = await check_content(route, tag, override)
        is_complete, gaps = more is not None, gaps | (more or NO_GAPS)
    if not is_complete:
        return Finding(tag=tag, verdict=Verdict.COPY, source=source.digest, target=target.digest, identity=identity)
    return Finding(
        tag=tag,
        verdict=Verdict.UP_TO_DATE,
        source=source.digest,
        target=target.digest,
        rewritten=accepted[1] if accepted else None,
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
    """Compare several tags concurrently; return the error of a tag that cannot be compared.

    The source is always queried for the first tag. Tags not compared by the time `until`, of the event loop's clock,
    are `Expired`.
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


async def _query(
    route: Route, tag: Tag, *, override: bool, query_source: bool
) -> tuple[Descriptor | None, Descriptor | None]:
    """Return the tag's descriptors at the source and the target; if the target lacks it, the source may not be queried.

    The target is queried first: if it lacks the tag, the copy itself reads the source, and if it has the tag, the
    source only confirms the digest. The target's request is unconditional, which shows that the manifest can be read
    there. With `query_source`, or a target with high latency, both are queried concurrently.
    """
    target_query = route.target.head_manifest(
        route.target_repository, tag, for_write=True, confirm_missing=not override
    )
    if high_latency(route.target) is False and not query_source:
        return await _confirmed(route, tag, await target_query)
    target_request = asyncio.ensure_future(target_query)
    try:
        if high_latency(route.target) is None and not query_source:
            await asyncio.wait([target_request], timeout=_HEAD_START_SECONDS)
        if query_source or (high_latency(route.target) is not False and not target_request.done()):
            return await route.source.head_manifest(route.source_repository, route.reference(tag)), await target_request
        target = await target_request
    finally:
        if not target_request.done():
            target_request.cancel()
            await asyncio.wait([target_request])
        elif not target_request.cancelled():
            # Marks the exception as retrieved, in case the source's is raised.
            target_request.exception()
    return await _confirmed(route, tag, target)


async def _confirmed(route: Route, tag: Tag, target: Descriptor | None) -> tuple[Descriptor | None, Descriptor | None]:
    """Query the source if the target has the tag; return the descriptors at both."""
    if target is None:
        return None, None
    return await route.source.head_manifest(route.source_repository, route.reference(tag), known=target), target


async def _read_missing(route: Route, tag: Tag) -> Descriptor | None:
    """Read a tag that HEAD reported as missing: some registries support only GET."""
    try:
        return (await route.source.get_manifest(route.source_repository, route.reference(tag))).descriptor
    except NotFound:
        return None


async def _read_both(route: Route, tag: Tag) -> tuple[Descriptor, Descriptor]:
    """Read the tag's manifests at the source and at the target; their bytes are verified."""

    async def read(at: tuple[ImageStore, RepositoryName, Reference]) -> Descriptor:
        store, repository, reference = at
        return (await store.get_manifest(repository, reference)).descriptor

    both = (
        (route.source, route.source_repository, route.reference(tag)),
        (route.target, route.target_repository, tag),
    )
    source, target = await bounded_gather(both, read, limit=2)
    return source, target


async def _accepted_form(route: Route, source: Descriptor) -> tuple[Digest, Rewrite] | None:
    """Return the digest of the source's image as the target accepts it, and the difference; None if it is unchanged."""
    if not route.accepts.may_change:
        return None
    _, image, rewritten = await read_accepted(route, source.digest)
    return None if rewritten is None else (image.root.digest, rewritten)


async def _is_up_to_date(
    route: Route, source: Descriptor, accepted: tuple[Digest, Rewrite] | None, target: Descriptor
) -> bool:
    """Return whether the target holds the source's image, or its rewritten form if there is one."""
    if accepted is not None:
        return accepted[0] == target.digest
    return await _is_same_image(route, source, target)


async def _is_same_image(route: Route, source: Descriptor, target: Descriptor) -> bool:
    if source.digest == target.digest:
        return True
    if source.digest.algorithm == target.digest.algorithm:
        return False
    # A registry may report the digest of the same bytes by another algorithm, so compare the bytes.
    manifest = await route.source.get_manifest(route.source_repository, source.digest)
    return await holds_bytes(route, manifest, target)


async def holds_bytes(route: Route, manifest: Manifest, target: Descriptor) -> bool:
    """Return whether the target's manifest of this descriptor is the given one, byte for byte."""
    if manifest.digest.algorithm == target.digest.algorithm:
        return manifest.digest == target.digest
    return (await route.target.get_manifest(route.target_repository, target.digest)).raw == manifest.raw
