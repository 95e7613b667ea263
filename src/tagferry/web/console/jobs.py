"""Jobs on several pages: their filter in an address, and one job with the advice about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from tagferry.errors import Invalid
from tagferry.names import Namespace, RegionId, Repository, RepositoryName
from tagferry.sync.job_service import JobActions
from tagferry.sync.jobs.all_jobs import JobFilter
from tagferry.sync.jobs.model import JobStatus, SyncJob
from tagferry.sync.jobs.timeline import JobDetails
from tagferry.web.console.commands import Command
from tagferry.web.console.context import PageContext
from tagferry.web.console.repositories import can_open
from tagferry.web.console.translation import translatable

JOBS = "/console/jobs"
EVENTS = "/console/events"
_LONGEST = 255
_OPEN, _FAILED = "open", "problems"
STATES: tuple[tuple[str, str, frozenset[JobStatus]], ...] = (
    ("", translatable("All"), frozenset()),
    (_OPEN, translatable("open"), frozenset({JobStatus.WAITING, JobStatus.RUNNING})),
    (_FAILED, translatable("problems"), frozenset({JobStatus.FAILED, JobStatus.TIMEOUT, JobStatus.EXISTED})),
    *((status.value, "", frozenset({status})) for status in JobStatus),
)
"""The states to choose from: the value in the address, the word ("" for the state's own), the states of the jobs."""
TIMES = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
SPANS = (
    ("", translatable("any time")),
    ("1h", translatable("the last hour")),
    ("24h", translatable("the last 24 hours")),
    ("7d", translatable("the last 7 days")),
    ("30d", translatable("the last 30 days")),
)
NEXT_STEPS = {
    JobStatus.EXISTED: translatable(
        "Compare both images. If the target's may be replaced, retry with override; otherwise push under another tag."
    ),
    JobStatus.TIMEOUT: translatable("Retry it, and give it more time, or check why its regions are slow."),
    JobStatus.FAILED: translatable("Correct the cause, then retry it. What was already copied is not copied again."),
    JobStatus.CANCEL: translatable("Retry it if the tag is needed at the target after all."),
}
"""The advice about a job that did not succeed, by status."""
WAITS = translatable("It is retried by itself. Check the region if that takes too long.")


@dataclass(frozen=True, slots=True)
class JobQuery:
    """A filter of jobs, as its form and its address have it.

    Attributes:
        state: a value of `STATES`.
        repository: `ORGANIZATION`, or `ORGANIZATION/` and the beginning of a repository's name.
        region: the source region; with it, `repository` is a whole name.
        to: the target region.
        by: the name of a user.
        since: a value of `SPANS`.
        request: the id of a request.
    """

    state: str = ""
    repository: str = ""
    region: str = ""
    to: str = ""
    by: str = ""
    since: str = ""
    request: str = ""

    @classmethod
    def of(cls, context: PageContext) -> "JobQuery":
        """Return the filter in the query of a page."""
        names = ("state", "repository", "region", "to", "by", "since", "request")
        return cls(**{name: context.query(name)[:_LONGEST] for name in names})

    @property
    def is_empty(self) -> bool:
        """True if all jobs are wanted."""
        return self == JobQuery()

    def terms(self, **changes: str) -> dict[str, str]:
        """Return the parameters of the address, with changes; empty ones are left out."""
        all_terms = {
            "state": self.state,
            "repository": self.repository,
            "region": self.region,
            "to": self.to,
            "by": self.by,
            "since": self.since,
            "request": self.request,
        }
        return {name: value for name, value in (all_terms | changes).items() if value}

    def address(self, **changes: str) -> str:
        """Return the address of the list with this filter, and with changes."""
        query = urlencode(self.terms(**changes))
        return f"{JOBS}?{query}" if query else JOBS

    def filter(self) -> JobFilter:
        """Return the filter of the use case; raises Invalid."""
        statuses = next((found for value, _, found in STATES if value == self.state), None)
        if statuses is None:
            raise Invalid("state", "must be one of the states of the list", self.state)
        if self.since not in dict(SPANS):
            raise Invalid("since", "must be one of the spans of the list", self.since)
        for name, value in (("by", self.by), ("request", self.request)):
            if not value.isprintable():
                raise Invalid(name, "has characters that cannot be printed", value)
        namespace, _, name = self.repository.partition("/")
        return JobFilter(
            statuses=statuses,
            region=RegionId(self.region, field="region") if self.region else None,
            namespace=Namespace(namespace, field="repository") if namespace else None,
            repository=Repository(name) if name and self.region else None,
            prefix="" if self.region else _prefix(name),
            target_region=RegionId(self.to, field="to") if self.to else None,
            operator=self.by,
            request=self.request,
            since=datetime.now(UTC) - TIMES[self.since] if self.since else None,
        )


def _prefix(name: str) -> str:
    if name:
        # The beginning of a name may end with a separator.
        Repository(f"{name}0", field="repository")
    return name


def live_parameters(jobs: Sequence[SyncJob], **more: str) -> str:
    """Return the address of the stream of changes of these jobs; "" if none of them can change."""
    ids = [job.id for job in jobs if not job.status.has_ended]
    if not ids and not more:
        return ""
    return f"{EVENTS}?{urlencode({'jobs': ','.join(map(str, ids)), **more})}"


def next_step(job: SyncJob) -> str:
    """Return what to do about a job, for a template that translates it; "" if there is nothing to do."""
    if job.status is JobStatus.WAITING and job.failures:
        return WAITS
    return NEXT_STEPS.get(job.status, "")


@dataclass(frozen=True, slots=True)
class JobPage:
    """The view of a job.

    Attributes:
        details: the job, its timeline, and what it really moved.
        step: what to do next; "" if there is nothing to do.
        actions: what the caller is permitted to do with it.
        can_open_target: whether the caller may read the target.
        live: the address of the stream of changes; "" if it has ended.
    """

    details: JobDetails
    step: str
    actions: JobActions
    can_open_target: bool
    live: str
    commands: tuple[Command, ...]

    @property
    def job(self) -> SyncJob:
        """The job."""
        return self.details.job


async def job_page(context: PageContext, details: JobDetails) -> JobPage:
    """Return the view of a job."""
    job = details.job
    actions = (await context.services.jobs.actions(context.caller, [job]))[job.id]
    can_open_target = await can_open(
        context, job.target_region, RepositoryName.of(job.target_namespace, job.repository)
    )
    live = live_parameters([job], details="1") if not job.status.has_ended else ""
    return JobPage(details, next_step(job), actions, can_open_target, live, _commands(context, job, actions))


def _commands(context: PageContext, job: SyncJob, actions: JobActions) -> tuple[Command, ...]:
    api = f"{context.base_url}/v2/manage/sync_jobs"
    commands = [Command.of("CLI", "tagferry", "job", "show", str(job.id)), Command.api("GET", f"{api}/{job.id}")]
    is_repeatable = job.status.can_be_retried or job.status is JobStatus.EXISTED
    if actions.can_retry and is_repeatable if job.status.has_ended else actions.can_cancel:
        action = "retry" if job.status.has_ended else "cancel"
        # Otherwise it would find the other image again.
        is_override = job.status is JobStatus.EXISTED
        commands += [
            Command.of("CLI", "tagferry", "job", action, str(job.id), *(["--override"] if is_override else [])),
            Command.api("POST", f"{api}/{action}", {"jobs": [job.id], **({"override": True} if is_override else {})}),
        ]
    return tuple(commands)
