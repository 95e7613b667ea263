"""The list of processes, an extension of tagferry for administrators."""

from fastapi import APIRouter
from pydantic import Field

from tagferry.web.response_models import CamelCaseModel, Time
from tagferry.web.swr.context import RequestContext
from tagferry.workers import ProcessInfo

router = APIRouter(tags=["administration"])


class WorkerItem(CamelCaseModel):
    """A process that works on the database of this server."""

    name: str = Field(description="Its host and process id.")
    version: str
    regions: list[str] = Field(description="The regions that it serves; empty for `tagferry worker`.")
    slots: int = Field(description="How many jobs it may run at once; 0 if it runs none.")
    running: int = Field(description="How many jobs it was running when it was last seen.")
    is_leader: bool = Field(
        serialization_alias="leader",
        description="True for the process that does the work that only one may do.",
    )
    started_at: Time
    seen_at: Time = Field(serialization_alias="lastSeenAt", description="Updated every ten seconds.")
    is_lost: bool = Field(serialization_alias="lost", description="True once it has not been seen for 45 seconds.")


@router.get("/v2/manage/workers", operation_id="ListWorkers", response_model=list[WorkerItem])
async def list_workers(context: RequestContext) -> list[ProcessInfo]:
    """List the processes that work on the database. Only administrators may. An extension of tagferry."""
    return await context.services.processes.all(context.caller)
