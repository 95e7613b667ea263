"""The outcome of a tag's copy, and the cases in which nothing is written."""

from dataclasses import dataclass

from tagferry.copy.plan import Plan
from tagferry.copy.preflight import Finding, Verdict, holds_bytes
from tagferry.copy.referrers import NO_GAPS, Gaps
from tagferry.copy.rewrite import Rewrite
from tagferry.copy.route import Route
from tagferry.errors import NotFound
from tagferry.names import Digest


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a tag's copy ended.

    Attributes:
        verdict: COPY where the tag was written; otherwise why there was nothing to write.
        digest: what the tag points to at the target.
        rewritten: how that differs from the source, where it has to.
        gaps: referrers at the source that may be missing at the target.
    """

    verdict: Verdict
    digest: Digest | None
    rewritten: Rewrite | None = None
    gaps: Gaps = NO_GAPS


async def outcome_of_overwrite(route: Route, plan: Plan, finding: Finding) -> Outcome | None:
    """The end of a copy whose tag another client has written since the last look; asks the target only."""
    standing = await route.target.head_manifest(route.target_repository, plan.tag, for_write=True, confirm_missing=True)
    if standing is None or standing.digest == finding.target:
        return None
    if not await holds_bytes(route, plan.root, standing):
        return Outcome(verdict=Verdict.BLOCKED, digest=standing.digest)
    return Outcome(verdict=Verdict.UP_TO_DATE, digest=standing.digest, rewritten=plan.rewritten, gaps=plan.gaps)


def outcome_without_copy(route: Route, finding: Finding) -> Outcome | None:
    """The end of a copy that has nothing to write; raises NotFound if the source lacks the tag."""
    if finding.verdict is Verdict.MISSING:
        raise NotFound("tag", f"{route.source_repository}:{finding.tag}")
    if finding.verdict is Verdict.COPY:
        return None
    return Outcome(verdict=finding.verdict, digest=finding.target, rewritten=finding.rewritten, gaps=finding.gaps)
