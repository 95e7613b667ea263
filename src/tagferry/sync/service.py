"""Synchronize images: start or join requests, wait for them, query, cancel and retry their jobs."""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from tagferry import tracing
from tagferry.accounts.access import AccessControl
from tagferry.accounts.model import Caller
from tagferry.copy.engine import CopyEngine
from tagferry.copy.estimate import Estimate, Estimates
from tagferry.copy.preflight import Finding
from tagferry.errors import Expired, Invalid, NotFound, Throttled, TooLarge
from tagferry.names import Namespace, RegionId, Repository, Tag
from tagferry.regions import Regions
from tagferry.sync.authorization import authorize_source, authorize_sync, authorize_target
from tagferry.sync.coalesce import RequestCoalescer
from tagferry.sync.jobs.breaker import Pause
from tagferry.sync.jobs.completion import JobWaiter
from tagferry.sync.jobs.live import LiveJobs
from tagferry.sync.jobs.model import JobHandle, JobSelection, JobStatus, SyncJob, SyncRequest
from tagferry.sync.jobs.prefetch import PREFETCH_LIMIT, Prefetch, prefetch_plans
from tagferry.sync.jobs.reasons import unconfigured_reason, waiting_reason
from tagferry.sync.jobs.repository_jobs import RepositoryJobs
from tagferry.sync.jobs.routes import route_of
from tagferry.sync.jobs.searches import ReferrerSearches
from tagferry.sync.jobs.store import JobStore
from tagferry.sync.jobs.worker import Worker
from tagferry.sync.preflight import Preflight, new_job, require_repository, require_source
from tagferry.sync.retry import requests_to_retry

log = structlog.get_logger(__name__)

PREFLIGHT_SECONDS = 5.0
"""Seconds for the preflight check of a request; its jobs check the tags that are left."""
BRIEF_PREFLIGHT_SECONDS = 2.0
"""The same if the caller does not wait for the tags."""


@dataclass(frozen=True, slots=True)
class StartedSync:
    """An accepted request with its own jobs and the jobs of earlier requests that it joined.

    Attributes:
        jobs: the job of each tag; an automatic request has none for a tag that is up to date.
        arrived_at: when the request arrived, in seconds of the monotonic clock.
    """

    request: SyncRequest
    jobs: Mapping[Tag, JobHandle]
    arrived_at: float = field(default_factory=time.monotonic, compare=False)

    @property
    def job_ids(self) -> dict[Tag, int]:
        """The id of the job of each tag."""
        return {tag: handle.id for tag, handle in self.jobs.items()}


class SyncService:
    """The use cases of synchronization. A reload changes the public attributes.

    Args:
        max_tags_per_request: maximum number of tags of a request.
        max_concurrent_requests_per_user: maximum number of active requests of a user.
        seconds: how long a request's tags may take, unless it sets a shorter time; None means no limit.
    """

    def __init__(
        self,
        *,
        regions: Regions,
        access: AccessControl,
        jobs: JobStore,
        pages: RepositoryJobs,
        engine: CopyEngine,
        worker: Worker,
        waiter: JobWaiter,
        searches: ReferrerSearches,
        live: LiveJobs,
        max_tags_per_request: int,
        max_concurrent_requests_per_user: int,
        seconds: float | None = None,
    ) -> None:
        self._regions = regions
        self._access = access
        self._jobs = jobs
        self._pages = pages
        self._engine = engine
        self._worker = worker
        self._waiter = waiter
        self._live = live
        self._preflight = Preflight(engine, worker, searches)
        self.max_tags_per_request = max_tags_per_request
        self.max_concurrent_requests_per_user = max_concurrent_requests_per_user
        self.seconds = seconds
        self._starting: Counter[str] = Counter()
        self._coalescer = RequestCoalescer()

    async def start(self, request: SyncRequest, *, seconds: float | None = None) -> StartedSync:
        """Accept a request: authorize it, find the tags that are up to date, and start or join jobs for the others.

        Args:
            request: the request.
            seconds: how long the preflight check may take; at most `PREFLIGHT_SECONDS`, which is the default.

        Raises:
            Invalid: a field is invalid; nothing has changed.
            NotFound: an organization or the source repository does not exist.
            Denied: the caller may not read the source or not write the target.
            Throttled: the caller has too many active requests.
        """
        arrived_at = time.monotonic()
        request = self._bounded(await self.authorize(request))
        most = BRIEF_PREFLIGHT_SECONDS if request.is_automatic else PREFLIGHT_SECONDS
        until = asyncio.get_running_loop().time() + (most if seconds is None else min(seconds, most))
        async with self._coalescer.claim(request, until=until) as handles:
            open_jobs = await self._jobs.open_jobs(request)
            handles.update((tag, handle) for tag, handle in open_jobs.items() if handle.override == request.override)
            if wanted := [tag for tag in dict.fromkeys(request.tags) if tag not in handles]:
                handles.update(await self._start(request, wanted, open_jobs, until))
        jobs = {tag: handles[tag] for tag in request.tags if tag in handles}
        _log_start(request, jobs.values())
        return StartedSync(request=request, jobs=jobs, arrived_at=arrived_at)

    async def plan(self, request: SyncRequest) -> Estimates:
        """Estimate what `start` would do, without changing anything; raises the same errors."""
        await self.authorize(request)
        route = route_of(self._regions, request)
        estimates = await self._engine.estimate_all(
            route, tuple(dict.fromkeys(request.tags)), override=request.override
        )
        found = [one for one in estimates.values() if isinstance(one, Estimate)]
        if not any(one.source is not None for one in found):
            await require_source(route)
        return estimates

    async def wait(self, started: StartedSync, *, seconds: float) -> list[Tag]:
        """Wait until the jobs of all tags have ended; returns the tags that failed, in the order of the request.

        Args:
            started: the request.
            seconds: how long to wait, counted from the request's arrival.

        Raises:
            Expired: some jobs have not ended by then; they continue.
            Unavailable: this process is shutting down; other workers or the next start run the jobs.
        """
        ends = {handle.id: handle.status for handle in started.jobs.values() if handle.status.has_ended}
        awaited = [handle.id for handle in started.jobs.values() if handle.id not in ends]
        if awaited:
            left = seconds - (time.monotonic() - started.arrived_at)
            ends |= await self._waiter.wait(awaited, seconds=left)
        if len(ends) < len({handle.id for handle in started.jobs.values()}):
            raise Expired(
                f"the synchronization continues after {seconds:g} s; repeat the request to rejoin it, or query "
                f"sync_job for its progress (request {started.request.id})"
            )
        return [tag for tag, handle in started.jobs.items() if not ends[handle.id].is_success]

    async def jobs_of(
        self,
        caller: Caller,
        region: RegionId,
        namespace: Namespace,
        repository: Repository,
        *,
        limit: int,
        offset: int,
        descending: bool,
        only: Collection[int] = (),
        request_id: str | None = None,
        statuses: Collection[JobStatus] = (),
    ) -> tuple[list[SyncJob], int]:
        """Return a page of a repository's sync jobs and their total; guests see only those of their own domain.

        Raises:
            NotFound: the organization does not exist.
            Denied: the caller may not read the repository.
        """
        source = await authorize_source(self._access, caller, (region, namespace), repository)
        jobs, total = await self._pages.of_repository(
            region,
            namespace,
            repository,
            limit=limit,
            offset=offset,
            descending=descending,
            only=only,
            request_id=request_id,
            statuses=statuses,
            domain_id=caller.domain_id if source.is_guest else None,
            organization_id=source.owner.id if source.owner is not None else None,
        )
        return [job if job.status.has_ended else self.with_live_state(job) for job in jobs], total

    async def cancel(self, caller: Caller, selection: JobSelection) -> list[int]:
        """Cancel the selected jobs that have not ended; returns their ids. Their workers stop within a second.

        Raises:
            NotFound: the organization of the source, or of a target, does not exist.
            Denied: the caller may not read the source or write the target of one of them; nothing has changed.
        """
        found = await self._selected(caller, selection, [status for status in JobStatus if not status.has_ended])
        for target_region, target_namespace in dict.fromkeys(
            (job.target_region, job.target_namespace) for job in found
        ):
            try:
                await authorize_target(self._access, caller, (target_region, target_namespace), selection.repository)
            except NotFound:
                # Jobs to a deleted organization must be cancellable too.
                if not caller.is_admin:
                    raise
        if not found:
            return []
        return await self._jobs.cancel([job.id for job in found], reason=f"cancelled by {caller.name}")

    async def retry(self, caller: Caller, selection: JobSelection, *, request_id: str) -> list[StartedSync]:
        """Repeat the selected jobs that failed, timed out or were cancelled.

        Jobs that wait for their next attempt are retried immediately. There is one request for each target,
        override and rule, and none if there is nothing to repeat.

        Raises:
            TagferryError: any error of `start`. Missing permissions are reported before any request is started.
        """
        ended = [status for status in JobStatus if status.can_be_retried]
        found = await self._selected(caller, selection, [*ended, JobStatus.WAITING])
        failed = [job for job in found if job.status is not JobStatus.WAITING]
        postponed = [job for job in found if job.next_attempt_at is not None]
        again, sooner = (requests_to_retry(caller, selection, request_id, jobs) for jobs in (failed, postponed))
        for request in (*again, *sooner):
            await self.authorize(request)
        await self._jobs.retry_now([job.id for job in postponed])
        until = time.monotonic() + BRIEF_PREFLIGHT_SECONDS
        return [
            *[await self.start(request, seconds=max(0.0, until - time.monotonic())) for request in again],
            *[StartedSync(request, {job.tag: _handle(job) for job in jobs}) for request, jobs in sooner.items()],
        ]

    @property
    def paused_regions(self) -> Mapping[RegionId, Pause]:
        """The regions whose jobs wait because the region does not respond to this process."""
        return self._worker.paused_regions

    async def close(self) -> None:
        """Fail all waiting calls, and end all watches, because this process is shutting down."""
        await self._waiter.close()
        await self._live.close()

    def with_live_state(self, job: SyncJob) -> SyncJob:
        """Add the progress, and the reason to wait that only this process knows, to an open job."""
        job = self.with_waiting_reason(job)
        if job.status is JobStatus.RUNNING and (progress := self._live.progress(job.id)) is not None:
            job = progress.applied_to(job)
        if (snapshot := self._worker.snapshot(job.id)) is not None:
            job = replace(job, snapshot=snapshot)
        return job

    def with_waiting_reason(self, job: SyncJob) -> SyncJob:
        """Add the reason to wait that only this process knows, to a waiting job."""
        if job.status is not JobStatus.WAITING:
            return job
        pauses, regions = self._worker.paused_regions, (job.target_region, job.source_region)
        missing = next((region for region in regions if region not in self._regions), None)
        if missing is not None:
            return replace(job, reason=f"waiting: {unconfigured_reason(missing)}")
        paused = next((region for region in regions if region in pauses), None)
        return job if paused is None else replace(job, reason=waiting_reason(paused, pauses[paused].since))

    async def authorize(self, request: SyncRequest) -> SyncRequest:
        """Authorize a request; returns it with the ids of its current organizations."""
        if not request.tags:
            raise Invalid("imageTag", "must name at least one tag")
        if len(request.tags) > self.max_tags_per_request:
            raise TooLarge("imageTag", f"must name at most {self.max_tags_per_request} tags", len(request.tags))
        authorized = await authorize_sync(
            self._regions,
            self._access,
            request.caller,
            repository=request.repository,
            source=(request.source_region, request.namespace),
            target=(request.target_region, request.target_namespace),
        )
        source, target = authorized.source.owner, authorized.target.owner
        return replace(
            request,
            source_organization_id=source.id if source is not None else None,
            target_organization_id=target.id if target is not None else None,
        )

    async def _selected(
        self, caller: Caller, selection: JobSelection, statuses: Collection[JobStatus]
    ) -> list[SyncJob]:
        """Return the selected jobs in one of these states, oldest first; for guests only those of their own domain."""
        organization = (selection.region, selection.namespace)
        source = await authorize_source(self._access, caller, organization, selection.repository)
        if len(selection.jobs) > self.max_tags_per_request:
            raise TooLarge("jobs", f"must name at most {self.max_tags_per_request} jobs", len(selection.jobs))
        found, _ = await self._pages.of_repository(
            selection.region,
            selection.namespace,
            selection.repository,
            limit=None,
            descending=False,
            only=selection.jobs,
            request_id=selection.request_id,
            statuses=statuses,
            domain_id=caller.domain_id if source.is_guest else None,
            organization_id=source.owner.id if source.owner is not None else None,
        )
        return found

    def _bounded(self, request: SyncRequest) -> SyncRequest:
        limits = [seconds for seconds in (request.seconds, self.seconds) if seconds is not None]
        return replace(request, seconds=min(limits)) if limits else request

    async def _start(
        self, request: SyncRequest, wanted: Sequence[Tag], open_jobs: Mapping[Tag, JobHandle], until: float
    ) -> dict[Tag, JobHandle]:
        """Record jobs for tags without an open job: as ended if there is nothing to do, else as waiting."""
        user = request.caller.user_id
        limit = self.max_concurrent_requests_per_user - self._starting[user]
        if limit <= 0 and not request.is_automatic:
            raise Throttled(
                f'user "{request.caller.name}" has {self._starting[user]} syncs in progress; '
                "wait until one of them ends",
                retry_after=5.0,
            )
        self._starting[user] += 1
        try:
            route = route_of(self._regions, request)
            # While another job copies to a tag, its current target is no evidence of its later state.
            free = [tag for tag in wanted if tag not in open_jobs]
            with tracing.span("preflight", {"tagferry.tags": len(free)}, is_essential=True):
                findings, searched_again = await self._preflight.compare(request, route, free, until)
            await require_repository(route, findings, until)
            new_jobs = [new_job(tag, findings.get(tag)) for tag in wanted]
            if request.is_automatic:
                # Repeated searches are recorded, so that the rule knows their result.
                new_jobs = [one for one in new_jobs if one.status is not JobStatus.SUCCESS or one.tag in searched_again]
            found = [one.tag for one in new_jobs if not one.status.has_ended and one.tag in findings]
            async with self._worker.claiming() as claim:
                # No other request takes these slots meanwhile: a plan without one would be read in vain.
                slots = self._worker.free_between(request.source_region, request.target_region)
                soon = found[: min(PREFETCH_LIMIT, slots)]
                async with prefetch_plans(partial(self._engine.plan, route), soon) as plans:
                    # They belong to the request, not to the step that records them.
                    trace_context = tracing.context()
                    with tracing.span("record jobs", {"tagferry.jobs": len(new_jobs)}, is_essential=True):
                        handles = await self._jobs.create(
                            request,
                            new_jobs,
                            max_concurrent_requests_per_user=limit,
                            claim=claim,
                            trace_context=trace_context,
                        )
                    for tag, handle in handles.items():
                        finding = findings.get(tag)
                        if isinstance(finding, Finding) and not handle.is_joined and not handle.status.has_ended:
                            plan = plans.pop(tag, None) if handle.status is JobStatus.RUNNING else None
                            self._worker.prefetch(handle.id, Prefetch(finding, plan))
        finally:
            self._starting[user] -= 1
        return handles


def _log_start(request: SyncRequest, jobs: Collection[JobHandle]) -> None:
    opened = [job for job in jobs if not job.status.has_ended]
    if request.is_automatic and not opened:
        # Rules often find every tag up to date.
        return
    log.info(
        "accepted a sync request",
        request_id=request.id,
        user=request.caller.name,
        source=f"{request.source_region}/{request.namespace}/{request.repository}",
        target=f"{request.target_region}/{request.target_namespace}",
        tags=len(request.tags),
        jobs=sum(not job.is_joined for job in opened),
        joined=sum(job.is_joined for job in opened),
        settled=len(jobs) - len(opened),
    )


def _handle(job: SyncJob) -> JobHandle:
    return JobHandle(job.id, status=job.status, override=job.override, is_joined=True)
