"""The list of target regions, and their health."""

from typing import Any, Self

from fastapi import APIRouter
from pydantic import Field

from tagferry.health.model import HealthState, RegionHealth
from tagferry.names import RegionId
from tagferry.regions import Region
from tagferry.registry.storage.store import DiskStore
from tagferry.remote import RemoteStore
from tagferry.web.response_models import CamelCaseModel, OptionalTime, Time
from tagferry.web.swr.context import RequestContext, SwrContext

router = APIRouter(tags=["synchronization"])
_REGIONS = "/v2/manage/regions"
_REGION = f"{_REGIONS}/{{region_id}}"


class RegionHealthItem(CamelCaseModel):
    """The last known health of a region's registry. Fields whose values are unknown are missing."""

    state: HealthState = Field(
        description="`ok`; `refused`: it answers, but refuses tagferry's credentials, or is no registry; "
        "`unreachable`; `unwritable`: an embedded registry cannot write to its disk."
    )
    reason: str | None = Field(None, description="Why the state is not `ok`. For administrators.")
    since: Time = Field(description="Since when it has this state.")
    checked_at: Time
    latency: float | None = Field(
        None, serialization_alias="latencySeconds", description="Time to the first byte of the last response."
    )
    smoothed_latency: float | None = Field(
        None, serialization_alias="averageLatencySeconds", description="An average in which newer latencies count more."
    )
    certificate_expires_at: OptionalTime = None
    throttled_until: OptionalTime = Field(None, description="Until when the registry has asked tagferry to wait.")
    disk_free: int | None = Field(
        None, serialization_alias="diskFreeBytes", description="Free space of an embedded registry. For administrators."
    )
    disk_total: int | None = Field(None, serialization_alias="diskTotalBytes", description="For administrators.")

    @classmethod
    def of(cls, health: RegionHealth | None, context: SwrContext) -> Self | None:
        """Return what the caller may see of a region's health, if it is known."""
        if health is None:
            return None
        item = cls.model_validate(health)
        if not context.caller.is_admin:
            item.reason = item.disk_free = item.disk_total = None
        item.reason = item.reason or None
        return item


class RegionItem(CamelCaseModel):
    """A region that images can be synchronized to."""

    id: str = Field(serialization_alias="regionID")
    paused_since: OptionalTime = Field(
        None,
        description="Extension of tagferry: present while this process has paused the region's jobs because its "
        "registry does not answer; the start of the pause.",
    )
    health: RegionHealthItem | None = Field(
        None, description="Extension of tagferry: present if the region was checked within a day."
    )


class RegionLoad(CamelCaseModel):
    """The load of a registry by the process that answers."""

    requests: int = Field(description="Requests in progress.")
    max_requests: int = Field(description="The maximum at present: `max_connections`, or fewer after refusals.")
    requests_a_second: float | None = Field(
        None,
        serialization_alias="requestsPerSecond",
        description="The rate limit, if the registry has refused requests.",
    )


class RegionDetails(RegionItem):
    """A region with what is known of its registry. `capabilities` and `load` are for administrators."""

    url: str = Field(description="The registry's URL, as clients use it.")
    is_embedded: bool = Field(serialization_alias="embedded")
    capabilities: dict[str, Any] | None = Field(
        None, description="The abilities of the registry, as learned from its responses within a day."
    )
    load: RegionLoad | None = None


@router.get(_REGIONS, operation_id="ListSyncRegions", response_model_exclude_none=True)
async def list_regions(context: RequestContext) -> list[RegionItem]:
    """List the regions that images can be synchronized to."""
    pauses, health = context.services.sync.paused_regions, await context.services.health.health()
    return [
        RegionItem(
            id=region.id,
            paused_since=pauses[region.id].since if region.id in pauses else None,
            health=RegionHealthItem.of(health.get(region.id), context),
        )
        for region in context.services.regions
    ]


@router.get(_REGION, operation_id="ShowRegion", response_model_exclude_none=True)
async def show_region(region_id: str, context: RequestContext) -> RegionDetails:
    """Show a region, its health and what is known of its registry. An extension of tagferry."""
    region = context.services.regions[RegionId(region_id)]
    health = (await context.services.health.health()).get(region.id)
    return await _details(region, health, context)


@router.post(f"{_REGION}/check", operation_id="CheckRegion", response_model_exclude_none=True)
async def check_region(region_id: str, context: RequestContext) -> RegionDetails:
    """Check a region's registry now, and show the region. Only administrators may. An extension of tagferry."""
    region = context.services.regions[RegionId(region_id)]
    with context.waiting:
        health = await context.services.health.check_now(context.caller, region.id)
    return await _details(region, health, context)


async def _details(region: Region, health: RegionHealth | None, context: SwrContext) -> RegionDetails:
    pause, store = context.services.sync.paused_regions.get(region.id), region.store
    details = RegionDetails(
        id=region.id,
        url=region.url,
        is_embedded=isinstance(store, DiskStore),
        paused_since=None if pause is None else pause.since,
        health=RegionHealthItem.of(health, context),
    )
    if context.caller.is_admin and isinstance(store, RemoteStore):
        details.capabilities = (await store.capabilities()).to_json()
        details.load = RegionLoad.model_validate(store.load)
    return details
