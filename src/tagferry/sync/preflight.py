"""The preflight check of a sync request: which of its tags are up to date, blocked or missing."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from tagferry.copy.engine import CopyEngine
from tagferry.copy.preflight import Finding, Verdict
from tagferry.copy.route import Route
from tagferry.errors import NotFound, TagferryError
from tagferry.names import RepositoryRef, Tag
from tagferry.sync.jobs.model import JobStatus, NewJob, SyncRequest
from tagferry.sync.jobs.reasons import describe
from tagferry.sync.jobs.searches import ReferrerSearches, Target
from tagferry.sync.jobs.worker import Worker


class Preflight:
    """Compares the tags of a request at its source and target before jobs are recorded.

    Args:
        engine: asks the registries.
        worker: knows the regions that do not answer.
        searches: the searches for referrers that earlier jobs could not finish.
    """

    def __init__(self, engine: CopyEngine, worker: Worker, searches: ReferrerSearches) -> None:
        self._engine = engine
        self._worker = worker
        self._searches = searches

    async def compare(
        self, request: SyncRequest, route: Route, tags: Sequence[Tag], until: float
    ) -> tuple[Mapping[Tag, Finding | TagferryError], Collection[Tag]]:
        """Compare the tags at source and target within a time limit; the jobs check the tags that are left.

        Returns:
            The findings, and the tags that were searched again because an earlier search was unfinished.
        """
        if not self._worker.is_responsive(request.source_region, request.target_region):
            return {}, ()
        source = RepositoryRef(request.source_region, request.namespace, request.repository)
        target = Target(request.target_region, request.target_namespace)
        findings = await self._engine.compare_all(route, tags, override=request.override, until=until)
        found = [finding for finding in findings.values() if isinstance(finding, Finding)]
        if found and len(found) == len(findings):
            self._worker.record_success(request.source_region, request.target_region)
        up_to_date = [finding.tag for finding in found if finding.verdict is Verdict.UP_TO_DATE]
        unfinished = sorted(await self._searches.unfinished(source, target, up_to_date))
        again = await self._engine.compare_all(route, unfinished, override=request.override, thorough=True, until=until)
        return {**findings, **again}, unfinished


async def require_repository(route: Route, findings: Mapping[Tag, Finding | TagferryError], until: float) -> None:
    """Raise NotFound if the source repository does not exist; queries the registry only if all tags are missing."""
    found = [finding for finding in findings.values() if isinstance(finding, Finding)]
    if found and all(finding.source is None for finding in found):
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await require_source(route)


async def require_source(route: Route) -> None:
    """Raise NotFound if the source reports that the repository does not exist."""
    try:
        async for _ in route.source.list_tags(route.source_repository):
            break
    except NotFound:
        raise
    except TagferryError:
        # Other errors are no evidence that the repository is missing; the job of each tag finds out.
        return


def new_job(tag: Tag, finding: Finding | TagferryError | None) -> NewJob:
    """Return the initial record of a tag's job: ended if there is nothing to do, else waiting."""
    if not isinstance(finding, Finding) or finding.verdict is Verdict.COPY:
        return NewJob(tag)
    status, reason = describe(finding.verdict, finding.rewritten, finding.gaps)
    return NewJob(
        tag,
        status,
        reason,
        digest=finding.target,
        rewritten=finding.rewritten,
        search_error=finding.gaps.unfinished if status is JobStatus.SUCCESS else None,
    )
