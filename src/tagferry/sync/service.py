"""Synchronizing images, as every door asks for it: start or join, wait, look up, cancel, try again."""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from tagferry.accounts.access import AccessControl
from tagferry.accounts.model import Caller
from tagferry.copy.engine import CopyEngine
from tagferry.copy.estimate import Estimate, Estimates
from tagferry.copy.preflight import Finding, Verdict
from tagferry.copy.route import Route
from tagferry.errors import Expired, Invalid, NotFound, TagferryError, Throttled, TooLarge
from tagferry.names import Namespace, RegionId, Repository, RepositoryRef, Tag
from tagferry.regions import Regions
from tagferry.sync.authorization import authorize_source, authorize_sync, authorize_target
from tagferry.sync.coalesce import RequestCoalescer
from tagferry.sync.jobs.breaker import Pause
from tagferry.sync.jobs.completion import JobWaiter
from tagferry.sync.jobs.model import JobHandle, JobSelection, JobStatus, NewJob, SyncJob, SyncRequest
from tagferry.sync.jobs.prefetch import PREFETCH_LIMIT, Prefetch, prefetch_plans
from tagferry.sync.jobs.reasons import describe, waiting_reason
from tagferry.sync.jobs.routes import route_of
from tagferry.sync.jobs.searches import ReferrerSearches, Target
from tagferry.sync.jobs.store import JobStore
from tagferry.sync.jobs.worker import Worker

EXAMINE_SECONDS = 5.0
"""How long registries may be asked about a request before it is recorded; what is not known then, its jobs find out."""
EXAMINE_BRIEFLY = 2.0
"""The same where the caller does not wait for the tags."""


@dataclass(frozen=True, slots=True)
class StartedSync:
    """A request that was accepted: its own jobs, and those of earlier requests that it joined.

    Attributes:
        jobs: the job of each tag; an automatic request has none for a tag that is in place already.
        arrived_at: when the request came, in seconds of the monotonic clock.
    """

    request: SyncRequest
    jobs: Mapping[Tag, JobHandle]
    arrived_at: float = field(default_factory=time.monotonic, compare=False)

    @property
    def job_ids(self) -> dict[Tag, int]:
        """The job of each tag."""
        return {tag: place.id for tag, place in self.jobs.items()}


class SyncService:
    """The face of synchronization.

    Args:
        tag_limit: tags that one request may name.
        active_requests: requests of one user that may be in flight at once.
        seconds: how long a request's tags may take, unless it asks for less; None means without limit.
    """

    def __init__(
        self,
        *,
        regions: Regions,
        access: AccessControl,
        jobs: JobStore,
        engine: CopyEngine,
        worker: Worker,
        waiter: JobWaiter,
        searches: ReferrerSearches,
        tag_limit: int,
        active_requests: int,
        seconds: float | None = None,
    ) -> None:
        self._regions = regions
        self._access = access
        self._jobs = jobs
        self._engine = engine
        self._worker = worker
        self._waiter = waiter
        self._searches = searches
        self._tag_limit = tag_limit
        self._active_requests = active_requests
        self._seconds = seconds
        self._starting: Counter[str] = Counter()
        self._coalescer = RequestCoalescer()

    async def start(self, request: SyncRequest, *, seconds: float = EXAMINE_SECONDS) -> StartedSync:
        """Accept a request: check it, decide what is in place already, and start or join the rest.

        Args:
            request: what is asked for.
            seconds: how long this may take because of registries; at most `EXAMINE_SECONDS`.

        Raises:
            Invalid: a field breaks a rule; nothing has changed.
            NotFound: an organization or the source repository does not exist.
            Denied: the caller may not read the source or not write the target.
            Throttled: the caller has too many requests in flight.
        """
        arrived_at = time.monotonic()
        request = self._bounded(await self._check(request))
        most = EXAMINE_BRIEFLY if request.is_automatic else EXAMINE_SECONDS
        until = asyncio.get_running_loop().time() + min(seconds, most)
        async with self._coalescer.claim(request, until=until) as places:
            standing = await self._jobs.open_jobs(request)
            places.update((tag, place) for tag, place in standing.items() if place.override == request.override)
            if wanted := [tag for tag in dict.fromkeys(request.tags) if tag not in places]:
                places.update(await self._start(request, wanted, standing, until))
        jobs = {tag: places[tag] for tag in request.tags if tag in places}
        return StartedSync(request=request, jobs=jobs, arrived_at=arrived_at)

    async def plan(self, request: SyncRequest) -> Estimates:
        """What `start` would have to do; raises what it raises, and changes nothing."""
        await self._check(request)
        route = route_of(self._regions, request)
        estimates = await self._engine.estimate_all(
            route, tuple(dict.fromkeys(request.tags)), override=request.override
        )
        found = [one for one in estimates.values() if isinstance(one, Estimate)]
        if not any(one.source is not None for one in found):
            await _require_source(route)
        return estimates

    async def wait(self, started: StartedSync, *, seconds: float) -> list[Tag]:
        """Wait until every tag has ended; returns those that failed, in the order in which they were named.

        Args:
            started: the request.
            seconds: how long to wait, counted from the request's arrival.

        Raises:
            Expired: some have not ended after that many seconds; they go on.
            Unavailable: this process stopped before they ended; others, or the next one, take them up.
        """
        ends = {place.id: place.status for place in started.jobs.values() if place.status.has_ended}
        awaited = [place.id for place in started.jobs.values() if place.id not in ends]
        if awaited:
            left = seconds - (time.monotonic() - started.arrived_at)
            ends |= await self._waiter.wait(awaited, seconds=left)
        if len(ends) < len({place.id for place in started.jobs.values()}):
            raise Expired(
                f"the synchronization goes on after {seconds:g} s; the same call joins it, and sync_job tells how "
                f"far it is (request {started.request.id})"
            )
        return [tag for tag, place in started.jobs.items() if not ends[place.id].is_success]

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
        """A page of a repository's sync jobs and their total; guests are shown those of their own domain.

        Raises:
            NotFound: the organization does not exist.
            Denied: the caller may not read the repository.
        """
        source = await authorize_source(self._access, caller, (region, namespace), repository)
        jobs, total = await self._jobs.of_repository(
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
        return [job if job.status.has_ended else self._as_it_is_now(job) for job in jobs], total

    async def cancel(self, caller: Caller, selection: JobSelection) -> list[int]:
        """End those of the selected jobs that have not ended; returns their ids. Who runs them stops within a second.

        Raises:
            NotFound: the organization of the source, or of a target, does not exist.
            Denied: the caller may not read the source, or not write the target of one of them; nothing has changed.
        """
        found = await self._selected(caller, selection, [status for status in JobStatus if not status.has_ended])
        for target_region, target_namespace in dict.fromkeys(
            (job.target_region, job.target_namespace) for job in found
        ):
            try:
                await authorize_target(self._access, caller, (target_region, target_namespace), selection.repository)
            except NotFound:
                # What goes to an organization that is gone must end too.
                if not caller.is_admin:
                    raise
        if not found:
            return []
        return await self._jobs.cancel([job.id for job in found], reason=f"{caller.name} cancelled it")

    async def retry(self, caller: Caller, selection: JobSelection, *, request_id: str) -> list[StartedSync]:
        """Ask again for those of the selected jobs that failed, ran out of time or were cancelled.

        Those that wait for their next attempt are tried at once. There is one request for each target and override,
        none where there is nothing to ask for again.

        Raises:
            TagferryError: whatever `start` raises. What it raises for want of permission comes before any is started.
        """
        ended = [status for status in JobStatus if status.can_be_retried]
        found = await self._selected(caller, selection, [*ended, JobStatus.WAITING])
        failed = [job for job in found if job.status is not JobStatus.WAITING]
        postponed = [job for job in found if job.next_attempt_at is not None]
        again, sooner = (_by_target(caller, selection, request_id, jobs) for jobs in (failed, postponed))
        for request in (*again, *sooner):
            await self._check(request)
        await self._jobs.retry_now([job.id for job in postponed])
        until = time.monotonic() + EXAMINE_BRIEFLY
        return [
            *[await self.start(request, seconds=max(0.0, until - time.monotonic())) for request in again],
            *[StartedSync(request, {job.tag: _place(job) for job in jobs}) for request, jobs in sooner.items()],
        ]

    @property
    def paused_regions(self) -> Mapping[RegionId, Pause]:
        """The regions whose jobs wait because they do not answer this process."""
        return self._worker.paused_regions

    async def close(self) -> None:
        """Tell everybody who waits that this process stops."""
        await self._waiter.close()

    def _as_it_is_now(self, job: SyncJob) -> SyncJob:
        """An open job with what only this process knows of it."""
        pauses = self._worker.paused_regions
        paused = next((region for region in (job.target_region, job.source_region) if region in pauses), None)
        if job.status is JobStatus.WAITING and paused is not None:
            return replace(job, reason=waiting_reason(paused, pauses[paused].since))
        return replace(job, snapshot=self._worker.snapshot(job.id))

    async def _check(self, request: SyncRequest) -> SyncRequest:
        """Let the caller pass; returns the request with the organizations that its names stand for now."""
        if not request.tags:
            raise Invalid("imageTag", "must name at least one tag")
        if len(request.tags) > self._tag_limit:
            raise TooLarge("imageTag", f"must name at most {self._tag_limit} tags", len(request.tags))
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
        """The selected jobs in one of these states, oldest first; of a guest those of its own domain."""
        place = (selection.region, selection.namespace)
        source = await authorize_source(self._access, caller, place, selection.repository)
        if len(selection.jobs) > self._tag_limit:
            raise TooLarge("jobs", f"must name at most {self._tag_limit} jobs", len(selection.jobs))
        found, _ = await self._jobs.of_repository(
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
        limits = [seconds for seconds in (request.seconds, self._seconds) if seconds is not None]
        return replace(request, seconds=min(limits)) if limits else request

    async def _start(
        self, request: SyncRequest, wanted: Sequence[Tag], standing: Mapping[Tag, JobHandle], until: float
    ) -> dict[Tag, JobHandle]:
        """Record jobs for what nobody works on yet: those with nothing to do as ended, the others to be run."""
        user = request.caller.user_id
        limit = self._active_requests - self._starting[user]
        if limit <= 0 and not request.is_automatic:
            raise Throttled(
                f"{request.caller.name} has {self._starting[user]} synchronizations in flight; "
                "wait for one of them to end",
                retry_after=5.0,
            )
        self._starting[user] += 1
        try:
            route = route_of(self._regions, request)
            # What stands at the target while another copy goes on there says nothing about what will stand there then.
            free = [tag for tag in wanted if tag not in standing]
            findings, searched_again = await self._examined(request, route, free, until)
            await self._require_repository(route, findings, until)
            starts = [_start(tag, findings.get(tag)) for tag in wanted]
            if request.is_automatic:
                # That a search was made again is recorded, so that the rule knows how it ended.
                starts = [
                    start for start in starts if start.status is not JobStatus.SUCCESS or start.tag in searched_again
                ]
            found = [start.tag for start in starts if not start.status.has_ended and start.tag in findings]
            soon = found[: min(PREFETCH_LIMIT, self._worker.free)]
            async with (
                prefetch_plans(partial(self._engine.plan, route), soon) as plans,
                self._worker.claiming() as claim,
            ):
                places = await self._jobs.create(request, starts, active_requests=limit, claim=claim)
                for tag, place in places.items():
                    finding = findings.get(tag)
                    if isinstance(finding, Finding) and not place.is_joined and not place.status.has_ended:
                        plan = plans.pop(tag, None) if place.status is JobStatus.RUNNING else None
                        self._worker.prefetch(place.id, Prefetch(finding, plan))
        finally:
            self._starting[user] -= 1
        return places

    async def _examined(
        self, request: SyncRequest, route: Route, tags: Sequence[Tag], until: float
    ) -> tuple[Mapping[Tag, Finding | TagferryError], Collection[Tag]]:
        """Examine the tags for a short time; if a registry takes longer, their jobs examine them.

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
        in_place = [finding.tag for finding in found if finding.verdict is Verdict.UP_TO_DATE]
        unfinished = sorted(await self._searches.unfinished(source, target, in_place))
        again = await self._engine.compare_all(route, unfinished, override=request.override, thorough=True, until=until)
        return {**findings, **again}, unfinished

    async def _require_repository(
        self, route: Route, findings: Mapping[Tag, Finding | TagferryError], until: float
    ) -> None:
        """Refuse a source repository that does not exist, before anything is recorded; mostly no question is left."""
        found = [finding for finding in findings.values() if isinstance(finding, Finding)]
        if found and all(finding.source is None for finding in found):
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await _require_source(route)


async def _require_source(route: Route) -> None:
    """Raise NotFound where the source says that it does not have the repository."""
    try:
        async for _ in route.source.list_tags(route.source_repository):
            break
    except NotFound:
        raise
    except TagferryError:
        # A source that does not answer this says nothing about the repository; each tag's job finds out.
        return


def _start(tag: Tag, finding: Finding | TagferryError | None) -> NewJob:
    """How a tag's job starts: ended at once where there is nothing to do, else waiting to be run."""
    if not isinstance(finding, Finding) or finding.verdict is Verdict.COPY:
        return NewJob(tag)
    status, reason = describe(finding.verdict, finding.rewritten, finding.gaps)
    return NewJob(
        tag,
        status,
        reason,
        digest=finding.target,
        rewritten=finding.rewritten,
        unsearched=finding.gaps.unfinished if status is JobStatus.SUCCESS else None,
    )


def _by_target(
    caller: Caller, selection: JobSelection, request_id: str, jobs: Sequence[SyncJob]
) -> dict[SyncRequest, list[SyncJob]]:
    """The jobs by the request that would ask for them: one for each target and override."""
    groups: dict[tuple[RegionId, Namespace, bool], list[SyncJob]] = {}
    for job in jobs:
        groups.setdefault((job.target_region, job.target_namespace, job.override), []).append(job)
    return {
        SyncRequest(
            id=request_id,
            caller=caller,
            source_region=selection.region,
            namespace=selection.namespace,
            repository=selection.repository,
            tags=tuple(dict.fromkeys(job.tag for job in group)),
            target_region=target_region,
            target_namespace=target_namespace,
            override=override,
        ): group
        for (target_region, target_namespace, override), group in groups.items()
    }


def _place(job: SyncJob) -> JobHandle:
    return JobHandle(job.id, status=job.status, override=job.override, is_joined=True)
