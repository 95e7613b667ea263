"""Verify that a target holds everything below a tag, by a request for each blob and manifest."""

import asyncio
from collections.abc import Collection, Iterator
from enum import Enum
from typing import NamedTuple

from tagferry.concurrency import SingleFlight, bounded_gather
from tagferry.copy.held_content import HeldContent
from tagferry.copy.plan import Plan
from tagferry.copy.route import Route, StoreKey, key_of
from tagferry.errors import Corrupt, TagferryError, Unavailable
from tagferry.names import Digest, RepositoryName

_AT_ONCE = 32


class VerifyMode(Enum):
    """The tags whose content is verified at the target."""

    COPIED = "copied"
    """Tags about to be written."""
    ALL = "all"
    """Tags about to be written, and tags that are up to date."""
    OFF = "off"
    """None: the target's answers to the writes are trusted."""


class Part(NamedTuple):
    """A blob or manifest that a tag's image needs.

    Attributes:
        kind: `blob` or `manifest`.
        size: its size in bytes.
    """

    kind: str
    digest: Digest
    size: int


class Defect(NamedTuple):
    """A part that is missing at the target, or has another size there.

    Attributes:
        found: its size at the target in bytes; None if it is missing.
    """

    part: Part
    found: int | None


class ContentVerifier:
    """Verifies content at targets, each part once a minute for all tags that need it.

    Args:
        held_content: the verified content; results are recorded there.
    """

    def __init__(self, held_content: HeldContent) -> None:
        self._held_content = held_content
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._requests: SingleFlight[tuple[StoreKey, RepositoryName, Part], Defect | None] = SingleFlight()

    async def defects(self, route: Route, plan: Plan, *, again: Collection[Digest] = ()) -> list[Defect]:
        """Return the defects of a plan at the target; the root and tagged referrers are written last and not verified.

        Args:
            route: the source and target.
            plan: the content that the target should hold.
            again: content to verify even if it is recorded as verified.
        """

        async def one(part: Part) -> Defect | None:
            # Checked after the wait for a slot, during which another tag may have verified this part.
            held = (route.target, route.target_repository, part.digest, part.size)
            if part.digest not in again and self._held_content.is_verified(*held):
                return None
            key = (key_of(route.target), route.target_repository, part)
            return await self._requests.run(key, lambda: self._ask(route, part))

        return [defect for defect in await bounded_gather(_parts(plan), one, limit=_AT_ONCE) if defect is not None]

    async def _ask(self, route: Route, part: Part) -> Defect | None:
        async with self._slots:
            if part.kind == "blob":
                found = await route.target.stat_blob(route.target_repository, part.digest)
                is_held = found == part.size
            else:
                manifest = await route.target.head_manifest(route.target_repository, part.digest, confirm_missing=True)
                found = manifest.size if manifest else None
                # A registry accepts a manifest only if its bytes match the digest, so the size needs no check.
                is_held = manifest is not None
        if is_held:
            self._held_content.add(route.target, route.target_repository, part.digest, part.size)
            return None
        self._held_content.forget(route.target, route.target_repository, part.digest)
        return Defect(part, found)


def incomplete(route: Route, defects: Collection[Defect]) -> TagferryError:
    """Return the error for content that is still missing after it was sent again."""
    defect = next(iter(defects))
    content = f"{defect.part.kind} {defect.part.digest} of {route.target_repository}"
    more = f" (and {len(defects) - 1} more)" if len(defects) > 1 else ""
    advice = "the tag was not written; check the registry's storage, then synchronize again"
    if defect.found is not None:
        held = f"holds {content} with {defect.found} bytes instead of {defect.part.size}"
        return Corrupt(f"registry {route.target.name} {held}{more}; {advice}")
    # It was sent twice already; a retry would only send it again.
    return Unavailable(
        f"registry {route.target.name} accepted {content} but does not hold it{more}; {advice}", is_retryable=False
    )


def _parts(plan: Plan) -> Iterator[Part]:
    yield from (Part("blob", blob.digest, blob.size) for blob in plan.blobs)
    manifests = [manifest for level in plan.levels for manifest in level]
    for referrer in plan.referrers:
        below = [manifest for level in referrer.image.levels for manifest in level]
        manifests += below if referrer.tag is not None else [*below, referrer.image.root]
    for manifest in {manifest.digest: manifest for manifest in manifests}.values():
        yield Part("manifest", manifest.digest, manifest.size)
