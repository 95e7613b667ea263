"""What a copy would cost, without copying anything."""

from collections.abc import Mapping
from typing import NamedTuple

from tagferry.concurrency import bounded_gather
from tagferry.copy.mount_sources import MountSources
from tagferry.copy.plan import Plan, plan_tag
from tagferry.copy.preflight import Finding, Verdict
from tagferry.copy.referrers import NO_GAPS, Gaps, ReferrerSearch
from tagferry.copy.rewrite import Rewrite
from tagferry.copy.route import Route
from tagferry.errors import NotFound, TagferryError
from tagferry.names import Digest, Tag
from tagferry.oci.model import Descriptor

_TAGS_AT_ONCE = 16
_BLOBS_AT_ONCE = 32


class Estimate(NamedTuple):
    """What is to be done for a tag; sizes are in bytes.

    What several tags share is counted as to be moved or mounted for the first of them, and as present for the others.

    Attributes:
        source: what the tag points to at the source, where that was looked at.
        target: what it points to at the target, None where there is no such tag.
        present: what the target holds already.
        to_mount: what the target can take from another of its repositories.
        to_move: what must be sent.
        rewritten: what would differ at the target, or does so already.
        gaps: referrers at the source that may be missing.
    """

    tag: Tag
    verdict: Verdict
    source: Digest | None = None
    target: Digest | None = None
    present: int = 0
    to_mount: int = 0
    to_move: int = 0
    blobs_to_move: int = 0
    rewritten: Rewrite | None = None
    gaps: Gaps = NO_GAPS


Estimates = dict[Tag, Estimate | TagferryError]


async def estimate_all(
    route: Route,
    findings: Mapping[Tag, Finding | TagferryError],
    *,
    mount_sources: MountSources,
    search: ReferrerSearch | None,
) -> Estimates:
    """Estimate every tag; one that cannot be looked at is told by its error."""
    plans = await _plans(route, findings, search)
    blobs = {blob.digest: blob for plan in plans.values() if isinstance(plan, Plan) for blob in plan.blobs}
    places = await _places(route, list(blobs.values()), mount_sources)
    counted: set[Digest] = set()
    estimates: Estimates = {}
    for tag, finding in findings.items():
        plan = plans.get(tag)
        if isinstance(finding, TagferryError):
            estimates[tag] = finding
        elif isinstance(plan, NotFound) and plan.kind == "tag":
            estimates[tag] = Estimate(tag=tag, verdict=Verdict.MISSING, target=finding.target)
        elif isinstance(plan, TagferryError):
            estimates[tag] = plan
        elif plan is None:
            estimates[tag] = Estimate(
                tag=tag,
                verdict=finding.verdict,
                source=finding.source,
                target=finding.target,
                rewritten=finding.rewritten,
                gaps=finding.gaps,
            )
        else:
            estimates[tag] = _estimate(plan, finding, places, counted)
    return estimates


async def _plans(
    route: Route, findings: Mapping[Tag, Finding | TagferryError], search: ReferrerSearch | None
) -> dict[Tag, Plan | TagferryError]:

    async def one(tag: Tag) -> Plan | TagferryError:
        try:
            return await plan_tag(route, tag, search=search)
        except TagferryError as error:
            return error

    wanted = [
        tag for tag, finding in findings.items() if isinstance(finding, Finding) and finding.verdict is Verdict.COPY
    ]
    return dict(zip(wanted, await bounded_gather(wanted, one, limit=_TAGS_AT_ONCE), strict=True))


async def _places(route: Route, blobs: list[Descriptor], mount_sources: MountSources) -> dict[Digest, str]:
    """Where each blob would come from: it is `present`, is there to `mount`, or is to `move`."""
    if not route.within_one_store:
        await mount_sources.load(route.target, [blob.digest for blob in blobs])

    async def one(blob: Descriptor) -> str:
        if await route.target.stat_blob(route.target_repository, blob.digest) is not None:
            return "present"
        home = mount_sources.find(route.target, route.target_repository, blob.digest)
        return "mount" if route.within_one_store or home else "move"

    return dict(
        zip((blob.digest for blob in blobs), await bounded_gather(blobs, one, limit=_BLOBS_AT_ONCE), strict=True)
    )


def _estimate(plan: Plan, finding: Finding, places: Mapping[Digest, str], counted: set[Digest]) -> Estimate:
    sizes = {"present": 0, "mount": 0, "move": 0}
    moved = 0
    for blob in plan.blobs:
        place = "present" if blob.digest in counted else places[blob.digest]
        sizes[place] += blob.size
        moved += place == "move"
        counted.add(blob.digest)
    return Estimate(
        tag=plan.tag,
        verdict=Verdict.COPY,
        source=plan.source,
        target=finding.target,
        present=sizes["present"],
        to_mount=sizes["mount"],
        to_move=sizes["move"],
        blobs_to_move=moved,
        rewritten=plan.rewritten,
        gaps=plan.gaps,
    )
