"""Proof that a target holds everything below a tag, by its own word about each blob and manifest."""

import asyncio
from collections.abc import Collection, Iterator
from enum import Enum
from typing import NamedTuple

from tagferry.concurrency import SingleFlight, bounded_gather
from tagferry.copy.held_content import HeldContent
from tagferry.copy.plan import Plan
from tagferry.copy.route import Route
from tagferry.errors import Corrupt, TagferryError, Unavailable
from tagferry.names import Digest, RepositoryName

_AT_ONCE = 32


class VerifyMode(Enum):
    """Whose tags' content is proven to be at the target."""

    COPIED = "copied"
    """Of tags that are about to be written."""
    ALL = "all"
    """Of those, and of tags that are in place already."""
    OFF = "off"
    """Nobody's: what the target says while it is written to is taken for granted."""


class Part(NamedTuple):
    """A blob or manifest that a tag's image needs.

    Attributes:
        kind: `blob` or `manifest`.
        size: bytes that it has.
    """

    kind: str
    digest: Digest
    size: int


class Defect(NamedTuple):
    """A part that the target does not hold as it should.

    Attributes:
        found: bytes that it has there, None where it is not there at all.
    """

    part: Part
    found: int | None


class ContentVerifier:
    """Asks targets for what is not proven yet, each thing once a minute whoever needs it.

    Args:
        known: what is proven; answers are noted there, both ways.
    """

    def __init__(self, held_content: HeldContent) -> None:
        self._held_content = held_content
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._asking: SingleFlight[tuple[str, RepositoryName, Part], Defect | None] = SingleFlight()

    async def defects(self, route: Route, plan: Plan, *, again: Collection[Digest] = ()) -> list[Defect]:
        """What the target lacks of a plan, but for the root and for attachments with a tag, which are last to come.

        Args:
            route: from where to where.
            plan: what should be there.
            again: what is asked for even if it is proven.
        """

        async def one(part: Part) -> Defect | None:
            # Looked up when it is this part's turn: somebody else may have asked while it waited.
            held = (route.target, route.target_repository, part.digest, part.size)
            if part.digest not in again and self._held_content.is_verified(*held):
                return None
            key = (route.target.name, route.target_repository, part)
            return await self._asking.run(key, lambda: self._ask(route, part))

        return [defect for defect in await bounded_gather(_parts(plan), one, limit=_AT_ONCE) if defect is not None]

    async def _ask(self, route: Route, part: Part) -> Defect | None:
        async with self._slots:
            if part.kind == "blob":
                found = await route.target.stat_blob(route.target_repository, part.digest)
                is_there = found == part.size
            else:
                manifest = await route.target.head_manifest(route.target_repository, part.digest, confirm_missing=True)
                found = manifest.size if manifest else None
                # Its bytes are what its digest says, or the registry could not have taken it by that.
                is_there = manifest is not None
        if is_there:
            self._held_content.add(route.target, route.target_repository, part.digest, part.size)
            return None
        self._held_content.forget(route.target, route.target_repository, part.digest)
        return Defect(part, found)


def incomplete(route: Route, defects: Collection[Defect]) -> TagferryError:
    """The error for what is missing even though it was sent for that very reason."""
    defect = next(iter(defects))
    what = f"{defect.part.kind} {defect.part.digest} of {route.target_repository}"
    more = f" (and {len(defects) - 1} more)" if len(defects) > 1 else ""
    advice = "the tag was not written; check that registry's storage, then synchronize again"
    if defect.found is not None:
        held = f"holds {what} with {defect.found} bytes instead of {defect.part.size}"
        return Corrupt(f"registry {route.target.name} {held}{more}; {advice}")
    # It was sent once more already, so that to wait would only mean to send it again and again.
    return Unavailable(
        f"registry {route.target.name} took {what} and does not hold it{more}; {advice}", is_retryable=False
    )


def _parts(plan: Plan) -> Iterator[Part]:
    yield from (Part("blob", blob.digest, blob.size) for blob in plan.blobs)
    manifests = [manifest for level in plan.levels for manifest in level]
    for referrer in plan.referrers:
        below = [manifest for level in referrer.image.levels for manifest in level]
        manifests += below if referrer.tag is not None else [*below, referrer.image.root]
    for manifest in {manifest.digest: manifest for manifest in manifests}.values():
        yield Part("manifest", manifest.digest, manifest.size)
