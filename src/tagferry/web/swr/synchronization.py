"""`sync_images`, `sync_plan` and `sync_job`."""

import math
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, computed_field

from tagferry.copy.estimate import Estimate
from tagferry.copy.preflight import Verdict
from tagferry.copy.progress import ProgressSnapshot
from tagferry.errors import InvalidFilter, TagferryError
from tagferry.names import Namespace, RegionId, Repository, Tag
from tagferry.sync.jobs.model import JobStatus, SyncJob, SyncRequest
from tagferry.sync.jobs.reasons import describe, describe_gaps
from tagferry.sync.service import BRIEF_PREFLIGHT_SECONDS, StartedSync
from tagferry.web.bodies import require_json
from tagferry.web.items import Items
from tagferry.web.json_response import ModelResponse
from tagferry.web.response_models import CamelCaseModel, OptionalTime, ResponseModel, Time
from tagferry.web.swr.context import RequestContext, SwrContext
from tagferry.web.swr.paths import BELOW_REPOSITORY
from tagferry.web.swr.queries import Page, is_descending, parse_filter

router = APIRouter(tags=["synchronization"])
_YEAR_SECONDS = 366 * 24 * 3600


class SyncImagesBody(BaseModel):
    """The body of `sync_images` (SWR, "Manually Synchronizing Images", table 3)."""

    model_config = ConfigDict(strict=True)

    image_tags: Items[str] = Field(alias="imageTag", description="The tags to synchronize.")
    override: bool | None = Field(None, description="If true, replace a different image with the same tag.")
    remote_namespace: str = Field(alias="remoteNamespace", description="The target organization.")
    remote_region_id: str = Field(alias="remoteRegionId", description="The target region.")
    timeout_seconds: float | None = Field(
        None,
        alias="timeoutSeconds",
        gt=0,
        le=_YEAR_SECONDS,
        description="Extension of tagferry: seconds, including queue time, after which the tags end with `timeout`.",
    )


class Rewritten(CamelCaseModel):
    """The differences of an image at a target region that does not accept it unchanged."""

    digests: dict[str, str] = Field(description="The digest at the target for each changed digest at the source.")
    left_behind: list[str] = Field(description="Digests and tags that are not copied.")


_DEPRECATED: dict[str, Any] = {"deprecated": True}


def _progress(value_of: Callable[[ProgressSnapshot], float | None], rounded: Callable[[float], int] = int) -> Any:
    """Return the validator of a field that is read from a job's progress, as its worker reported it last."""

    def read(progress: ProgressSnapshot | None) -> int | None:
        value = None if progress is None else value_of(progress)
        return None if value is None else rounded(value)

    return BeforeValidator(read)


class SyncJobItem(CamelCaseModel):
    """A sync job. The fields from `requestId` on are extensions of tagferry."""

    id: int
    created_at: Time
    updated_at: Time
    domain_id: str = Field(serialization_alias="domainID")
    domain_name: str
    namespace: str
    repository: str = Field(serialization_alias="repoName")
    tag: str
    target_namespace: str = Field(serialization_alias="remoteNamespace")
    target_region: str = Field(serialization_alias="remoteRegionId")
    operator_id: str = Field(serialization_alias="syncOperatorId")
    operator_name: str = Field(serialization_alias="syncOperatorName")
    override: bool
    status: str
    request_id: str
    started_at: OptionalTime = Field(description="When a worker last started the job.")
    ended_at: OptionalTime
    attempts: int = Field(description="How often a worker started the job.")
    failures: int = Field(description="How many of the last attempts failed because a registry was unavailable.")
    next_attempt_at: OptionalTime = Field(description="When the job is retried, if it waits for that.")
    last_error: str | None = Field(description="The error of the last of these failures.")
    reason: str
    digest: str | None
    bytes_total: int
    bytes_done: int
    rewritten: Rewritten | None
    blobs_total: Annotated[int | None, _progress(lambda one: one.blobs_total)] = Field(validation_alias="snapshot")
    blobs_done: Annotated[int | None, _progress(lambda one: one.blobs_done)] = Field(validation_alias="snapshot")
    bytes_per_second: Annotated[int | None, _progress(lambda one: one.bytes_per_second, round)] = Field(
        validation_alias="snapshot"
    )
    seconds_left: Annotated[int | None, _progress(lambda one: one.seconds_left, math.ceil)] = Field(
        validation_alias="snapshot"
    )

    @computed_field(json_schema_extra=_DEPRECATED)
    def starts(self) -> int:
        """The former name of `attempts`."""
        return self.attempts


class PlannedTag(CamelCaseModel):
    """The plan of a tag.

    `action` is `copy`, `up_to_date`, `existed` (the tag has another image and `override` is false) or `failed` (the tag
    cannot be copied).
    """

    tag: str
    action: str
    reason: str
    source_digest: str | None
    target_digest: str | None
    blobs_to_copy: int
    bytes_to_copy: int
    bytes_to_mount: int
    bytes_present: int
    rewritten: Rewritten | None

    @computed_field(json_schema_extra=_DEPRECATED)
    def blobs_to_move(self) -> int:
        """The former name of `blobsToCopy`."""
        return self.blobs_to_copy

    @computed_field(json_schema_extra=_DEPRECATED)
    def bytes_to_move(self) -> int:
        """The former name of `bytesToCopy`."""
        return self.bytes_to_copy

    @classmethod
    def of(cls, tag: Tag, estimate: Estimate | TagferryError) -> Self:
        """Return the plan of a tag from its estimate, or from the error of a tag that cannot be copied."""
        found = Estimate(tag=tag, verdict=Verdict.MISSING) if isinstance(estimate, TagferryError) else estimate
        return cls(
            tag=tag,
            action=_ACTIONS[found.verdict],
            reason=_planned_reason(estimate),
            source_digest=found.source,
            target_digest=found.target,
            blobs_to_copy=found.blobs_to_copy,
            bytes_to_copy=found.to_copy,
            bytes_to_mount=found.to_mount,
            bytes_present=found.present,
            rewritten=found.rewritten,
        )


class SyncPlan(CamelCaseModel):
    """The response of `sync_plan`. Content that tags share is counted once, for the first of them."""

    tags: list[PlannedTag]
    bytes_to_copy: int

    @computed_field(json_schema_extra=_DEPRECATED)
    def bytes_to_move(self) -> int:
        """The former name of `bytesToCopy`."""
        return self.bytes_to_copy


class StartedJob(ResponseModel):
    """A job that was started or joined."""

    id: int
    tag: str


class Started(ResponseModel):
    """The response of RetrySyncJobs, and of an asynchronous `sync_images`."""

    request_id: str
    jobs: list[StartedJob] = Field(description="Empty if no job had failed.")

    @classmethod
    def of(cls, request_id: str, started: Iterable[StartedSync]) -> Self:
        """Return the response for jobs that were started without waiting for them."""
        jobs = [StartedJob(id=job_id, tag=tag) for one in started for tag, job_id in one.job_ids.items()]
        return cls(request_id=request_id, jobs=jobs)


@router.post(
    f"{BELOW_REPOSITORY}/sync_images",
    operation_id="CreateManualImageSyncRepo",
    response_model=list[str],
    dependencies=[Depends(require_json)],
)
async def sync_images(
    namespace: str,
    repository: str,
    body: SyncImagesBody,
    context: RequestContext,
    prefer: Annotated[str, Header(description="RFC 7240: `wait=N` (seconds) or `respond-async`.")] = "",
) -> list[Tag] | Response:
    """Synchronize tags to another region, wait for them, and return those that failed."""
    sync, settings = context.services.sync, context.settings.sync
    request = _sync_request(namespace, repository, body, context)
    if _prefers_async(prefer):
        started = await sync.start(request, seconds=BRIEF_PREFLIGHT_SECONDS)
        accepted = Started.of(context.request_id, [started])
        return ModelResponse(accepted, status_code=202, headers={"Preference-Applied": "respond-async"})
    preferred = _preferred_wait(prefer)
    seconds = settings.wait_seconds if preferred is None else min(preferred, settings.max_wait_seconds)
    started = await sync.start(request, seconds=seconds / 2)
    with context.waiting:
        failed = await sync.wait(started, seconds=seconds)
    if preferred is not None:
        context.response.headers["Preference-Applied"] = f"wait={seconds:g}"
    return failed


@router.post(
    f"{BELOW_REPOSITORY}/sync_plan",
    operation_id="PlanManualImageSync",
    dependencies=[Depends(require_json)],
)
async def sync_plan(namespace: str, repository: str, body: SyncImagesBody, context: RequestContext) -> SyncPlan:
    """Show what `sync_images` with the same body would copy, without copying. An extension of tagferry."""
    estimates = await context.services.sync.plan(_sync_request(namespace, repository, body, context))
    tags = [PlannedTag.of(tag, estimate) for tag, estimate in estimates.items()]
    return SyncPlan(tags=tags, bytes_to_copy=sum(tag.bytes_to_copy for tag in tags))


@router.get(f"{BELOW_REPOSITORY}/sync_job", operation_id="ShowSyncJob", response_model=list[SyncJobItem])
async def sync_jobs(
    namespace: str,
    repository: str,
    context: RequestContext,
    limit: str | None = None,
    offset: str | None = None,
    order: str | None = None,
    filter_: Annotated[str | None, Query(alias="filter")] = None,
) -> list[SyncJob]:
    """List the sync jobs of a repository, newest first.

    In addition to SWR's `limit`, `offset` and `order`, the filter supports `jobs::1,2,3` (job ids), `request::ID` (the
    jobs of a request) and `status::failed,timeout` (one of these statuses).
    """
    parameters = {"limit": limit, "offset": offset, "order": order, **parse_filter(filter_)}
    page = Page.parse(parameters)
    jobs, total = await context.services.sync.jobs_of(
        context.caller,
        context.region.id,
        Namespace(namespace),
        Repository.from_path(repository),
        limit=page.limit,
        offset=page.offset,
        descending=is_descending(parameters, "order", default=True),
        only=_job_ids(parameters.get("jobs") or ""),
        request_id=parameters.get("request") or None,
        statuses=_statuses(parameters.get("status") or ""),
    )
    context.response.headers.update(page.content_range(count=len(jobs), total=total))
    return jobs


def _sync_request(namespace: str, repository: str, body: SyncImagesBody, context: SwrContext) -> SyncRequest:
    tags = dict.fromkeys(Tag(tag, field=f"imageTag[{index}]") for index, tag in enumerate(body.image_tags))
    return SyncRequest(
        id=context.request_id,
        caller=context.caller,
        source_region=context.region.id,
        namespace=Namespace(namespace),
        repository=Repository.from_path(repository),
        tags=tuple(tags),
        target_region=RegionId(body.remote_region_id, field="remoteRegionId"),
        target_namespace=Namespace(body.remote_namespace, field="remoteNamespace"),
        override=bool(body.override),
        seconds=body.timeout_seconds,
    )


def _prefers_async(prefer: str) -> bool:
    return "respond-async" in (part.strip().lower() for part in re.split(r"[,;]", prefer))


def _preferred_wait(prefer: str) -> float | None:
    """Return the wait in seconds. An invalid preference is ignored, as RFC 7240 requires."""
    match = re.search(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,18})"?\s*(?:$|[,;])', prefer, re.IGNORECASE)
    return float(match[1]) if match else None


def _job_ids(text: str) -> list[int]:
    if not text:
        return []
    if not re.fullmatch(r"\d{1,18}(,\d{1,18})*", text):
        raise InvalidFilter("filter", "must have job ids separated by ',' in jobs", text)
    return [int(part) for part in text.split(",")]


def _statuses(text: str) -> list[JobStatus]:
    try:
        return [JobStatus(part) for part in text.split(",")] if text else []
    except ValueError:
        known = ", ".join(JobStatus)
        raise InvalidFilter("filter", f"must have statuses separated by ',' in status, out of {known}", text) from None


_ACTIONS = {
    Verdict.COPY: "copy",
    Verdict.UP_TO_DATE: "up_to_date",
    Verdict.BLOCKED: "existed",
    Verdict.MISSING: "failed",
}


def _planned_reason(estimate: Estimate | TagferryError) -> str:
    if isinstance(estimate, TagferryError):
        return estimate.message
    if estimate.verdict is Verdict.COPY:
        return "; ".join(describe_gaps(estimate.gaps))
    return describe(estimate.verdict, estimate.rewritten, estimate.gaps)[1]
