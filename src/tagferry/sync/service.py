"""Synchronizing images, as every door asks for it: start or join, wait, look up."""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tagferry.accounts.model import Caller, Permission
from tagferry.accounts.organizations import Organizations
from tagferry.copy.estimate import Estimate, Estimates
from tagferry.copy.examine import Finding, Verdict
from tagferry.copy.route import Route
from tagferry.copy.run import CopyEngine
from tagferry.errors import Expired, Invalid, NotFound, TagferryError, Throttled, TooLarge, Unavailable
from tagferry.names import Namespace, RegionId, Repository, RepositoryName, Tag
from tagferry.sync.jobs import Jobs
from tagferry.sync.model import JobStart, JobStatus, SyncJob, SyncRequest
from tagferry.sync.regions import Regions
from tagferry.sync.runner import Flight, Runner, TagRoute, describe


@dataclass(frozen=True, slots=True)
class StartedSync:
    """A request that was accepted: its own jobs, and those of earlier requests that it joined."""

    request: SyncRequest
    flights: Mapping[Tag, Flight]

    @property
    def job_ids(self) -> dict[Tag, int]:
        """The job of each tag."""
        return {tag: flight.job_id for tag, flight in self.flights.items() if flight.job_id is not None}


class SyncService:
    """The face of synchronization.

    Args:
        tag_limit: tags that one request may name.
        active_requests: requests of one user that may be in flight at once.
    """

    def __init__(
        self,
        *,
        regions: Regions,
        organizations: Organizations,
        jobs: Jobs,
        engine: CopyEngine,
        runner: Runner,
        tag_limit: int,
        active_requests: int,
    ) -> None:
        self._regions = regions
        self._organizations = organizations
        self._jobs = jobs
        self._engine = engine
        self._runner = runner
        self._tag_limit = tag_limit
        self._active_requests = active_requests
        self._active: Counter[str] = Counter()

    async def start(self, request: SyncRequest) -> StartedSync:
        """Accept a request: check it, decide what is in place already, and start or join the rest.

        Raises:
            Invalid: a field breaks a rule; nothing has changed.
            NotFound: an organization or the source repository does not exist.
            Denied: the caller may not read the source or not write the target.
            Throttled: the caller has too many requests in flight.
        """
        await self._check(request)
        joined = self._join(request)
        wanted = [tag for tag in dict.fromkeys(request.tags) if tag not in joined]
        flights = {**joined, **await self._start(request, wanted)}
        for flight in flights.values():
            await flight.recorded.wait()
            if flight.job_id is None and (refusal := flight.refusal) is not None:
                # What was joined turned out to be refused, and so is this.
                raise refusal
        return StartedSync(request=request, flights={tag: flights[tag] for tag in request.tags})

    async def plan(self, request: SyncRequest) -> Estimates:
        """What `start` would have to do; raises what it raises, and changes nothing."""
        await self._check(request)
        route = self._route(request)
        estimates = await self._engine.estimate_all(
            route, tuple(dict.fromkeys(request.tags)), override=request.override
        )
        if not any(isinstance(one, Estimate) and one.source is not None for one in estimates.values()):
            async for _ in route.source.list_tags(route.source_repository):
                break
        return estimates

    async def wait(self, started: StartedSync, *, seconds: float) -> list[Tag]:
        """Wait until every tag has ended; returns those that failed, in the order in which they were named.

        Raises:
            Expired: some have not ended after that many seconds; they go on.
            Unavailable: this process stopped before they ended; the next one takes them up.
        """
        endings = {tag: flight.ended for tag, flight in started.flights.items()}
        open_endings = [ending for ending in endings.values() if not ending.done()]
        if open_endings:
            await asyncio.wait(open_endings, timeout=seconds)
        if not all(ending.done() for ending in endings.values()):
            raise Expired(
                f"the synchronization goes on after {seconds:g} s; the same call joins it, and sync_job tells how "
                f"far it is (request {started.request.id})"
            )
        for ending in endings.values():
            if not ending.cancelled() and isinstance(stopped := ending.exception(), Unavailable):
                raise stopped
        return [tag for tag, ending in endings.items() if not _is_in_place(ending)]

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
    ) -> tuple[list[SyncJob], int]:
        """A page of a repository's sync jobs and their total; raises NotFound and Denied for the organization."""
        await self._organizations.require(caller, region, namespace, Permission.READ)
        jobs, total = await self._jobs.of_repository(
            region, namespace, repository, limit=limit, offset=offset, descending=descending, only=only
        )
        return [job if job.status.has_ended else replace(job, pulse=self._runner.pulse(job.id)) for job in jobs], total

    async def resume(self) -> int:
        """Run the jobs that an earlier process left unfinished; returns how many.

        Each asks the target first, so what had been copied is not copied again.
        """
        unfinished = [job for job in await self._jobs.unfinished() if self._knows(job)]
        for job in unfinished:
            tag_route = _tag_route(job, job.tag)
            flight = self._runner.promise(tag_route, override=job.override)
            self._runner.launch(tag_route, self._route(job), flight, job.id, None)
        return len(unfinished)

    async def close(self) -> None:
        """Stop running jobs; they stay on record for the next start."""
        await self._runner.close()

    async def _check(self, request: SyncRequest) -> None:
        if not request.tags:
            raise Invalid("imageTag", "must name at least one tag")
        if len(request.tags) > self._tag_limit:
            raise TooLarge("imageTag", f"must name at most {self._tag_limit} tags", len(request.tags))
        if request.target_region not in self._regions:
            known = ", ".join(region.id for region in self._regions)
            raise Invalid("remoteRegionId", f"must be one of the known regions ({known})", str(request.target_region))
        same_region = request.target_region == request.source_region
        if same_region and request.target_namespace == request.namespace:
            raise Invalid(
                "remoteRegionId",
                "and remoteNamespace must not both be those of the source",
                f"{request.target_region}/{request.target_namespace}",
            )
        await self._organizations.require(request.caller, request.source_region, request.namespace, Permission.READ)
        try:
            await self._organizations.require(
                request.caller, request.target_region, request.target_namespace, Permission.EDIT
            )
        except NotFound as error:
            raise NotFound("organization", error.name, "remoteNamespace must exist in the target region") from None

    async def _start(self, request: SyncRequest, wanted: Sequence[Tag]) -> dict[Tag, Flight]:
        """Promise what nobody works on yet. Only a request with work of its own counts as in flight."""
        if not wanted:
            return {}
        user = request.caller.user_id
        if self._active[user] >= self._active_requests:
            raise Throttled(
                f"{request.caller.name} has {self._active_requests} synchronizations in flight; "
                "wait for one of them to end",
                retry_after=5.0,
            )
        self._active[user] += 1
        # Nothing has been awaited since nobody was found to work on these, so two equal requests cannot both promise.
        flights = {tag: self._runner.promise(_tag_route(request, tag), override=request.override) for tag in wanted}
        try:
            await self._keep(request, flights)
        except BaseException as error:
            for tag, flight in flights.items():
                self._runner.withdraw(_tag_route(request, tag), flight, error)
            raise
        finally:
            self._release(user, flights.values())
        return flights

    def _join(self, request: SyncRequest) -> dict[Tag, Flight]:
        found = {
            tag: self._runner.joinable(_tag_route(request, tag), override=request.override) for tag in request.tags
        }
        return {tag: flight for tag, flight in found.items() if flight is not None}

    async def _require_repository(self, route: Route, findings: Mapping[Tag, Finding | TagferryError]) -> None:
        """Refuse a source repository that does not exist, before anything is recorded.

        Mostly this costs one question: the first tag that has not been seen at the source is asked for.
        """
        found = [finding for finding in findings.values() if isinstance(finding, Finding)]
        if not found or any(finding.source is not None for finding in found):
            return
        try:
            if await route.source.head_manifest(route.source_repository, found[0].tag) is not None:
                return
            async for _ in route.source.list_tags(route.source_repository):
                break
        except NotFound:
            raise
        except TagferryError:
            # That the source does not answer this tells nothing about the repository; each tag's job finds out.
            return

    async def _keep(self, request: SyncRequest, flights: Mapping[Tag, Flight]) -> None:
        """Put promised jobs on record: those with nothing to do as ended, the others to be run."""
        route = self._route(request)
        # What stands at the target while another copy goes on there says nothing about what will stand there then.
        free = [tag for tag, flight in flights.items() if flight.before is None]
        findings = await self._engine.examine_all(route, free, override=request.override)
        await self._require_repository(route, findings)
        starts = [_start(tag, findings.get(tag)) for tag in flights]
        job_ids = await self._jobs.create(request, starts)
        for start in starts:
            tag = start.tag
            if start.status.has_ended:
                self._runner.settle(_tag_route(request, tag), flights[tag], start.status, job_ids[tag])
                continue
            finding = findings.get(tag)
            known = finding if isinstance(finding, Finding) else None
            self._runner.launch(_tag_route(request, tag), route, flights[tag], job_ids[tag], known)

    def _release(self, user: str, flights: Iterable[Flight]) -> None:
        """Let a request of this user count as in flight until the last of these has ended."""
        open_endings = {flight.ended for flight in flights if not flight.ended.done()}
        if not open_endings:
            self._active[user] -= 1
            return

        def landed(ending: asyncio.Future[JobStatus]) -> None:
            open_endings.discard(ending)
            if not open_endings:
                self._active[user] -= 1

        for ending in list(open_endings):
            ending.add_done_callback(landed)

    def _route(self, wanted: SyncRequest | SyncJob) -> Route:
        target = self._regions[wanted.target_region]
        return Route(
            source=self._regions[wanted.source_region].store,
            source_repository=RepositoryName.of(wanted.namespace, wanted.repository),
            target=target.store,
            target_repository=RepositoryName.of(wanted.target_namespace, wanted.repository),
            accepts=target.accepts,
        )

    def _knows(self, job: SyncJob) -> bool:
        return job.source_region in self._regions and job.target_region in self._regions


def _tag_route(wanted: SyncRequest | SyncJob, tag: Tag) -> TagRoute:
    return TagRoute(
        source_region=wanted.source_region,
        namespace=wanted.namespace,
        repository=wanted.repository,
        tag=tag,
        target_region=wanted.target_region,
        target_namespace=wanted.target_namespace,
    )


def _start(tag: Tag, finding: Finding | TagferryError | None) -> JobStart:
    """How a tag's job starts: ended at once where there is nothing to do, else waiting to be run."""
    if not isinstance(finding, Finding) or finding.verdict is Verdict.COPY:
        return JobStart(tag)
    status, reason = describe(finding.verdict, finding.rewritten)
    return JobStart(tag, status, reason, digest=finding.target, rewritten=finding.rewritten)


def _is_in_place(ending: asyncio.Future[JobStatus]) -> bool:
    return not ending.cancelled() and ending.exception() is None and ending.result().is_in_place
