"""Cancel and retry sync jobs. These operations are extensions of tagferry."""

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from tagferry.errors import Invalid, MissingField
from tagferry.names import Namespace, Repository
from tagferry.sync.jobs.model import JobSelection
from tagferry.web.bodies import require_json
from tagferry.web.items import Items
from tagferry.web.response_models import ResponseModel
from tagferry.web.swr.context import RequestContext, SwrContext
from tagferry.web.swr.paths import BELOW_REPOSITORY
from tagferry.web.swr.synchronization import Started

router = APIRouter(tags=["synchronization"], dependencies=[Depends(require_json)])
_LARGEST_ID = 10**18 - 1


class JobsBody(BaseModel):
    """The selected jobs: either `jobs` or `requestId`."""

    model_config = ConfigDict(strict=True)

    jobs: Items[int] | None = Field(None, description="Ids of jobs. Ids that are not of this repository are ignored.")
    request_id: str | None = Field(None, alias="requestId", description="The request whose jobs are selected.")


class Cancelled(ResponseModel):
    """The response of CancelSyncJobs."""

    cancelled: list[int] = Field(description="The ids of the jobs that were cancelled.")


@router.post(f"{BELOW_REPOSITORY}/sync_job/cancel", operation_id="CancelSyncJobs")
async def cancel_jobs(namespace: str, repository: str, body: JobsBody, context: RequestContext) -> Cancelled:
    """Cancel the selected jobs that have not ended. `sync_images` then lists their tags as failed."""
    selection = _selection(namespace, repository, body, context)
    return Cancelled(cancelled=await context.services.sync.cancel(context.caller, selection))


@router.post(f"{BELOW_REPOSITORY}/sync_job/retry", operation_id="RetrySyncJobs", status_code=202)
async def retry_jobs(namespace: str, repository: str, body: JobsBody, context: RequestContext) -> Started:
    """Synchronize again the tags of those of the named jobs that ended as `failed`, `timeout` or `cancel`."""
    selection = _selection(namespace, repository, body, context)
    retried = await context.services.sync.retry(context.caller, selection, request_id=context.request_id)
    return Started.of(context.request_id, retried)


def _selection(namespace: str, repository: str, body: JobsBody, context: SwrContext) -> JobSelection:
    if body.jobs is None and body.request_id is None:
        raise MissingField("jobs or requestId")
    if body.jobs is not None and body.request_id is not None:
        raise Invalid("jobs", "and requestId cannot be combined")
    if body.request_id == "" or body.jobs == []:
        raise Invalid("jobs" if body.jobs is not None else "requestId", "must not be empty")
    for index, job_id in enumerate(body.jobs or []):
        if not 0 < job_id <= _LARGEST_ID:
            raise Invalid(f"jobs[{index}]", "must be the id of a sync job", job_id)
    return JobSelection(
        region=context.region.id,
        namespace=Namespace(namespace),
        repository=Repository.from_path(repository),
        jobs=frozenset(body.jobs or ()),
        request_id=body.request_id,
    )
