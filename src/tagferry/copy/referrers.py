"""The referrers of an image: signatures, attestations, bills of materials.

They are found by the referrers API, by the referrers tag schema and by cosign's tags, and so are their own referrers.

Referrers do not fail the copy of an image. If the source cannot be searched, or lists referrers that it cannot return,
the rest is copied, and `Gaps` records what may be missing. Only a temporary error of an existing referrer is raised, so
that the copy is retried; the last attempt of a copy leaves that referrer out.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from tagferry import bounds
from tagferry.concurrency import bounded_gather
from tagferry.copy.image import Image, read_image
from tagferry.copy.manifest_budget import ManifestBudget
from tagferry.copy.route import Route
from tagferry.copy.tag_lists import TagLists
from tagferry.errors import (
    Corrupt,
    Incomplete,
    Invalid,
    NotFound,
    Refused,
    TagferryError,
    Unavailable,
    Unsupported,
    detached,
)
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.images import ImageStore
from tagferry.oci.referrer_tags import cosign_tags

_AT_ONCE = 8


Name = TypeVar("Name", bound=str)


class Referrer(NamedTuple):
    """A manifest that refers to an image, or to another referrer.

    Attributes:
        tag: the cosign tag of a referrer that does not name its subject.
    """

    image: Image
    tag: Tag | None

    def refers_to(self, digests: Collection[Digest]) -> bool:
        """Return whether this refers to one of these manifests."""
        if self.tag is not None:
            return any(self.tag in cosign_tags(digest) for digest in digests)
        subject = self.image.root.subject
        return subject is not None and subject.digest in digests


class Gaps(NamedTuple):
    """Referrers of an image that its copy may lack.

    Attributes:
        search_error: why the search may have missed referrers; None if it is complete.
        left_behind: the digests, or cosign's tags, that the source lists and cannot return, each with the reason.
        may_pass: the reason of one of these that the source may return later.
    """

    search_error: str | None = None
    left_behind: Mapping[str, str] = MappingProxyType({})
    may_pass: str | None = None

    @property
    def unfinished(self) -> str | None:
        """Why another search may find or copy more; None if it would not."""
        return self.search_error or self.may_pass

    def __or__(self, other: "Gaps") -> "Gaps":
        # Bounded by the number of referrers that are ever copied.
        left_behind = dict(islice({**self.left_behind, **other.left_behind}.items(), bounds.ATTACHED_ARTIFACTS))
        return Gaps(self.search_error or other.search_error, left_behind, self.may_pass or other.may_pass)


NO_GAPS = Gaps()


class _References(NamedTuple):
    """The referrers of manifests that a store lists, by digest and by cosign tag."""

    digests: list[Digest]
    tags: list[Tag]
    gaps: Gaps

    @property
    def all(self) -> list[Digest | Tag]:
        """All digests and tags."""
        return [*self.digests, *self.tags]


class ReferrerSearch:
    """Finds the referrers of images.

    Args:
        required: raise errors that would otherwise be gaps, except for content that the source has lost.
        lenient: leave out referrers with temporary errors, instead of raising them.
        clock: seconds, monotonic.
    """

    def __init__(
        self, *, required: bool = False, lenient: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._required = required
        self.lenient = lenient
        self._tags = TagLists(clock=clock)

    def add_tags(self, store: ImageStore, repository: RepositoryName, tags: Iterable[Tag], *, asked_at: float) -> None:
        """See `CopyEngine.add_tags`."""
        self._tags.add(store, repository, tags, asked_at=asked_at)

    async def find(self, route: Route, tag: Tag, subjects: Iterable[Digest]) -> tuple[tuple[Referrer, ...], Gaps]:
        """Return the referrers of these manifests of a tag at the source, subjects before their referrers.

        Raises:
            Unavailable: a referrer is temporarily unreadable.
            Refused: referrers are required, and there are more than the limit.
        """
        found: dict[Digest | Tag, Referrer] = {}
        gaps = NO_GAPS
        budget, requested = _budget(), 0
        waiting = list(dict.fromkeys(subjects))
        seen = set(waiting)
        while waiting:
            references = await self._at_source(route, tag, waiting)
            gaps |= references.gaps
            named = [name for name in references.all if name not in found and name not in gaps.left_behind]
            # Unreadable referrers count too, since a registry may list any number of them.
            named, excess = self._first(
                named, bounds.ATTACHED_ARTIFACTS - requested, f"{bounds.ATTACHED_ARTIFACTS} referrers of an image"
            )
            requested += len(named)
            gaps |= excess
            referrers, left_behind = await self._read(route, named, budget)
            found |= referrers
            gaps |= left_behind
            waiting = list(dict.fromkeys(one.image.root.digest for one in referrers.values()))
            waiting = [digest for digest in waiting if digest not in seen]
            seen.update(waiting)
        return tuple(found.values()), gaps

    async def names(self, route: Route, tag: Tag, subjects: Iterable[Digest]) -> tuple[tuple[str, ...], Gaps]:
        """Return the digests and cosign's tags of the direct referrers of these manifests at the source."""
        references = await self._at_source(route, tag, list(subjects))
        return tuple(references.all), references.gaps

    def drop_conflicting(self, image: Image, referrers: tuple[Referrer, ...]) -> tuple[tuple[Referrer, ...], Gaps]:
        """Leave out referrers that list a blob with another size than the image or another referrer."""
        sizes = {blob.digest: blob.size for blob in image.blobs}
        kept: list[Referrer] = []
        left_behind: dict[str, str] = {}
        for one in referrers:
            others = (blob for blob in one.image.blobs if sizes.setdefault(blob.digest, blob.size) != blob.size)
            conflict = next(others, None)
            if conflict is None:
                kept.append(one)
                continue
            error = Invalid("descriptor.size", f"must be the same wherever {conflict.digest} is listed", conflict.size)
            if self._required:
                raise _not_searched(error)
            left_behind[one.tag or one.image.root.digest] = error.message
        return tuple(kept), Gaps(left_behind=left_behind)

    async def is_up_to_date(self, route: Route, tag: Tag, subject: Digest, *, override: bool) -> tuple[bool, Gaps]:
        """Return whether the target has the source's direct referrers of a tag's manifest.

        Without `override`, a cosign tag that points to another manifest at the target counts as present: it is the
        target's own and must not be replaced. Referrers that the source cannot return do not count as missing.
        """
        at_source = await self._at_source(route, tag, [subject])
        if not at_source.all:
            return True, at_source.gaps
        missing = await self._missing(route, tag, subject, at_source, override=override)
        referrers, left_behind = await self._read(route, missing, _budget())
        return not referrers, at_source.gaps | left_behind

    def _first(self, names: list[Name], limit: int, what: str) -> tuple[list[Name], Gaps]:
        """Return the names up to a limit, and the gaps of those beyond it."""
        if len(names) <= limit:
            return names, NO_GAPS
        reason = f"only {what} are copied"
        if self._required:
            raise _not_searched(Refused(reason))
        return names[:limit], Gaps(left_behind=dict.fromkeys(names[limit : limit + bounds.ATTACHED_ARTIFACTS], reason))

    async def _at_source(self, route: Route, tag: Tag, subjects: list[Digest]) -> _References:
        """Return the references to any of these manifests."""
        store, repository = route.source, route.source_repository
        known = await self._tags.of(store, repository, holding=route.reference(tag), subjects=len(subjects))

        listed = 0

        async def one(subject: Digest) -> tuple[_References, TagferryError | None]:
            nonlocal listed
            if listed > bounds.ATTACHED_ARTIFACTS:
                # Further referrers would not be copied, and each list may be long.
                return _References([], [], NO_GAPS), Refused(
                    f"only {bounds.ATTACHED_ARTIFACTS} attached artifacts are searched for"
                )
            found, fault = await _references(store, repository, subject, known)
            listed += len(found.all)
            return found, fault

        digests: dict[Digest, None] = {}
        tags: dict[Tag, None] = {}
        gaps = NO_GAPS
        for found, fault in await bounded_gather(subjects, one, limit=_AT_ONCE):
            kept, excess = self._first(found.digests, bounds.REFERRERS, f"{bounds.REFERRERS} referrers of a manifest")
            gaps |= excess
            digests |= dict.fromkeys(kept)
            tags |= dict.fromkeys(found.tags)
            if fault is not None and self._required:
                raise _not_searched(fault)
            if fault is not None:
                gaps |= Gaps(search_error=fault.message)
        return _References(list(digests), list(tags), gaps)

    async def _missing(
        self, route: Route, tag: Tag, subject: Digest, at_source: _References, *, override: bool
    ) -> list[Digest | Tag]:
        """Return the referrers that the target does not report."""
        store, repository = route.target, route.target_repository
        known = await self._tags.of(store, repository, holding=tag)
        listed, _ = await _listed(store, repository, subject, known)
        missing: list[Digest | Tag] = [digest for digest in at_source.digests if digest not in listed]
        for name in at_source.tags:
            is_listed = known is None or name in known
            if not is_listed or ((known is None or override) and not await _has_tag(route, name, same=override)):
                missing.append(name)
        return missing

    async def _read(
        self, route: Route, names: Iterable[Digest | Tag], budget: ManifestBudget
    ) -> tuple[dict[Digest | Tag, Referrer], Gaps]:
        """Read these referrers at the source; return them, and the gaps of those that cannot be read.

        Raises:
            Unavailable: a referrer is temporarily unreadable; with `is_optional` set.
        """

        async def one(name: Digest | Tag) -> Referrer | TagferryError:
            try:
                image = await read_image(route.source, route.source_repository, name, budget)
            except (NotFound, Corrupt, Invalid, Unsupported, Refused) as error:
                return detached(error)
            except Unavailable as error:
                error.is_optional = not self._required
                if not self.lenient:
                    raise
                return detached(error)
            return Referrer(image, tag=name if isinstance(name, Tag) else None)

        wanted = list(names)
        referrers: dict[Digest | Tag, Referrer] = {}
        left_behind: dict[str, str] = {}
        may_pass: str | None = None
        for name, found in zip(wanted, await bounded_gather(wanted, one, limit=_AT_ONCE), strict=True):
            if isinstance(found, Referrer):
                referrers[name] = found
            elif self._required and not isinstance(found, NotFound | Corrupt):
                raise _not_searched(found)
            else:
                left_behind[name] = found.message
                may_pass = found.message if isinstance(found, Refused | Unavailable) else may_pass
        return referrers, Gaps(left_behind=left_behind, may_pass=may_pass)


def _budget() -> ManifestBudget:
    return ManifestBudget("an image's attached artifacts", manifests=bounds.ATTACHED_ARTIFACTS + bounds.IMAGE_MANIFESTS)


async def are_tags_up_to_date(route: Route, referrers: Iterable[Referrer], *, override: bool) -> bool:
    """Return whether the target has the tags of tagged referrers; with `override`, pointing to the same manifests."""

    async def one(referrer: Referrer) -> bool:
        if referrer.tag is None:
            return True
        current = await route.target.head_manifest(route.target_repository, referrer.tag, confirm_missing=True)
        return current is not None and (not override or current.digest == referrer.image.root.digest)

    return all(await bounded_gather(referrers, one, limit=_AT_ONCE))


async def _references(
    store: ImageStore, repository: RepositoryName, subject: Digest, known: frozenset[Tag] | None
) -> tuple[_References, TagferryError | None]:
    """Return the referrers of a manifest, and the error if there may be more."""
    digests, fault = await _listed(store, repository, subject, known)
    if known is not None:
        return _References(list(digests), [tag for tag in cosign_tags(subject) if tag in known], NO_GAPS), fault
    tags = []
    for tag in cosign_tags(subject):
        try:
            if await store.head_manifest(repository, tag, confirm_missing=True) is not None:
                tags.append(tag)
        except TagferryError as error:
            fault = fault or error
    return _References(list(digests), tags, NO_GAPS), fault


async def _listed(
    store: ImageStore, repository: RepositoryName, subject: Digest, known: frozenset[Tag] | None
) -> tuple[dict[Digest, None], TagferryError | None]:
    """Return the digests of a manifest's listed referrers, and the error if there may be more."""
    try:
        listed = await store.list_referrers(repository, subject, tags=known)
    except Incomplete as error:
        return dict.fromkeys(one.digest for one in error.found), error.cause
    except TagferryError as error:
        return {}, error
    return dict.fromkeys(one.digest for one in listed), None


async def _has_tag(route: Route, tag: Tag, *, same: bool) -> bool:
    """Return whether the target has a cosign tag; with `same`, whether it points to the source's manifest."""
    try:
        target = await route.target.head_manifest(route.target_repository, tag, confirm_missing=True)
        if target is None or not same:
            return target is not None
        source = await route.source.head_manifest(route.source_repository, tag)
    except TagferryError:
        return False
    return source is not None and source.digest == target.digest


def _not_searched(fault: TagferryError) -> TagferryError:
    """Return the error of an image whose referrers are required and not all available."""
    kind = Unavailable if isinstance(fault, Unavailable) else Refused
    return kind(
        f'cannot find and read all signatures and other referrers, and sync.referrers is "required": {fault.message}'
    )
