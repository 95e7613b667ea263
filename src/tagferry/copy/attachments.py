"""What is attached to an image from outside: signatures, attestations, bills of materials.

They are found through the referrers API, through the tag schema that stands in for it, and under cosign's tags; what
is attached to an attachment is found too.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import NamedTuple

from tagferry.copy.flights import Flights, each
from tagferry.copy.image import Image, read_image
from tagferry.copy.route import Route
from tagferry.errors import Invalid, NotFound
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.attachments import cosign_tags
from tagferry.oci.images import ImageStore

ATTACHMENT_LIMIT = 1000
"""Attachments that one image may have."""
_AT_ONCE = 8
_FRESH_SECONDS = 10.0


class Attachment(NamedTuple):
    """Something that refers to an image, or to another attachment.

    Attributes:
        tag: the tag under which it is found, for those that do not name their subject.
    """

    image: Image
    tag: Tag | None


class KnownTags:
    """The tags of repositories, listed once for all the tags of a request."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._listing: Flights[tuple[str, RepositoryName], frozenset[Tag]] = Flights()
        self._listed: dict[tuple[str, RepositoryName], tuple[float, frozenset[Tag]]] = {}

    async def of(self, store: ImageStore, repository: RepositoryName) -> frozenset[Tag]:
        """The repository's tags as of a few seconds ago at most; none where there is no such repository."""
        key = (store.name, repository)
        listed_at, tags = self._listed.get(key, (None, frozenset()))
        if listed_at is not None and self._clock() - listed_at <= _FRESH_SECONDS:
            return tags

        async def listing() -> frozenset[Tag]:
            try:
                found = frozenset([tag async for tag in store.list_tags(repository)])
            except NotFound:
                found = frozenset()
            self._forget_stale()
            self._listed[key] = (self._clock(), found)
            return found

        return await self._listing.share(key, listing)

    def _forget_stale(self) -> None:
        now = self._clock()
        for key in [key for key, (listed_at, _) in self._listed.items() if now - listed_at > _FRESH_SECONDS]:
            del self._listed[key]


async def find_attachments(route: Route, subjects: Iterable[Digest], tags: KnownTags) -> tuple[Attachment, ...]:
    """Everything attached to these manifests at the source; what is attached to stands before what attaches to it.

    Raises:
        Invalid: there is more than the limit.
    """
    known = await tags.of(route.source, route.source_repository)
    found: dict[tuple[Digest, Tag | None], Attachment] = {}
    waiting = list(dict.fromkeys(subjects))
    seen = set(waiting)
    while waiting:
        for attachment in await _attached_to(route, waiting, known):
            found.setdefault((attachment.image.root.digest, attachment.tag), attachment)
        if len(found) > ATTACHMENT_LIMIT:
            raise Invalid("image", f"must not have more than {ATTACHMENT_LIMIT} attachments", waiting[0])
        waiting = [digest for digest, _ in found if digest not in seen]
        seen.update(waiting)
    return tuple(found.values())


async def name_attachments(route: Route, subjects: Iterable[Digest], tags: KnownTags) -> tuple[str, ...]:
    """The digests, or cosign's tags, of what is attached to these manifests themselves at the source."""
    known = await tags.of(route.source, route.source_repository)

    async def one(subject: Digest) -> list[str]:
        referrers, tagged = await _references(route, subject, known)
        return [*referrers, *tagged]

    return tuple(dict.fromkeys(name for names in await each(subjects, one, at_once=_AT_ONCE) for name in names))


async def are_attachments_in_place(route: Route, subject: Digest, tags: KnownTags, *, override: bool) -> bool:
    """Whether the target has what is attached to this manifest at the source, one level deep.

    Without `override`, one of cosign's tags that points elsewhere at the target counts as in place: it is the
    target's own, and must not be replaced.
    """
    known = await tags.of(route.source, route.source_repository)
    referrers, tagged = await _references(route, subject, known)
    if not referrers and not tagged:
        return True
    at_target = await tags.of(route.target, route.target_repository)
    if not at_target.issuperset(tagged):
        return False
    if override and not all([await _is_same_tag(route, tag) for tag in tagged]):
        return False
    there = await route.target.list_referrers(route.target_repository, subject, tags=at_target)
    return set(referrers) <= {one.digest for one in there}


async def are_tags_in_place(route: Route, attachments: Iterable[Attachment], *, override: bool) -> bool:
    """Whether those of these that have a tag stand at the target under it, `override` meaning the same as above."""

    async def one(attachment: Attachment) -> bool:
        if attachment.tag is None:
            return True
        standing = await route.target.head_manifest(route.target_repository, attachment.tag)
        return standing is not None and (not override or standing.digest == attachment.image.root.digest)

    return all(await each(attachments, one, at_once=_AT_ONCE))


async def _is_same_tag(route: Route, tag: Tag) -> bool:
    source = await route.source.head_manifest(route.source_repository, tag)
    target = await route.target.head_manifest(route.target_repository, tag)
    return source is not None and target is not None and source.digest == target.digest


async def _attached_to(route: Route, subjects: list[Digest], known: frozenset[Tag]) -> list[Attachment]:

    async def one(subject: Digest) -> list[Attachment]:
        return [attachment async for attachment in _attachments(route, subject, known)]

    return [attachment for found in await each(subjects, one, at_once=_AT_ONCE) for attachment in found]


async def _attachments(route: Route, subject: Digest, known: frozenset[Tag]) -> AsyncIterator[Attachment]:
    referrers, tagged = await _references(route, subject, known)
    for digest in referrers:
        yield Attachment(await read_image(route.source, route.source_repository, digest), tag=None)
    for tag in tagged:
        yield Attachment(await read_image(route.source, route.source_repository, tag), tag=tag)


async def _references(route: Route, subject: Digest, known: frozenset[Tag]) -> tuple[list[Digest], list[Tag]]:
    """The manifests that name this one as their subject at the source, and those of its tags that cosign made."""
    referrers = await route.source.list_referrers(route.source_repository, subject, tags=known)
    return [referrer.digest for referrer in referrers], [tag for tag in cosign_tags(subject) if tag in known]
