"""What there is in all: the overview, quotas, reports, features and versions of the API."""

from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from tagferry.catalog.contents import Question
from tagferry.concurrency import each
from tagferry.errors import NotFound
from tagferry.web.context import Context, RequestContext
from tagferry.web.iam.versions import KeystoneVersions, list_versions
from tagferry.web.json_response import JSONResponse
from tagferry.web.swr.repository_views import list_readable, view

router = APIRouter(tags=["overview"])
_AT_ONCE = 4
_VERSION = "v2"


class Overview(BaseModel):
    """The answer of ShowDomainOverview; SWR writes the first of the numbers so."""

    domain_id: str
    domain_name: str
    namspace_num: int
    repo_num: int
    image_num: int
    store_space: float
    downflow_size: float | None = None


class Quotas(BaseModel):
    """The answer of ListQuotas."""

    quotas: list[dict[str, Any]]


class FeatureGates(BaseModel):
    """The answer of ShowShareFeatureGates: which of SWR's features there are here."""

    enable_experience: bool = False
    enable_hss_service: bool = False
    enable_image_scan: bool = False
    enable_sm3: bool = False
    enable_image_sync: bool = True
    enable_cci_service: bool = False
    enable_image_label: bool = False
    enable_pipeline: bool = False
    enable_authorization_token: bool = True
    enable_resource: bool = False
    enable_list_v3: bool = True
    enable_image_quota: bool = False


class ReportItem(BaseModel):
    """A number of a day."""

    date: str
    value: float


class VersionLink(BaseModel):
    """Where a version is."""

    href: str
    rel: str


class Version(BaseModel):
    """A version of the API; it has no microversions."""

    id: str
    links: VersionLink
    version: str
    status: str
    updated: str
    min_version: str


class Versions(BaseModel):
    """The answer of ListApiVersions."""

    versions: list[Version]


class ShownVersion(BaseModel):
    """The answer of ShowApiVersion."""

    version: Version


@router.get("/v2/manage/overview", operation_id="ShowDomainOverview", response_model=Overview)
async def overview(context: RequestContext) -> dict[str, Any]:
    """Count what the caller may read in this region; a blob counts once in each repository."""
    readable = await context.services.access.readable(context.caller, context.region.id)
    entries = await list_readable(context, readable)
    question = Question(context.region.store)
    views = await each(entries, lambda entry: view(context, entry, question), at_once=_AT_ONCE)
    return {
        "domain_id": context.caller.domain_id,
        "domain_name": context.caller.domain_name,
        "namspace_num": len({*readable.organizations, *(entry.name.partition("/")[0] for entry in entries)}),
        "repo_num": len(entries),
        "image_num": sum(len(one.details.tags) for one in views),
        "store_space": float(sum(one.details.size for one in views)),
    }


@router.get("/v2/manage/projects/{project_id}/quotas", operation_id="ListQuotas", response_model=Quotas)
async def quotas(project_id: str, context: RequestContext) -> dict[str, Any]:
    """List the quotas, of which there are none."""
    return {"quotas": []}


@router.get(
    "/v2/manage/projects/{project_id}/feature-gates", operation_id="ShowShareFeatureGates", response_model=FeatureGates
)
async def feature_gates(project_id: str, context: RequestContext) -> FeatureGates:
    """Tell which of SWR's features there are."""
    return FeatureGates()


@router.get(
    "/v2/manage/reports/{resource_type}/{frequency}",
    operation_id="ShowDomainResourceReports",
    response_model=list[ReportItem],
)
async def reports(
    resource_type: Literal["store", "downflow"], frequency: str, context: RequestContext
) -> list[ReportItem]:
    """List how a number went; nothing of that is kept, so there is nothing to list."""
    return []


@router.get(
    "/",
    operation_id="ListApiVersions",
    response_model=Versions,
    responses={300: {"model": KeystoneVersions, "description": "The versions of IAM, without credentials"}},
)
async def versions(context: RequestContext) -> Response:
    """List the versions of SWR's API; without credentials, those of IAM's."""
    if context.known_caller is None:
        return JSONResponse(list_versions(context), status_code=300)
    return JSONResponse({"versions": [_version(context)]})


@router.get("/{api_version}", operation_id="ShowApiVersion", response_model=ShownVersion)
async def show_version(api_version: str, context: RequestContext) -> dict[str, Any]:
    """Show a version of the API."""
    if api_version != _VERSION:
        raise NotFound("API version", api_version, f"the only one is {_VERSION}")
    return {"version": _version(context)}


def _version(context: Context) -> dict[str, Any]:
    return {
        "id": _VERSION,
        "links": {"href": f"{context.base_url}/{_VERSION}/", "rel": "self"},
        "version": "",
        "status": "CURRENT",
        "updated": "",
        "min_version": "",
    }
