"""`sync_images`, `sync_plan`, `sync_job` and the list of target regions."""

import math
import re
from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from tagferry.copy.estimate import Estimate
from tagferry.copy.preflight import Verdict
from tagferry.copy.progress import ProgressSnapshot
from tagferry.copy.rewrite import Rewrite
from tagferry.errors import InvalidFilter, TagferryError
from tagferry.names import Namespace, RegionId, Repository, Tag
from tagferry.sync.jobs.model import JobStatus, SyncJob, SyncRequest
from tagferry.sync.jobs.reasons import describe, describe_gaps
from tagferry.sync.service import BRIEF_PREFLIGHT_SECONDS, StartedSync
from tagferry.web.bodies import require_json
from tagferry.web.context import Context, RequestContext
from tagferry.web.formats import date
from tagferry.web.items import Items
from tagferry.web.json_response import JSONResponse
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


class RegionItem(BaseModel):
    """A region that images can be synchronized to."""

    regionID: str  # noqa: N815
    pausedSince: str | None = Field(  # noqa: N815
        None,
        description="Extension of tagferry: present while this process has paused the region's jobs because its "
        "registry does not answer; the start of the pause.",
    )


class Rewritten(BaseModel):
    """The differences of an image at a target region that does not accept it unchanged."""

    digests: dict[str, str] = Field(description="The digest at the target for each changed digest at the source.")
    leftBehind: list[str] = Field(description="Digests and tags that are not copied.")  # noqa: N815


class SyncJobItem(BaseModel):
    """A sync job. The fields from `requestId` on are extensions of tagferry."""

    id: int
    createdAt: str  # noqa: N815
    updatedAt: str  # noqa: N815
    domainID: str  # noqa: N815
    domainName: str  # noqa: N815
    namespace: str
    repoName: str  # noqa: N815
    tag: str
    remoteNamespace: str  # noqa: N815
    remoteRegionId: str  # noqa: N815
    syncOperatorId: str  # noqa: N815
    syncOperatorName: str  # noqa: N815
    override: bool
    status: str
    requestId: str  # noqa: N815
    startedAt: str | None = Field(description="When a worker last started the job.")  # noqa: N815
    endedAt: str | None  # noqa: N815
    starts: int = Field(description="How often a worker started the job.")
    attempts: int = Field(description="The number of consecutive failures because a registry was unavailable.")
    nextAttemptAt: str | None = Field(description="When the job is retried, if it waits for that.")  # noqa: N815
    lastError: str | None = Field(description="The error of the last of these attempts.")  # noqa: N815
    reason: str
    digest: str | None
    bytesTotal: int  # noqa: N815
    bytesDone: int  # noqa: N815
    rewritten: Rewritten | None
    blobsTotal: int | None  # noqa: N815
    blobsDone: int | None  # noqa: N815
    bytesPerSecond: int | None  # noqa: N815
    secondsLeft: int | None  # noqa: N815


class PlannedTag(BaseModel):
    """The plan of a tag.

    `action` is `copy`, `in place` (up to date), `existed` (the tag has another image and `override` is false) or
    `failed` (the tag cannot be copied).
    """

    tag: str
    action: str
    reason: str
    sourceDigest: str | None  # noqa: N815
    targetDigest: str | None  # noqa: N815
    blobsToMove: int  # noqa: N815
    bytesToMove: int  # noqa: N815
    bytesToMount: int  # noqa: N815
    bytesPresent: int  # noqa: N815
    rewritten: Rewritten | None


class SyncPlan(BaseModel):
    """The response of `sync_plan`. Content that tags share is counted once, for the first of them."""

    tags: list[PlannedTag]
    bytesToMove: int  # noqa: N815


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
) -> Response:
    """Synchronize tags to another region, wait for them, and return those that failed."""
    sync, settings = context.services.sync, context.services.settings.sync
    request = _sync_request(namespace, repository, body, context)
    if _prefers_async(prefer):
        started = await sync.start(request, seconds=BRIEF_PREFLIGHT_SECONDS)
        return accepted(context, [started], headers={"Preference-Applied": "respond-async"})
    preferred = _preferred_wait(prefer)
    seconds = settings.wait_seconds if preferred is None else min(preferred, settings.max_wait_seconds)
    started = await sync.start(request, seconds=seconds / 2)
    with context.waiting:
        failed = await sync.wait(started, seconds=seconds)
    headers = {} if preferred is None else {"Preference-Applied": f"wait={seconds:g}"}
    return JSONResponse(failed, headers=headers)


@router.post(
    f"{BELOW_REPOSITORY}/sync_plan",
    operation_id="PlanManualImageSync",
    response_model=SyncPlan,
    dependencies=[Depends(require_json)],
)
async def sync_plan(namespace: str, repository: str, body: SyncImagesBody, context: RequestContext) -> dict[str, Any]:
    """Show what `sync_images` with the same body would copy, without copying. An extension of tagferry."""
    estimates = await context.services.sync.plan(_sync_request(namespace, repository, body, context))
    tags = [_planned(tag, estimate) for tag, estimate in estimates.items()]
    return {"tags": tags, "bytesToMove": sum(tag["bytesToMove"] for tag in tags)}


@router.get(f"{BELOW_REPOSITORY}/sync_job", operation_id="ShowSyncJob", response_model=list[SyncJobItem])
async def sync_jobs(
    namespace: str,
    repository: str,
    context: RequestContext,
    filter_: Annotated[str | None, Query(alias="filter")] = None,
) -> Response:
    """List the sync jobs of a repository, newest first.

    In addition to SWR's `limit`, `offset` and `order`, the filter supports `jobs::1,2,3` (job ids), `request::ID` (the
    jobs of a request) and `status::failed,timeout` (one of these statuses).
    """
    parameters = parse_filter(filter_)
    page = Page.parse(parameters)
    jobs, total = await context.services.sync.jobs_of(
        context.caller,
        context.region.id,
        Namespace(namespace),
        Repository.from_path(repository),
        limit=page.limit,
        offset=page.offset,
        descending=is_descending(parameters, "order", default=True),
        only=_job_ids(parameters.get("jobs", "")),
        request_id=parameters.get("request") or None,
        statuses=_statuses(parameters.get("status", "")),
    )
    return JSONResponse([_item(job) for job in jobs], headers=page.content_range(count=len(jobs), total=total))


@router.get(
    "/v2/manage/regions",
    operation_id="ListSyncRegions",
    response_model=list[RegionItem],
    response_model_exclude_none=True,
)
async def list_regions(context: RequestContext) -> list[dict[str, str]]:
    """List the regions that images can be synchronized to."""
    pauses = context.services.sync.paused_regions
    return [
        {"regionID": region.id} | ({"pausedSince": date(pauses[region.id].since)} if region.id in pauses else {})
        for region in context.services.regions
    ]


def accepted(context: Context, started: Iterable[StartedSync], *, headers: dict[str, str] | None = None) -> Response:
    """Return the response for jobs that were started without waiting for them."""
    jobs = [{"id": job_id, "tag": tag} for one in started for tag, job_id in one.job_ids.items()]
    return JSONResponse({"request_id": context.request_id, "jobs": jobs}, status_code=202, headers=headers)


def _sync_request(namespace: str, repository: str, body: SyncImagesBody, context: Context) -> SyncRequest:
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


_ACTIONS = {Verdict.COPY: "copy", Verdict.UP_TO_DATE: "in place", Verdict.BLOCKED: "existed", Verdict.MISSING: "failed"}


def _planned(tag: Tag, estimate: Estimate | TagferryError) -> dict[str, Any]:
    found = Estimate(tag=tag, verdict=Verdict.MISSING) if isinstance(estimate, TagferryError) else estimate
    if isinstance(estimate, TagferryError):
        reason = estimate.message
    else:
        told = describe(estimate.verdict, estimate.rewritten, estimate.gaps)[1]
        reason = "; ".join(describe_gaps(estimate.gaps)) if estimate.verdict is Verdict.COPY else told
    return {
        "tag": tag,
        "action": _ACTIONS[found.verdict],
        "reason": reason,
        "sourceDigest": found.source,
        "targetDigest": found.target,
        "blobsToMove": found.blobs_to_move,
        "bytesToMove": found.to_move,
        "bytesToMount": found.to_mount,
        "bytesPresent": found.present,
        "rewritten": _rewritten(found.rewritten),
    }


def _rewritten(rewritten: Rewrite | None) -> dict[str, Any] | None:
    if rewritten is None:
        return None
    return {"digests": dict(rewritten.digests), "leftBehind": list(rewritten.left_behind)}


def _item(job: SyncJob) -> dict[str, Any]:
    return {
        "id": job.id,
        "createdAt": date(job.created_at),
        "updatedAt": date(job.updated_at),
        "domainID": job.domain_id,
        "domainName": job.domain_name,
        "namespace": job.namespace,
        "repoName": job.repository,
        "tag": job.tag,
        "remoteNamespace": job.target_namespace,
        "remoteRegionId": job.target_region,
        "syncOperatorId": job.operator_id,
        "syncOperatorName": job.operator_name,
        "override": job.override,
        "status": job.status.value,
        "requestId": job.request_id,
        "startedAt": date(job.started_at) if job.started_at else None,
        "endedAt": date(job.ended_at) if job.ended_at else None,
        "starts": job.attempts,
        "attempts": job.failures,
        "nextAttemptAt": date(job.next_attempt_at) if job.next_attempt_at else None,
        "lastError": job.last_error,
        "reason": job.reason,
        "digest": job.digest,
        "bytesTotal": job.bytes_total,
        "bytesDone": job.bytes_done,
        "rewritten": _rewritten(job.rewritten),
        **_snapshot(job.snapshot),
    }


def _snapshot(snapshot: ProgressSnapshot | None) -> dict[str, int | None]:
    if snapshot is None:
        return dict.fromkeys(("blobsTotal", "blobsDone", "bytesPerSecond", "secondsLeft"))
    rate, left = snapshot.bytes_per_second, snapshot.seconds_left
    return {
        "blobsTotal": snapshot.blobs_total,
        "blobsDone": snapshot.blobs_done,
        "bytesPerSecond": None if rate is None else round(rate),
        "secondsLeft": None if left is None else math.ceil(left),
    }
