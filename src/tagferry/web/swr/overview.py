"""The overview, quotas, reports, feature gates and API versions."""

from typing import Literal

from fastapi import APIRouter

from tagferry.accounts.model import Permission
from tagferry.errors import NotFound
from tagferry.names import Namespace
from tagferry.quotas import UNLIMITED, Limits
from tagferry.registry.storage.quotas import Usage
from tagferry.registry.storage.store import DiskStore
from tagferry.web.iam.versions import KeystoneVersions
from tagferry.web.json_response import ModelResponse
from tagferry.web.response_models import ResponseModel
from tagferry.web.swr.context import RequestContext, SwrContext

router = APIRouter(tags=["overview"])
_OWN = 100
_VERSION = "v2"

QuotaKey = Literal["namespace", "repository", "storage", "upload"]


class Overview(ResponseModel):
    """The response of ShowDomainOverview. `namspace_num` is SWR's spelling."""

    domain_id: str
    domain_name: str
    namspace_num: int
    repo_num: int
    image_num: int
    store_space: float
    downflow_size: float | None = None


class QuotaItem(ResponseModel):
    """A quota with its usage and its limit; -1 means unlimited."""

    quota_key: QuotaKey
    quota_limit: int
    used: int
    unit: str = ""


class Quotas(ResponseModel):
    """The response of ListQuotas."""

    quotas: list[QuotaItem]


class FeatureGates(ResponseModel):
    """The response of ShowShareFeatureGates: the supported features of SWR."""

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


class ReportItem(ResponseModel):
    """The value of a day."""

    date: str
    value: float


class VersionLink(ResponseModel):
    """A link to a version."""

    href: str
    rel: str


class Version(ResponseModel):
    """A version of the API, without microversions."""

    id: str
    links: VersionLink
    version: str
    status: str
    updated: str
    min_version: str


class Versions(ResponseModel):
    """The response of ListApiVersions."""

    versions: list[Version]


class ShownVersion(ResponseModel):
    """The response of ShowApiVersion."""

    version: Version


@router.get("/v2/manage/overview", operation_id="ShowDomainOverview")
async def overview(context: RequestContext) -> Overview:
    """Count the organizations, repositories, images and bytes that the caller can read in this region.

    A blob counts once in each repository.
    """
    readable = await context.services.access.readable(context.caller, context.region.id)
    entries = await context.services.repository_inventory.list_readable(context.region, readable)
    described = await context.services.repository_inventory.described(context.region, entries.names)
    return Overview(
        domain_id=context.caller.domain_id,
        domain_name=context.caller.domain_name,
        namspace_num=len({*readable.organizations, *(name.unchecked_namespace for name in entries.names)}),
        repo_num=len(entries),
        image_num=sum(len(one.tags) for one in described),
        store_space=sum(one.size for one in described),
    )


@router.get("/v2/manage/projects/{project_id}/quotas", operation_id="ListQuotas")
async def quotas(project_id: str, context: RequestContext, namespace: str | None = None) -> Quotas:
    """List the caller's quota of organizations, and the quotas of one organization.

    Without `namespace`, it is the caller's organization that stores most, out of the first hundred by name.
    """
    region, services = context.region, context.services
    created = await services.quotas.created_by(region.id, context.caller.user_id)
    listed = [_quota("namespace", services.organization_inventory.limit(context.caller), created)]
    if namespace:
        name = Namespace(namespace)
        await services.access.require_organization(context.caller, region.id, name, Permission.READ)
        return Quotas(quotas=[*listed, *await _quotas_of(context, name)])
    mine = await services.organizations.list_for(context.caller, region.id)
    own = [one.name for one in mine if one.creator_id == context.caller.user_id][:_OWN]
    each_of = [await _quotas_of(context, name) for name in own] or [_listed(Limits(), Usage(), set())]
    fullest = max(each_of, key=lambda items: [item.used for item in items if item.quota_key == "storage"])
    return Quotas(quotas=[*listed, *fullest])


async def _quotas_of(context: SwrContext, name: Namespace) -> list[QuotaItem]:
    quotas, region = context.services.quotas, context.region
    usage = await region.store.quotas.usage(name) if isinstance(region.store, DiskStore) else Usage()
    return _listed(await quotas.limits(region.id, name), usage, await quotas.recorded(region.id, name))


def _listed(limits: Limits, usage: Usage, recorded: set[str]) -> list[QuotaItem]:
    return [
        _quota("repository", limits.repositories, len(usage.repositories | recorded)),
        _quota("storage", limits.bytes, usage.bytes, unit="B"),
        _quota("upload", limits.uploads, len(usage.uploads)),
    ]


def _quota(key: QuotaKey, limit: int | None, used: int, *, unit: str = "") -> QuotaItem:
    return QuotaItem(quota_key=key, quota_limit=UNLIMITED if limit is None else limit, used=used, unit=unit)


@router.get("/v2/manage/projects/{project_id}/feature-gates", operation_id="ShowShareFeatureGates")
async def feature_gates(project_id: str, context: RequestContext) -> FeatureGates:
    """Show which features of SWR are supported."""
    return FeatureGates()


@router.get("/v2/manage/reports/{resource_type}/{frequency}", operation_id="ShowDomainResourceReports")
async def reports(
    resource_type: Literal["store", "downflow"], frequency: str, context: RequestContext
) -> list[ReportItem]:
    """List the daily values of a resource. The list is always empty, since tagferry does not record them."""
    return []


@router.get(
    "/",
    operation_id="ListApiVersions",
    response_model=Versions,
    responses={300: {"model": KeystoneVersions, "description": "The versions of IAM, without credentials"}},
)
async def versions(context: RequestContext) -> Versions | ModelResponse:
    """List the versions of SWR's API, or without credentials, those of IAM's API."""
    if context.optional_caller is None:
        return ModelResponse(KeystoneVersions.of(context.base_url), status_code=300)
    return Versions(versions=[_version(context)])


@router.get("/{api_version}", operation_id="ShowApiVersion")
async def show_version(api_version: str, context: RequestContext) -> ShownVersion:
    """Show a version of the API."""
    if api_version != _VERSION:
        raise NotFound("API version", api_version, f"the only version is {_VERSION}")
    return ShownVersion(version=_version(context))


def _version(context: SwrContext) -> Version:
    link = VersionLink(href=f"{context.base_url}/{_VERSION}/", rel="self")
    return Version(id=_VERSION, links=link, version="", status="CURRENT", updated="", min_version="")
