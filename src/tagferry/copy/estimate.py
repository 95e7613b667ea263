"""The cost of a copy, computed without copying anything."""

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
    """The work that the copy of a tag requires; sizes are in bytes.

    Content that several tags share counts as mounted or transferred for the first of them, and as present for the rest.

    Attributes:
        source: the digest that the tag points to at the source, if that was requested.
        target: the digest that it points to at the target; None if the target lacks the tag.
        present: content that the target holds.
        to_mount: content that the target can mount from another of its repositories.
        to_copy: content to transfer.
        rewritten: how the image differs, or would differ, at the target.
        gaps: referrers at the source that may be missing.
    """

    tag: Tag
    verdict: Verdict
    source: Digest | None = None
    target: Digest | None = None
    present: int = 0
    to_mount: int = 0
    to_copy: int = 0
    blobs_to_copy: int = 0
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
    """Estimate every tag; return the error of a tag that cannot be estimated."""
    plans = await _plans(route, findings, search)
    blobs = {blob.digest: blob for plan in plans.values() if isinstance(plan, Plan) for blob in plan.blobs}
    methods = await _methods(route, list(blobs.values()), mount_sources)
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
            estimates[tag] = _estimate(plan, finding, methods, counted)
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


async def _methods(route: Route, blobs: list[Descriptor], mount_sources: MountSources) -> dict[Digest, str]:
    """Return how the target obtains each blob: it is `present`, or it is to `mount` or `move`."""
    if not route.within_one_store:
        await mount_sources.load(route.target, [blob.digest for blob in blobs])

    async def one(blob: Descriptor) -> str:
        if await route.target.stat_blob(route.target_repository, blob.digest) is not None:
            return "present"
        mount_source = mount_sources.find(route.target, route.target_repository, blob.digest)
        return "mount" if route.within_one_store or mount_source else "move"

    return dict(
        zip((blob.digest for blob in blobs), await bounded_gather(blobs, one, limit=_BLOBS_AT_ONCE), strict=True)
    )


def _estimate(plan: Plan, finding: Finding, methods: Mapping[Digest, str], counted: set[Digest]) -> Estimate:
    sizes = {"present": 0, "mount": 0, "move": 0}
    transfers = 0
    for blob in plan.blobs:
        method = "present" if blob.digest in counted else methods[blob.digest]
        sizes[method] += blob.size
        transfers += method == "move"
        counted.add(blob.digest)
    return Estimate(
        tag=plan.tag,
        verdict=Verdict.COPY,
        source=plan.source,
        target=finding.target,
        present=sizes["present"],
        to_mount=sizes["mount"],
        to_copy=sizes["move"],
        blobs_to_copy=transfers,
        rewritten=plan.rewritten,
        gaps=plan.gaps,
    )
