"""The use cases of sync jobs over all repositories: list, show, cancel and retry them."""

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from tagferry import bounds
from tagferry.accounts.access import AccessControl
from tagferry.accounts.model import Caller
from tagferry.errors import Invalid, NotFound, TagferryError, TooLarge
from tagferry.names import Namespace, RegionId, Repository, RepositoryName
from tagferry.regions import Regions
from tagferry.sync.authorization import authorize_target
from tagferry.sync.jobs.all_jobs import AllJobs, JobFilter, JobPage
from tagferry.sync.jobs.model import JobSelection, JobStatus, SyncJob, SyncRequest
from tagferry.sync.jobs.reasons import unconfigured_reason
from tagferry.sync.jobs.store import JobStore
from tagferry.sync.jobs.summary import JobSummaries, JobSummary
from tagferry.sync.jobs.timeline import JobDetails
from tagferry.sync.known_terms import KnownTerms
from tagferry.sync.retry import requests_to_retry
from tagferry.sync.service import BRIEF_PREFLIGHT_SECONDS, SyncService


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of an action on one job.

    Attributes:
        job_id: the job.
        is_done: whether the action had an effect.
        reason: why it had none; empty otherwise.
        started: the job that repeats it, if there is one.
    """

    job_id: int
    is_done: bool
    reason: str = ""
    started: int | None = None


@dataclass(frozen=True, slots=True)
class JobActions:
    """The actions on a job that a caller is permitted, in any state of the job.

    Attributes:
        can_cancel: whether it may be cancelled.
        can_retry: whether it may be repeated.
    """

    can_cancel: bool
    can_retry: bool


class JobService:
    """Lists and changes the sync jobs of all repositories that a caller may read.

    Args:
        sync: starts the synchronizations that repeat jobs.
        regions: every region by its id.
        access: decides about the targets.
        jobs: the job records.
        listing: lists of the records.
        summaries: summaries of the records.
        terms: decides which names in filters are known.
    """

    def __init__(
        self,
        sync: SyncService,
        *,
        regions: Regions,
        access: AccessControl,
        jobs: JobStore,
        listing: AllJobs,
        summaries: JobSummaries,
        terms: KnownTerms,
    ) -> None:
        self._sync = sync
        self._regions = regions
        self._access = access
        self._jobs = jobs
        self._listing = listing
        self._summaries = summaries
        self._terms = terms

    async def page(
        self, caller: Caller, wanted: JobFilter, *, limit: int, marker: int | None = None, after: int = 0
    ) -> JobPage:
        """Return a page of the jobs that the caller may see, newest first (see `AllJobs.page`)."""
        if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
            raise Invalid("until", "must be later than since", wanted.until.isoformat())
        page = await self._listing.page(caller, wanted, limit=limit, marker=marker, after=after)
        return replace(page, jobs=[self._sync.with_live_state(job) for job in page.jobs])

    async def require_known(self, caller: Caller, wanted: JobFilter) -> None:
        """Raise Invalid if a filter names a region, an organization or a user that the caller cannot know."""
        await self._terms.require(caller, wanted)

    async def summary(self, caller: Caller) -> JobSummary:
        """Return the summary of the jobs that the caller may see."""
        return await self._summaries.of(caller)

    async def one(self, caller: Caller, job_id: int) -> SyncJob:
        """Return a job; raises NotFound, also if the caller may not see it."""
        found = await self.some(caller, [job_id])
        if not found:
            raise NotFound("sync job", str(job_id))
        return found[0]

    async def details(self, caller: Caller, job_id: int) -> JobDetails:
        """Return a job with its timeline; raises NotFound, also if the caller may not see it.

        Repositories that blobs were mounted from are named only if the caller may read them.
        """
        details = JobDetails.of(await self.one(caller, job_id), await self._listing.attempts(job_id))
        if caller.is_admin or not any(event.source for event in details.events):
            return details
        readable = await self._access.readable(caller, details.job.target_region)
        shown = (
            event if not event.source or RepositoryName(event.source) in readable else replace(event, source="")
            for event in details.events
        )
        return replace(details, events=tuple(shown))

    async def some(self, caller: Caller, job_ids: Collection[int]) -> list[SyncJob]:
        """Return those of these jobs that exist and that the caller may see, oldest first; raises TooLarge."""
        if len(job_ids) > bounds.JOBS_SELECTED:
            raise TooLarge("jobs", f"must name at most {bounds.JOBS_SELECTED} jobs", len(job_ids))
        return [self._sync.with_live_state(job) for job in await self._listing.some(caller, job_ids)]

    async def count_readable(self, caller: Caller, job_ids: Collection[int]) -> int:
        """Return how many of these jobs exist and the caller may see, in a small part of the time of `some`."""
        return await self._listing.count_readable(caller, job_ids)

    async def actions(self, caller: Caller, jobs: Collection[SyncJob]) -> dict[int, JobActions]:
        """Return, by id, what the caller is permitted to do with jobs that it may see (see `cancel` and `retry`)."""
        writable = await self._access.writable(caller)
        found: dict[int, JobActions] = {}
        sources = {job.source_region for job in jobs if job.source_region in self._regions}
        readable = {region: await self._access.readable(caller, region) for region in sources}
        for job in jobs:
            source = RepositoryName.of(job.namespace, job.repository)
            target = RepositoryName.of(job.target_namespace, job.repository)
            can_write = writable.contains(job.target_region, target)
            can_read = job.source_region in readable and source in readable[job.source_region]
            found[job.id] = JobActions(
                can_cancel=can_write or caller.is_admin,
                can_retry=can_write and can_read and job.target_region in self._regions,
            )
        return found

    async def cancel(self, caller: Caller, job_ids: Collection[int]) -> list[JobResult]:
        """Cancel those of these jobs that have not ended, each if the caller may write its target.

        Returns:
            One result for each id, in the order of the ids.
        """
        results = _Results(job_ids)
        allowed = []
        for target, jobs in _by_target(results.open(await self.some(caller, job_ids))).items():
            try:
                await authorize_target(self._access, caller, target[:2], target[2])
            except TagferryError as error:
                # Jobs to a deleted organization must be cancellable too.
                if not (caller.is_admin and isinstance(error, NotFound)):
                    results.refuse(jobs, error.message)
                    continue
            allowed += [job.id for job in jobs]
        cancelled = set(await self._jobs.cancel(allowed, reason=f"cancelled by {caller.name}") if allowed else ())
        for job_id in allowed:
            results.set(job_id, is_done=job_id in cancelled, reason="" if job_id in cancelled else _ENDED)
        return results.all()

    async def retry(
        self, caller: Caller, job_ids: Collection[int], *, request_id: str, override: bool = False
    ) -> list[JobResult]:
        """Repeat those of these jobs that failed, timed out or were cancelled, each under the checks of a new request.

        Jobs that wait for their next attempt are retried immediately. All new jobs belong to one request.

        Args:
            caller: the caller.
            job_ids: the jobs.
            request_id: the id of the new request.
            override: also repeat jobs that ended because the target has another image, and replace such images.

        Returns:
            One result for each id, in the order of the ids.
        """
        results = _Results(job_ids)
        jobs = [job for job in await self.some(caller, job_ids) if results.can_retry(job, override)]
        until = time.monotonic() + BRIEF_PREFLIGHT_SECONDS
        for source, group in _by_source(jobs).items():
            region, namespace, repository = source
            if region not in self._regions:
                results.refuse(group, unconfigured_reason(region))
                continue
            selection = JobSelection(region=region, namespace=namespace, repository=repository)
            for request, repeated in requests_to_retry(caller, selection, request_id, group).items():
                wanted = replace(request, override=True) if override else request
                await self._repeat(wanted, repeated, results, seconds=max(0.0, until - time.monotonic()))
        return results.all()

    async def _repeat(self, request: SyncRequest, jobs: list[SyncJob], results: "_Results", *, seconds: float) -> None:
        postponed = [job for job in jobs if job.status is JobStatus.WAITING]
        try:
            if postponed:
                await self._sync.authorize(request)
                await self._jobs.retry_now([job.id for job in postponed])
            tags = {job.tag for job in jobs} - {job.tag for job in postponed}
            started = {job.tag: job.id for job in postponed}
            if tags:
                wanted = replace(request, tags=tuple(tag for tag in request.tags if tag in tags))
                started |= (await self._sync.start(wanted, seconds=seconds)).job_ids
        except TagferryError as error:
            results.refuse(jobs, error.message)
        else:
            for job in jobs:
                results.set(job.id, is_done=True, started=started.get(job.tag))


_ENDED = "it has ended already"
_CONFLICT = "the target has another image under this tag; retry it with override to replace that image"

Target = tuple[RegionId, Namespace, Repository]


class _Results:
    """The results by job id; a job without one was not found."""

    def __init__(self, job_ids: Collection[int]) -> None:
        self._results = {job_id: JobResult(job_id, is_done=False, reason=_missing(job_id)) for job_id in job_ids}

    def all(self) -> list[JobResult]:
        return list(self._results.values())

    def set(self, job_id: int, *, is_done: bool, reason: str = "", started: int | None = None) -> None:
        self._results[job_id] = JobResult(job_id, is_done=is_done, reason=reason, started=started)

    def refuse(self, jobs: Iterable[SyncJob], reason: str) -> None:
        for job in jobs:
            self.set(job.id, is_done=False, reason=reason)

    def open(self, jobs: list[SyncJob]) -> list[SyncJob]:
        self.refuse([job for job in jobs if job.status.has_ended], _ENDED)
        return [job for job in jobs if not job.status.has_ended]

    def can_retry(self, job: SyncJob, override: bool) -> bool:
        """Return whether a job can be repeated; otherwise, set its result."""
        if job.status.can_be_retried or job.next_attempt_at is not None:
            return True
        if job.status is JobStatus.EXISTED:
            if override:
                return True
            self.refuse([job], _CONFLICT)
        else:
            self.refuse([job], f"its status is {job.status}, and only jobs that failed can be retried")
        return False


def _missing(job_id: int) -> str:
    return NotFound("sync job", str(job_id)).message


def _by_target(jobs: Iterable[SyncJob]) -> dict[Target, list[SyncJob]]:
    groups: dict[Target, list[SyncJob]] = {}
    for job in jobs:
        groups.setdefault((job.target_region, job.target_namespace, job.repository), []).append(job)
    return groups


def _by_source(jobs: Iterable[SyncJob]) -> dict[Target, list[SyncJob]]:
    groups: dict[Target, list[SyncJob]] = {}
    for job in jobs:
        groups.setdefault((job.source_region, job.namespace, job.repository), []).append(job)
    return groups
