"""The outcome of a tag's copy, and the cases that write nothing."""

from typing import NamedTuple

from tagferry.copy.plan import Plan
from tagferry.copy.preflight import Finding, Verdict, holds_bytes
from tagferry.copy.referrers import NO_GAPS, Gaps
from tagferry.copy.rewrite import Rewrite
from tagferry.copy.route import Route
from tagferry.errors import NotFound
from tagferry.names import Digest, Tag


class Outcome(NamedTuple):
    """The outcome of a tag's copy.

    Attributes:
        verdict: COPY if the tag was written; otherwise the reason why nothing was written.
        digest: the digest that the tag points to at the target.
        rewritten: how the image differs from the source, if it was rewritten.
        gaps: referrers at the source that may be missing at the target.
    """

    verdict: Verdict
    digest: Digest | None
    rewritten: Rewrite | None = None
    gaps: Gaps = NO_GAPS


async def outcome_of_overwrite(route: Route, plan: Plan, finding: Finding) -> Outcome | None:
    """Return the outcome if another client has written the target's tag since the comparison, else None."""
    current = await route.target.head_manifest(route.target_repository, plan.tag, for_write=True, confirm_missing=True)
    if current is None or current.digest == finding.target:
        return None
    if not await holds_bytes(route, plan.root, current):
        return Outcome(verdict=Verdict.BLOCKED, digest=current.digest)
    return Outcome(verdict=Verdict.UP_TO_DATE, digest=current.digest, rewritten=plan.rewritten, gaps=plan.gaps)


def outcome_without_copy(route: Route, finding: Finding) -> Outcome | None:
    """Return the outcome if there is nothing to write, else None; raises NotFound if the source lacks the tag."""
    if finding.verdict is Verdict.MISSING:
        raise missing_at_source(route, finding.tag)
    if finding.verdict is Verdict.COPY:
        return None
    return Outcome(verdict=finding.verdict, digest=finding.target, rewritten=finding.rewritten, gaps=finding.gaps)


def missing_at_source(route: Route, tag: Tag) -> NotFound:
    """Return the error for a tag whose image the source lacks."""
    reference = route.reference(tag)
    if isinstance(reference, Digest):
        return NotFound("manifest", f"{route.source_repository}@{reference}")
    return NotFound("tag", f"{route.source_repository}:{reference}")
