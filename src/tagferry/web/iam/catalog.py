"""The service catalog, with the endpoints of the called region, and the regions.

Source: Keystone's API reference, "Service catalog and endpoints" and "Regions"; IAM API reference,
KeystoneShowCatalog, KeystoneListRegions, KeystoneListServices and KeystoneListEndpoints.
"""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Self, TypeVar

from fastapi import APIRouter, Query
from pydantic import Field

from tagferry.errors import NotFound
from tagferry.web.iam.context import IamContext, RequestContext
from tagferry.web.iam.model import Links, SelfLink
from tagferry.web.response_models import ResponseModel

router = APIRouter()
_SERVICES = (("identity", "keystone", "/v3"), ("iam", "iam", "/v3.0"), ("swr", "swr", ""))
"""The type, name and path of each service. SWR's path is empty, since its operations' paths contain the version."""


class CatalogEndpoint(ResponseModel):
    """Where a service is in the called region."""

    id: str
    interface: str = "public"
    region: str
    region_id: str
    url: str


class CatalogService(ResponseModel):
    """A service with its endpoints."""

    id: str
    type: str
    name: str
    endpoints: list[CatalogEndpoint]

    @classmethod
    def of(cls, context: IamContext, kind: str, name: str, path: str) -> Self:
        """Return a service of the called region."""
        region, url = context.region.id, f"{context.base_url}{path}"
        endpoint = CatalogEndpoint(id=_id(kind, region), region=region, region_id=region, url=url)
        return cls(id=_id(kind), type=kind, name=name, endpoints=[endpoint])


class Catalog(ResponseModel):
    """The response of KeystoneShowCatalog."""

    catalog: list[CatalogService]
    links: Links = Links()


class IamRegion(ResponseModel):
    """A region."""

    id: str
    type: str = "public"
    description: str = ""
    parent_region_id: str | None = None
    locales: dict[str, str] = Field(default_factory=dict)
    links: SelfLink = SelfLink()


class ShownIamRegion(ResponseModel):
    """The response of KeystoneShowRegion."""

    region: IamRegion


class IamRegionList(ResponseModel):
    """The response of KeystoneListRegions."""

    regions: list[IamRegion]
    links: Links = Links()


class IamService(ResponseModel):
    """A service."""

    id: str
    type: str
    name: str
    description: str = ""
    enabled: bool = True
    links: SelfLink = SelfLink()


class ShownIamService(ResponseModel):
    """The response of KeystoneShowService."""

    service: IamService


class IamServiceList(ResponseModel):
    """The response of KeystoneListServices."""

    services: list[IamService]
    links: Links = Links()


class IamEndpoint(CatalogEndpoint):
    """An endpoint."""

    service_id: str
    enabled: bool = True
    links: SelfLink = SelfLink()


class ShownIamEndpoint(ResponseModel):
    """The response of KeystoneShowEndpoint."""

    endpoint: IamEndpoint


class IamEndpointList(ResponseModel):
    """The response of KeystoneListEndpoints."""

    endpoints: list[IamEndpoint]
    links: Links = Links()


_Item = TypeVar("_Item", IamRegion, IamService, IamEndpoint)


@router.get("/v3/auth/catalog", operation_id="KeystoneShowCatalog")
async def show_catalog(context: RequestContext) -> Catalog:
    """List the services with their endpoints in this region."""
    return Catalog(catalog=catalog(context))


@router.get("/v3/regions", operation_id="KeystoneListRegions")
async def list_regions(context: RequestContext, parent_region_id: str = "") -> IamRegionList:
    """List the configured regions. No region has a parent."""
    return IamRegionList(regions=_matching(_regions(context), parent_region_id=parent_region_id))


@router.get("/v3/regions/{region_id}", operation_id="KeystoneShowRegion")
async def show_region(region_id: str, context: RequestContext) -> ShownIamRegion:
    """Show a region."""
    return ShownIamRegion(region=_find("region", region_id, _regions(context)))


@router.get("/v3/services", operation_id="KeystoneListServices")
async def list_services(
    context: RequestContext, type_: Annotated[str, Query(alias="type")] = "", name: str = ""
) -> IamServiceList:
    """List the services of the catalog, optionally filtered by type or name."""
    return IamServiceList(services=_matching(_services(), type=type_, name=name))


@router.get("/v3/services/{service_id}", operation_id="KeystoneShowService")
async def show_service(service_id: str, context: RequestContext) -> ShownIamService:
    """Show a service of the catalog."""
    return ShownIamService(service=_find("service", service_id, _services()))


@router.get("/v3/endpoints", operation_id="KeystoneListEndpoints")
async def list_endpoints(
    context: RequestContext, service_id: str = "", interface: str = "", region_id: str = ""
) -> IamEndpointList:
    """List the endpoints of the catalog, optionally filtered by service, interface or region."""
    endpoints = _matching(_endpoints(context), service_id=service_id, interface=interface, region_id=region_id)
    return IamEndpointList(endpoints=endpoints)


@router.get("/v3/endpoints/{endpoint_id}", operation_id="KeystoneShowEndpoint")
async def show_endpoint(endpoint_id: str, context: RequestContext) -> ShownIamEndpoint:
    """Show an endpoint of the catalog."""
    return ShownIamEndpoint(endpoint=_find("endpoint", endpoint_id, _endpoints(context)))


def catalog(context: IamContext) -> list[CatalogService]:
    """Return the services in the form used in tokens, each with its endpoint in the called region."""
    return [CatalogService.of(context, kind, name, path) for kind, name, path in _SERVICES]


def _services() -> list[IamService]:
    return [IamService(id=_id(kind), type=kind, name=name) for kind, name, _ in _SERVICES]


def _endpoints(context: IamContext) -> list[IamEndpoint]:
    return [
        IamEndpoint(**endpoint.model_dump(), service_id=service.id)
        for service in catalog(context)
        for endpoint in service.endpoints
    ]


def _matching(known: Sequence[_Item], **wanted: str) -> list[_Item]:
    """Return the items that have all given values. Empty values are not compared."""
    return [one for one in known if all(value in ("", getattr(one, field)) for field, value in wanted.items())]


def _find(kind: str, wanted: str, known: Sequence[_Item]) -> _Item:
    for one in known:
        if one.id == wanted:
            return one
    raise NotFound(f"IAM {kind}", wanted, f"list them by GET /v3/{kind}s")


def _id(*names: str) -> str:
    """Return a stable id."""
    return hashlib.sha256("\0".join(("tagferry", "service", *names)).encode()).hexdigest()[:32]


def _regions(context: IamContext) -> list[IamRegion]:
    return [IamRegion(id=region.id) for region in context.services.regions]
