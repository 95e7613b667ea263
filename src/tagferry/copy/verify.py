"""Proof that a target holds everything below a tag, by its own word about each blob and manifest."""

import asyncio
from collections.abc import Collection, Iterator
from enum import Enum
from typing import NamedTuple

from tagferry.concurrency import SingleFlight, bounded_gather
from tagferry.copy.held_content import KnownContent
from tagferry.copy.plan import Plan
from tagferry.copy.route import Route
from tagferry.errors import Corrupt, TagferryError, Unavailable
from tagferry.names import Digest, RepositoryName

_AT_ONCE = 32


class Verify(Enum):
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


class Flaw(NamedTuple):
    """A part that the target does not hold as it should.

    Attributes:
        found: bytes that it has there, None where it is not there at all.
    """

    part: Part
    found: int | None


class Prover:
    """Asks targets for what is not proven yet, each thing once a minute whoever needs it.

    Args:
        known: what is proven; answers are noted there, both ways.
    """

    def __init__(self, known: KnownContent) -> None:
        self._known = known
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._asking: SingleFlight[tuple[str, RepositoryName, Part], Flaw | None] = SingleFlight()

    async def flaws(self, route: Route, plan: Plan, *, again: Collection[Digest] = ()) -> list[Flaw]:
        """What the target lacks of a plan, but for the root and for attachments with a tag, which are last to come.

        Args:
            route: from where to where.
            plan: what should be there.
            again: what is asked for even if it is proven.
        """

        async def one(part: Part) -> Flaw | None:
            # Looked up when it is this part's turn: somebody else may have asked while it waited.
            held = (route.target, route.target_repository, part.digest, part.size)
            if part.digest not in again and self._known.proves(*held):
                return None
            key = (route.target.name, route.target_repository, part)
            return await self._asking.run(key, lambda: self._ask(route, part))

        return [flaw for flaw in await bounded_gather(_parts(plan), one, limit=_AT_ONCE) if flaw is not None]

    async def _ask(self, route: Route, part: Part) -> Flaw | None:
        async with self._slots:
            if part.kind == "blob":
                found = await route.target.stat_blob(route.target_repository, part.digest)
                is_there = found == part.size
            else:
                manifest = await route.target.head_manifest(route.target_repository, part.digest, certain=True)
                found = manifest.size if manifest else None
                # Its bytes are what its digest says, or the registry could not have taken it by that.
                is_there = manifest is not None
        if is_there:
            self._known.remember(route.target, route.target_repository, part.digest, part.size)
            return None
        self._known.forget(route.target, route.target_repository, part.digest)
        return Flaw(part, found)


def incomplete(route: Route, flaws: Collection[Flaw]) -> TagferryError:
    """The error for what is missing even though it was sent for that very reason."""
    flaw = next(iter(flaws))
    what = f"{flaw.part.kind} {flaw.part.digest} of {route.target_repository}"
    more = f" (and {len(flaws) - 1} more)" if len(flaws) > 1 else ""
    advice = "the tag was not written; check that registry's storage, then synchronize again"
    if flaw.found is not None:
        held = f"holds {what} with {flaw.found} bytes instead of {flaw.part.size}"
        return Corrupt(f"registry {route.target.name} {held}{more}; {advice}")
    # It was sent once more already, so that to wait would only mean to send it again and again.
    return Unavailable(f"registry {route.target.name} took {what} and does not hold it{more}; {advice}", may_pass=False)


def _parts(plan: Plan) -> Iterator[Part]:
    yield from (Part("blob", blob.digest, blob.size) for blob in plan.blobs)
    manifests = [manifest for level in plan.levels for manifest in level]
    for attachment in plan.attachments:
        below = [manifest for level in attachment.image.levels for manifest in level]
        manifests += below if attachment.tag is not None else [*below, attachment.image.root]
    for manifest in {manifest.digest: manifest for manifest in manifests}.values():
        yield Part("manifest", manifest.digest, manifest.size)
