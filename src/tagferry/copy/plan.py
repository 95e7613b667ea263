"""The plan of a tag's copy: pure data that can be printed, tested and run."""

import json
from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

from tagferry import bounds
from tagferry.concurrency import bounded_gather
from tagferry.copy.image import Image, OnManifest, distinct_blobs, read_image
from tagferry.copy.referrers import NO_GAPS, Gaps, Referrer, ReferrerSearch
from tagferry.copy.rewrite import Rewrite, images_without_platform, rewrite
from tagferry.copy.route import Route
from tagferry.errors import Invalid, NotFound
from tagferry.names import Digest, Reference, Tag
from tagferry.oci.attestations import UNKNOWN_PLATFORM
from tagferry.oci.fields import platform_name
from tagferry.oci.images import is_known_to_refuse
from tagferry.oci.model import Descriptor, Manifest
from tagferry.oci.refusal import manifest_refused
from tagferry.oci.strict_json import has_too_many_values
from tagferry.oci.verify import verified

_AT_ONCE = 8


class Plan(NamedTuple):
    """The content to copy for a tag.

    Attributes:
        source: the digest of the image at the source.
        image: the image that the tag is to point to at the target.
        referrers: the referrers of the image, subjects before their referrers.
        blobs: every blob of the image and its referrers, each once.
        rewritten: how the image differs from the source; None if everything is bit-identical.
        gaps: referrers at the source that may be missing.
        lenient: whether to leave out referrers whose blobs are temporarily unreadable, instead of failing.
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
        """The manifest that the tag is to point to."""
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
        """The blobs that only referrers need."""
        needed = {blob.digest for blob in self.image.blobs}
        return frozenset(blob.digest for blob in self.blobs) - needed

    def without(self, blob: Digest, reason: str, *, may_pass: bool = False) -> "Plan":
        """Return this plan without the referrers that need a blob, and without the referrers of those.

        Args:
            blob: the blob that cannot be read.
            reason: why it cannot be read.
            may_pass: whether it may be readable later.
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
        """Every manifest of the image, children before their parents."""
        return self.image.manifests


async def plan_tag(
    route: Route, tag: Tag, *, search: ReferrerSearch | None = None, on_manifest: OnManifest | None = None
) -> Plan:
    """Read a tag's manifest, every manifest below it and their referrers at the source.

    Args:
        route: the source and target.
        tag: the target's tag.
        search: finds the referrers; without it, none are copied.
        on_manifest: awaited with each manifest of the image at the source, but not of its referrers.

    Raises:
        NotFound: the source lacks the tag, content that its index lists, or a required foreign layer.
        Unsupported: the image has a type that cannot be copied bit-identically, or the target does not accept it.
        Invalid: the image's index nests too deep or lists too much, or it has too many referrers.
        Unavailable, Refused: `search` requires referrers that could not be found or read.
    """
    source, image, rewritten = await read_accepted(route, route.reference(tag), on_manifest)
    referrers: tuple[Referrer, ...] = ()
    gaps = NO_GAPS
    if search is not None:
        changed = rewritten.digests if rewritten else {}
        kept = [manifest.digest for manifest in image.manifests if manifest.digest not in changed.values()]
        referrers, gaps = await search.find(route, tag, kept)
        if rewritten:
            referrers = tuple(_without_dropped(referrers, frozenset(rewritten.left_behind)))
            # A signature of the old digest is not valid for the new one.
            left, more = await search.names(route, tag, changed)
            gaps |= more
            rewritten = rewritten._replace(left_behind=(*rewritten.left_behind, *left))
        referrers, conflicting = search.drop_conflicting(image, referrers)
        gaps |= conflicting
    manifests = [*image.manifests, *(manifest for one in referrers for manifest in one.image.manifests)]
    await _require_accepted(route, manifests)
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


async def read_accepted(
    route: Route, reference: Reference, on_manifest: OnManifest | None = None
) -> tuple[Digest, Image, Rewrite | None]:
    """Return the source's digest, its image as the target accepts it, and the difference; raises as `plan_tag`."""
    image = await read_image(route.source, route.source_repository, reference, on_manifest=on_manifest)
    platforms: dict[Digest, str] = {}
    if route.accepts.platforms:
        unknown = images_without_platform(image)
        read = await bounded_gather(unknown, partial(read_platform, route), limit=_AT_ONCE)
        platforms = {manifest.digest: platform for manifest, platform in zip(unknown, read, strict=True)}
    accepted, rewritten = rewrite(image, route.accepts, platforms)
    return image.root.digest, accepted, rewritten


def _without_dropped(referrers: Iterable[Referrer], dropped: frozenset[str]) -> Iterator[Referrer]:
    """Leave out attestations that were removed from the index and name their subject, and their referrers."""
    for one in referrers:
        subject = one.image.root.subject
        if one.image.root.digest not in dropped and (subject is None or subject.digest not in dropped):
            yield one


async def read_platform(route: Route, manifest: Manifest) -> str:
    """Return the platform in the config of an image at the source."""
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


async def _require_accepted(route: Route, manifests: Iterable[Manifest]) -> None:
    for manifest in manifests:
        if await is_known_to_refuse(route.target, manifest):
            raise manifest_refused(route.target.name, manifest)


async def _check_foreign_layers(route: Route, blobs: Iterable[Descriptor]) -> None:
    """Require that one of the two registries holds each foreign layer, since nothing is fetched from `urls`."""
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
                f"the target region requires it, neither registry holds it, and tagferry does not fetch from its urls: "
                f"{', '.join(blob.urls)}",
            )
