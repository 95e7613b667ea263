"""Sync jobs of all repositories: list, show, cancel and retry them. These operations are extensions of tagferry."""

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from tagferry import bounds
from tagferry.errors import Invalid, NotFound
from tagferry.names import Namespace, RegionId, Repository
from tagferry.sync.job_service import JobResult
from tagferry.sync.jobs.all_jobs import JobFilter
from tagferry.sync.jobs.model import JobStatus
from tagferry.sync.jobs.timeline import JobDetails
from tagferry.web.bodies import require_json
from tagferry.web.items import Items
from tagferry.web.response_models import CamelCaseModel, OptionalTime
from tagferry.web.swr.context import RequestContext, SwrContext
from tagferry.web.swr.queries import DEFAULT_LIMIT, MAXIMUM_LIMIT, parse_number
from tagferry.web.swr.synchronization import SyncJobItem

JOBS = "/v2/manage/sync_jobs"
_LARGEST_ID = 10**18 - 1
_LONGEST_NAME = 64
_FIRST_YEAR, _LAST_YEAR = 1970, 9000

router = APIRouter(tags=["synchronization"])


class JobItem(SyncJobItem):
    """A sync job of any repository."""

    source_region: str = Field(serialization_alias="sourceRegionId")
    is_automatic: bool = Field(description="True if a rule started the job.")
    rule_id: int | None = Field(description="The rule that started the job or the one that it retries.")
    deadline_at: OptionalTime = Field(description="When the job times out.")


class JobAmount(CamelCaseModel):
    """Blobs and their bytes."""

    blobs: int
    bytes: int = Field(validation_alias="size")


class TimelineEvent(CamelCaseModel):
    """Something that happened to a job. Fields that do not concern it are left out."""

    at: OptionalTime = Field(description="When it happened; left out if that is not recorded.")
    event: str = Field(
        validation_alias="kind",
        description="`queued` (and `behind` which job), `started` (by which `worker`), `compared` (`digest` is what "
        "the target had), `planned`, `blob` (`method` is `uploaded`, `mounted` or `present`), `verified`, "
        "`tag_written`, `attempt_failed`, `interrupted` (the worker stopped, or the job was cancelled), `ended`; "
        "`blobs_omitted` and `attempts_omitted` where the timeline is cut.",
    )
    attempt: int | None
    worker: str
    behind: int | None
    digest: str
    bytes: int = Field(validation_alias="size", description="Bytes of the blob, or of all blobs of the plan.")
    count: int = Field(description="The number of blobs of the plan, or of omitted entries.")
    method: str
    mounted_from: str = Field(
        validation_alias="source",
        description="The repository that the blob was mounted from, if the caller may read it.",
    )
    status: str | None
    reason: str
    next_attempt_at: OptionalTime = Field(validation_alias="next_at")

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        return {name: value for name, value in fields.items() if value not in (None, "", 0)}


class JobDetailsItem(JobItem):
    """A sync job with its timeline."""

    blocked_by: int | None = Field(description="The earlier job with the same tag and target that it waits for.")
    uploaded: JobAmount = Field(description="Blobs that were transferred, with the bytes read for them.")
    mounted: JobAmount = Field(description="Blobs that the target mounted from other repositories.")
    present: JobAmount = Field(description="Blobs that the target already held at the last attempt.")
    timeline: list[TimelineEvent]

    @classmethod
    def of(cls, details: JobDetails) -> Self:
        """Return the response for a job."""
        return cls.model_validate(_Flat(details))


class _Flat:
    """A job's details with the attributes of the job itself."""

    def __init__(self, details: JobDetails) -> None:
        self._details = details
        self.timeline = details.events

    def __getattr__(self, name: str) -> Any:
        return getattr(self._details if name in ("uploaded", "mounted", "present") else self._details.job, name)


class JobList(CamelCaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobItem]
    next_marker: int | None = Field(
        description="The `marker` of the next page; null at the end of the list. A page can have fewer jobs than its "
        "limit, and even none, before the end: the search for jobs that match is limited in time."
    )


class SelectedJobs(BaseModel):
    """The jobs to cancel."""

    model_config = ConfigDict(strict=True)

    jobs: Items[int] = Field(description=f"Ids of jobs of any repositories, at most {bounds.JOBS_SELECTED}.")

    def ids(self) -> list[int]:
        """Return the ids without repetitions; raises Invalid."""
        if not self.jobs:
            raise Invalid("jobs", "must not be empty")
        for index, job_id in enumerate(self.jobs):
            if not 0 < job_id <= _LARGEST_ID:
                raise Invalid(f"jobs[{index}]", "must be the id of a sync job", job_id)
        return list(dict.fromkeys(self.jobs))


class RetriedJobs(SelectedJobs):
    """The jobs to retry."""

    override: bool = Field(
        False, description="Also retry jobs that ended as `existed`, and replace the images that the targets have."
    )


class CancelResult(CamelCaseModel):
    """The outcome for one of the selected jobs."""

    id: int = Field(validation_alias="job_id")
    cancelled: bool = Field(validation_alias="is_done")
    reason: str = Field(description="Why the job was not cancelled; empty if it was.")


class RetryResult(CamelCaseModel):
    """The outcome for one of the selected jobs."""

    id: int = Field(validation_alias="job_id")
    retried: bool = Field(validation_alias="is_done")
    job: int | None = Field(
        validation_alias="started", description="The job that repeats it: a new one, or the same if it was waiting."
    )
    reason: str = Field(description="Why the job was not retried; empty if it was.")


class CancelResults(CamelCaseModel):
    """The response of CancelSyncJobsOfAllRepositories."""

    jobs: list[CancelResult]


class RetryResults(CamelCaseModel):
    """The response of RetrySyncJobsOfAllRepositories."""

    request_id: str
    jobs: list[RetryResult]

    @classmethod
    def of(cls, request_id: str, results: list[JobResult]) -> Self:
        """Return the response for these results."""
        return cls(request_id=request_id, jobs=[RetryResult.model_validate(result) for result in results])


@router.get(JOBS, operation_id="ListSyncJobsOfAllRepositories")
async def list_jobs(
    context: RequestContext,
    status: Annotated[str, Query(description="One of these statuses, separated by commas.")] = "",
    region: Annotated[str, Query(description="The source region.")] = "",
    namespace: Annotated[str, Query(description="The source organization.")] = "",
    repository: Annotated[str, Query(description="The repository, or the beginning of its name and `*`.")] = "",
    remote_region: Annotated[str, Query(description="The target region.")] = "",
    remote_namespace: Annotated[str, Query(description="The target organization.")] = "",
    operator: Annotated[str, Query(description="The name of the user who requested the jobs, or an id.")] = "",
    request: Annotated[str, Query(description="The id of the request that created the jobs.")] = "",
    jobs: Annotated[
        str,
        Query(
            description=f"Only these jobs: ids separated by commas, at most {bounds.JOBS_SELECTED}. Cannot be combined "
            "with other parameters."
        ),
    ] = "",
    since: Annotated[str, Query(description="Created at this time (ISO 8601) or later.")] = "",
    until: Annotated[str, Query(description="Created before this time (ISO 8601).")] = "",
    marker: Annotated[str, Query(description="`nextMarker` of the previous page.")] = "",
    limit: Annotated[str, Query(description=f"Jobs on the page, at most {MAXIMUM_LIMIT}.")] = "",
) -> JobList:
    """List the sync jobs of all repositories that the caller may read, newest first.

    400 if there are none because a region, an organization or the user does not exist.
    """
    if jobs:
        return await _selected(jobs, context)
    size = parse_number({"limit": limit}, "limit", default=DEFAULT_LIMIT, least=1, most=MAXIMUM_LIMIT)
    wanted = JobFilter(
        statuses=parse_statuses(status),
        region=RegionId(region, field="region") if region else None,
        namespace=Namespace(namespace, field="namespace") if namespace else None,
        **_parse_repository(repository),
        target_region=RegionId(remote_region, field="remote_region") if remote_region else None,
        target_namespace=Namespace(remote_namespace, field="remote_namespace") if remote_namespace else None,
        operator=_parse_operator(operator),
        request=_parse_request(request),
        since=parse_time("since", since),
        until=parse_time("until", until),
    )
    page = await context.services.jobs.page(context.caller, wanted, limit=size, marker=parse_id("marker", marker))
    if not page.jobs and not marker and page.marker is None:
        await context.services.jobs.require_known(context.caller, wanted)
    return JobList(jobs=[JobItem.model_validate(job) for job in page.jobs], next_marker=page.marker)


@router.get(f"{JOBS}/{{job_id}}", operation_id="ShowSyncJobById")
async def show_job(job_id: str, context: RequestContext) -> JobDetailsItem:
    """Show a sync job of any repository that the caller may read, and what happened to it."""
    number = parse_id("job_id", job_id)
    if number is None:
        raise NotFound("sync job", job_id)
    return JobDetailsItem.of(await context.services.jobs.details(context.caller, number))


@router.post(f"{JOBS}/cancel", operation_id="CancelSyncJobsOfAllRepositories", dependencies=[Depends(require_json)])
async def cancel_jobs(body: SelectedJobs, context: RequestContext) -> CancelResults:
    """Cancel those of the selected jobs that have not ended and whose target the caller may write."""
    results = await context.services.jobs.cancel(context.caller, body.ids())
    return CancelResults(jobs=[CancelResult.model_validate(result) for result in results])


@router.post(
    f"{JOBS}/retry",
    operation_id="RetrySyncJobsOfAllRepositories",
    status_code=202,
    dependencies=[Depends(require_json)],
)
async def retry_jobs(body: RetriedJobs, context: RequestContext) -> RetryResults:
    """Synchronize again the tags of those of the selected jobs that ended as `failed`, `timeout` or `cancel`."""
    results = await context.services.jobs.retry(
        context.caller, body.ids(), request_id=context.request_id, override=body.override
    )
    return RetryResults.of(context.request_id, results)


async def _selected(text: str, context: SwrContext) -> JobList:
    """Return those of these jobs that exist and that the caller may read, newest first."""
    if set(context.request.query_params) != {"jobs"}:
        raise Invalid("jobs", "cannot be combined with other parameters")
    ids = dict.fromkeys(number for part in text.split(",") if (number := parse_id("jobs", part)) is not None)
    found = await context.services.jobs.some(context.caller, list(ids))
    return JobList(jobs=[JobItem.model_validate(job) for job in reversed(found)], next_marker=None)


def parse_statuses(text: str) -> frozenset[JobStatus]:
    """Parse statuses that are separated by commas; raises Invalid."""
    try:
        return frozenset(JobStatus(part) for part in text.split(",")) if text else frozenset()
    except ValueError:
        raise Invalid("status", f"must be one or more of {', '.join(JobStatus)}, separated by ','", text) from None


def parse_time(name: str, text: str) -> datetime | None:
    """Parse a date or a time, in UTC unless it has an offset; None for an empty text. Raises Invalid."""
    if not text:
        return None
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        if _FIRST_YEAR <= moment.year <= _LAST_YEAR:
            return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    raise Invalid(name, "must be a time such as 2024-05-06T07:08:09Z", text)


def parse_id(name: str, text: str) -> int | None:
    """Parse the id of a job; None for an empty text. Raises Invalid."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0):
        raise Invalid(name, "must be the id of a sync job", text)
    return int(text)


def _parse_repository(text: str) -> dict[str, Any]:
    """Parse a repository's name, or the beginning of names with `*` at the end; raises Invalid."""
    if not text.endswith("*"):
        return {"repository": Repository.from_path(text)} if text else {}
    if not re.fullmatch(r"[a-z0-9._/-]{0,128}\*", text):
        raise Invalid("repository", "may have only lowercase letters, digits, '.', '_', '-' and '/' before '*'", text)
    return {"prefix": text.removesuffix("*")}


def _parse_request(text: str) -> str:
    if len(text) > _LONGEST_NAME or not text.isprintable():
        raise Invalid("request", "must be the id of a request", text)
    return text


def _parse_operator(text: str) -> str:
    if len(text) > _LONGEST_NAME or not text.isprintable():
        raise Invalid("operator", "must be the name or the id of a user", text)
    return text
