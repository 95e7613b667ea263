"""Runs sync jobs in this process, and lets later requests join those that are under way.

This is the seam for durable workflows: the service hands over jobs and waits for their ends, and does not know
where they run.
"""

import asyncio
from dataclasses import dataclass, field

import structlog

from tagferry.copy.examine import Finding, Verdict
from tagferry.copy.progress import Progress, Pulse
from tagferry.copy.rewrite import Rewrite
from tagferry.copy.route import Route
from tagferry.copy.run import CopyEngine, Outcome
from tagferry.errors import Expired, NotFound, TagferryError, Unavailable
from tagferry.names import Namespace, RegionId, Repository, Tag
from tagferry.sync.jobs import Jobs
from tagferry.sync.model import JobChange, JobStatus

_REPORT_SECONDS = 0.5

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TagRoute:
    """What makes two tags' copies the same work, or work that must not overlap."""

    source_region: RegionId
    namespace: Namespace
    repository: Repository
    tag: Tag
    target_region: RegionId
    target_namespace: Namespace


@dataclass(eq=False, slots=True)
class Flight:
    """A job that was promised and has not ended.

    Attributes:
        ended: resolves to the job's last status.
        recorded: set once the job is on record, or has ended without that.
        job_id: the job's id on record.
    """

    override: bool
    ended: asyncio.Future[JobStatus]
    before: "Flight | None"
    job_id: int | None = None
    recorded: asyncio.Event = field(default_factory=asyncio.Event)
    progress: Progress = field(default_factory=Progress)

    @property
    def refusal(self) -> TagferryError | None:
        """Why the job came to nothing, if it was withdrawn."""
        if not self.ended.done() or self.ended.cancelled():
            return None
        error = self.ended.exception()
        return error if isinstance(error, TagferryError) else None


class Runner:
    """The jobs under way in this process."""

    def __init__(self, engine: CopyEngine, jobs: Jobs) -> None:
        self._engine = engine
        self._jobs = jobs
        self._latest: dict[TagRoute, Flight] = {}
        self._running: dict[int, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reporter: asyncio.Task[None] | None = None

    def joinable(self, route: TagRoute, *, override: bool) -> Flight | None:
        """The job under way that does just what is asked for, if there is one."""
        flight = self._latest.get(route)
        return flight if flight is not None and flight.override == override else None

    def promise(self, route: TagRoute, *, override: bool) -> Flight:
        """Announce a job, so that whoever asks for the same meanwhile joins it.

        It runs after the one before it on the same route. Whoever promised either launches or withdraws it.
        """
        ended: asyncio.Future[JobStatus] = asyncio.get_running_loop().create_future()
        flight = Flight(override=override, ended=ended, before=self._latest.get(route))
        self._latest[route] = flight
        return flight

    def withdraw(self, route: TagRoute, flight: Flight, error: BaseException) -> None:
        """Take a promise back; those who joined it see the error."""
        self._land(route, flight)
        if not flight.ended.done():
            if isinstance(error, asyncio.CancelledError):
                error = Unavailable("tagferry stopped working on this for now; the same call takes it up again")
            flight.ended.set_exception(error)
            # Nobody need have joined, and then nobody is to be told that the error was never looked at.
            flight.ended.exception()

    def settle(self, route: TagRoute, flight: Flight, status: JobStatus, job_id: int) -> None:
        """End a job that is on record."""
        flight.job_id = job_id
        self._land(route, flight)
        if not flight.ended.done():
            flight.ended.set_result(status)

    def launch(self, tag_route: TagRoute, route: Route, flight: Flight, job_id: int, finding: Finding | None) -> None:
        """Run a promised job that is on record now."""
        flight.job_id = job_id
        flight.recorded.set()
        task = asyncio.create_task(self._fly(tag_route, route, flight, job_id, finding), name=f"sync job {job_id}")
        self._tasks.add(task)

        def landed(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            # A task that is cancelled before its first step has run nothing of its own.
            self.withdraw(tag_route, flight, asyncio.CancelledError())

        task.add_done_callback(landed)
        if self._reporter is None or self._reporter.done():
            self._reporter = asyncio.create_task(self._report())

    def pulse(self, job_id: int) -> Pulse | None:
        """How a job's copy is now; None where it does not run in this process."""
        flight = self._running.get(job_id)
        return flight.progress.pulse() if flight is not None else None

    async def close(self) -> None:
        """Stop; the jobs under way stay on record as unfinished, for the next start."""
        tasks = [*self._tasks, *([self._reporter] if self._reporter else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fly(
        self, tag_route: TagRoute, route: Route, flight: Flight, job_id: int, finding: Finding | None
    ) -> None:
        try:
            if flight.before is not None:
                await asyncio.wait([flight.before.ended])
            flight.before = None
            self._running[job_id] = flight
            change = await self._copy(tag_route, route, flight, job_id, finding)
            await self._jobs.change(change)
            self.settle(tag_route, flight, change.status, job_id)
        except Exception as error:
            log.exception("a sync job's end could not be recorded", job=job_id)
            self.withdraw(tag_route, flight, error)
        finally:
            self._running.pop(job_id, None)

    async def _copy(
        self, tag_route: TagRoute, route: Route, flight: Flight, job_id: int, finding: Finding | None
    ) -> JobChange:
        try:
            outcome = await self._engine.copy(
                route, tag_route.tag, override=flight.override, finding=finding, progress=flight.progress
            )
        except TagferryError as error:
            log.warning("a tag was not synchronized", job=job_id, tag=tag_route.tag, reason=error.message)
            status = JobStatus.TIMEOUT if isinstance(error, Expired) else JobStatus.FAILED
            return _ended(job_id, status, failure_reason(error), flight.progress)
        except Exception as error:
            log.exception("a sync job failed unexpectedly", job=job_id, tag=tag_route.tag)
            reason = f"internal error ({type(error).__name__}); the server's log tells more"
            return _ended(job_id, JobStatus.FAILED, reason, flight.progress)
        if outcome.verdict is Verdict.COPY and (rewritten := outcome.rewritten) is not None:
            log.info(
                "an image was rewritten as its target accepts it",
                job=job_id,
                tag=tag_route.tag,
                region=tag_route.target_region,
                digests=dict(rewritten.digests),
                left_behind=list(rewritten.left_behind),
            )
        status, reason = describe(outcome.verdict, outcome.rewritten)
        return _ended(job_id, status, reason, flight.progress, outcome)

    def _land(self, route: TagRoute, flight: Flight) -> None:
        flight.recorded.set()
        if self._latest.get(route) is flight:
            del self._latest[route]

    async def _report(self) -> None:
        """Put the progress of running jobs on record now and then, all in one transaction."""
        reported: dict[int, tuple[int, int]] = {}
        while self._tasks:
            await asyncio.sleep(_REPORT_SECONDS)
            current = {
                job_id: (flight.progress.bytes_done, flight.progress.bytes_total)
                for job_id, flight in self._running.items()
            }
            changes = [
                JobChange(job_id, JobStatus.RUNNING, bytes_done=done, bytes_total=total)
                for job_id, (done, total) in current.items()
                if reported.get(job_id) != (done, total)
            ]
            if changes:
                try:
                    await self._jobs.change_all(changes)
                except Exception:
                    log.exception("progress could not be recorded")
            reported = current


def describe(verdict: Verdict, rewritten: Rewrite | None = None) -> tuple[JobStatus, str]:
    """The status that a verdict leads to, and the reason to give."""
    match verdict:
        case Verdict.COPY if rewritten is not None:
            return (
                JobStatus.SUCCESS,
                f"copied and verified, rewritten as the target region accepts it{_left(rewritten)}",
            )
        case Verdict.IN_PLACE if rewritten is not None:
            return JobStatus.SUCCESS, "the image, rewritten as the target region accepts it, is already in place"
        case Verdict.COPY:
            return JobStatus.SUCCESS, "copied and verified"
        case Verdict.IN_PLACE:
            return JobStatus.SUCCESS, "the identical image is already in place"
        case Verdict.BLOCKED:
            reason = "the target holds another image under this tag; send override=true to replace it"
            return JobStatus.EXISTED, reason
        case Verdict.MISSING:
            return JobStatus.FAILED, "the tag does not exist in the source repository"


def failure_reason(error: TagferryError) -> str:
    """Why a tag failed, for a person."""
    if isinstance(error, NotFound) and error.kind == "tag":
        return describe(Verdict.MISSING)[1]
    return error.message


def _left(rewritten: Rewrite) -> str:
    count = len(rewritten.left_behind)
    return f"; {count} manifest{'s' if count > 1 else ''} left behind" if count else ""


def _ended(
    job_id: int, status: JobStatus, reason: str, progress: Progress, outcome: Outcome | None = None
) -> JobChange:
    return JobChange(
        job_id=job_id,
        status=status,
        reason=reason,
        digest=outcome.digest if outcome else None,
        rewritten=outcome.rewritten if outcome else None,
        bytes_done=progress.bytes_done,
        bytes_total=progress.bytes_total,
    )
