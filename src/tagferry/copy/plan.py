"""What a tag's copy consists of, as pure data that can be printed, tested and run."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from tagferry import bounds
from tagferry.concurrency import bounded_gather
from tagferry.copy.image import Image, distinct_blobs, read_image
from tagferry.copy.referrers import NO_GAPS, Gaps, Referrer, ReferrerSearch
from tagferry.copy.rewrite import Rewrite, images_without_platform, rewrite
from tagferry.copy.route import Route
from tagferry.errors import Invalid, NotFound
from tagferry.names import Digest, Reference, Tag
from tagferry.oci.attestations import UNKNOWN_PLATFORM
from tagferry.oci.model import Descriptor, Manifest, platform_name
from tagferry.oci.refusal import manifest_refused
from tagferry.oci.strict_json import has_too_many_values
from tagferry.oci.verify import verified

_AT_ONCE = 8


class Plan(NamedTuple):
    """Everything that makes up the image of a tag.

    Attributes:
        source: what the tag points to at the source.
        image: what it shall point to at the target.
        attachments: what is attached to the image from outside, what is attached to before what attaches to it.
        blobs: every blob of all of them, each once.
        rewritten: what differs from the source; None where everything is bit-identical.
        gaps: referrers at the source that may be missing.
        lenient: whether what is attached stays behind where its blobs cannot be read for now.
    """

    tag: Tag
    source: Digest
    image: Image
    referrers: tuple[Referrer, ...]
    blobs: tuple[Descriptor, ...]
    rewritten: Rewrite | None = None
    gaps: Gaps = NO_GAPS
    lenient: bool = False

    @property
    def root(self) -> Manifest:
        """What the tag shall point to."""
        return self.image.root

    @property
    def levels(self) -> tuple[tuple[Manifest, ...], ...]:
        """The manifests below the root, deepest level first."""
        return self.image.levels

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(blob.size for blob in self.blobs)

    @property
    def referrer_blobs(self) -> frozenset[Digest]:
        """The blobs that only attachments need."""
        needed = {blob.digest for blob in self.image.blobs}
        return frozenset(blob.digest for blob in self.blobs) - needed

    def without(self, blob: Digest, reason: str, *, may_pass: bool = False) -> "Plan":
        """This plan without the attachments that need a blob, and those attached to them: left behind for a reason.

        Args:
            blob: what cannot be read.
            reason: why.
            may_pass: whether it may be read later.
        """
        kept: list[Referrer] = []
        dropped: dict[str, str] = {}
        subjects: set[Digest] = set()
        for one in self.referrers:
            needs_it = any(part.digest == blob for part in one.image.blobs)
            if needs_it or one.refers_to(subjects):
                subjects.update(manifest.digest for manifest in one.image.manifests)
                dropped[one.tag or one.image.root.digest] = reason
            else:
                kept.append(one)
        needed = {part.digest for image in (self.image, *(one.image for one in kept)) for part in image.blobs}
        return self._replace(
            referrers=tuple(kept),
            blobs=tuple(one for one in self.blobs if one.digest in needed),
            gaps=self.gaps | Gaps(left_behind=dropped, may_pass=reason if may_pass else None),
        )

    @property
    def manifests(self) -> Iterator[Manifest]:
        """Every manifest of the image, those that are referred to before those that refer to them."""
        return self.image.manifests


async def plan_tag(route: Route, tag: Tag, *, search: ReferrerSearch | None = None) -> Plan:
    """Read the tag's manifest, every manifest below it and what is attached to them, at the source.

    Args:
        route: from where to where.
        tag: the tag.
        search: finds what is attached; without it attachments are left behind.

    Raises:
        NotFound: the source lacks the tag, or something that its index lists, or a foreign layer that is wanted.
        Unsupported: the image is of a type that cannot be copied bit-identically, or the target does not take it.
        Invalid: the image's index nests too deep or lists too much, or too much is attached.
        Unavailable, Refused: `search` requires what could not be found or read.
    """
    source, image, rewritten = await read_accepted(route, tag)
    referrers: tuple[Referrer, ...] = ()
    gaps = NO_GAPS
    if search is not None:
        changed = rewritten.digests if rewritten else {}
        kept = [manifest.digest for manifest in image.manifests if manifest.digest not in changed.values()]
        referrers, gaps = await search.find(route, tag, kept)
        if rewritten:
            referrers = tuple(_without_dropped(referrers, frozenset(rewritten.left_behind)))
            # A signature of the old digest would be a lie about the new one.
            left, more = await search.names(route, tag, changed)
            gaps |= more
            rewritten = replace(rewritten, left_behind=(*rewritten.left_behind, *left))
        referrers, conflicting = search.drop_conflicting(image, referrers)
        gaps |= conflicting
    manifests = [*image.manifests, *(each for one in referrers for each in one.image.manifests)]
    await _require_taken(route, manifests)
    blobs = distinct_blobs([image, *(one.image for one in referrers)], foreign_layers=route.accepts.foreign_layers)
    await _check_foreign_layers(route, blobs)
    return Plan(
        tag=tag,
        source=source,
        image=image,
        referrers=referrers,
        blobs=blobs,
        rewritten=rewritten,
        gaps=gaps,
        lenient=search is not None and search.lenient,
    )


async def read_accepted(route: Route, reference: Reference) -> tuple[Digest, Image, Rewrite | None]:
    """The source's digest, its image as the target takes it, and what differs in that; raises as `plan_tag`."""
    image = await read_image(route.source, route.source_repository, reference)
    platforms: dict[Digest, str] = {}
    if route.accepts.platforms:
        unknown = images_without_platform(image)
        read = await bounded_gather(unknown, partial(_platform, route), limit=_AT_ONCE)
        platforms = {manifest.digest: platform for manifest, platform in zip(unknown, read, strict=True)}
    accepted, rewritten = rewrite(image, route.accepts, platforms)
    return image.root.digest, accepted, rewritten


def _without_dropped(referrers: Iterable[Referrer], dropped: frozenset[str]) -> Iterator[Referrer]:
    """Leave out attestations that are no longer in the index and also name their subject, and what refers to them."""
    for one in referrers:
        subject = one.image.root.subject
        if one.image.root.digest not in dropped and (subject is None or subject.digest not in dropped):
            yield one


async def _platform(route: Route, manifest: Manifest) -> str:
    """The platform that an image's config tells."""
    config = manifest.config
    if config is None:
        return UNKNOWN_PLATFORM
    if config.size > bounds.CONFIG_BYTES:
        raise Invalid(
            "config", f"must have at most {bounds.CONFIG_BYTES} bytes to be read for its platform", config.size
        )
    async with route.source.read_blob(route.source_repository, config) as chunks:
        content = b"".join([chunk async for chunk in verified(chunks, config)])
    if has_too_many_values(content):
        return UNKNOWN_PLATFORM
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return UNKNOWN_PLATFORM
    return platform_name(document) or UNKNOWN_PLATFORM


async def _require_taken(route: Route, manifests: Iterable[Manifest]) -> None:
    for manifest in manifests:
        if await route.target.refuses(manifest):
            raise manifest_refused(route.target.name, manifest)


async def _check_foreign_layers(route: Route, blobs: Iterable[Descriptor]) -> None:
    """Nothing is fetched from `urls`, so a foreign layer that is wanted must be in one of the two registries."""
    for blob in blobs:
        if not blob.is_external:
            continue
        for store, repository in (
            (route.source, route.source_repository),
            (route.target, route.target_repository),
        ):
            if await store.stat_blob(repository, blob.digest) is not None:
                break
        else:
            raise NotFound(
                "foreign layer",
                blob.digest,
                f"the target region wants it, the source's registry does not hold it, and nothing is fetched from "
                f"where it lies: {', '.join(blob.urls)}",
            )
