"""The service catalog, with the endpoints of the called region, and the regions.

Source: Keystone's API reference, "Service catalog and endpoints" and "Regions"; IAM API reference,
KeystoneShowCatalog, KeystoneListRegions, KeystoneListServices and KeystoneListEndpoints.
"""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Query

from tagferry.errors import NotFound
from tagferry.web.iam.context import IamContext, RequestContext
from tagferry.web.iam.model import links

router = APIRouter()
_SERVICES = (("identity", "keystone", "/v3"), ("iam", "iam", "/v3.0"), ("swr", "swr", ""))
"""The type, name and path of each service. SWR's path is empty, since its operations' paths contain the version."""


@router.get("/v3/auth/catalog", operation_id="KeystoneShowCatalog")
async def show_catalog(context: RequestContext) -> dict[str, Any]:
    """List the services with their endpoints in this region."""
    return {"catalog": catalog(context), "links": links()}


@router.get("/v3/regions", operation_id="KeystoneListRegions")
async def list_regions(context: RequestContext, parent_region_id: str = "") -> dict[str, Any]:
    """List the configured regions. No region has a parent."""
    return {"regions": _matching(_regions(context), parent_region_id=parent_region_id), "links": links()}


@router.get("/v3/regions/{region_id}", operation_id="KeystoneShowRegion")
async def show_region(region_id: str, context: RequestContext) -> dict[str, Any]:
    """Show a region."""
    return {"region": _find("region", region_id, _regions(context))}


@router.get("/v3/services", operation_id="KeystoneListServices")
async def list_services(
    context: RequestContext, type_: Annotated[str, Query(alias="type")] = "", name: str = ""
) -> dict[str, Any]:
    """List the services of the catalog, optionally filtered by type or name."""
    return {"services": _matching(_services(), type=type_, name=name), "links": links()}


@router.get("/v3/services/{service_id}", operation_id="KeystoneShowService")
async def show_service(service_id: str, context: RequestContext) -> dict[str, Any]:
    """Show a service of the catalog."""
    return {"service": _find("service", service_id, _services())}


@router.get("/v3/endpoints", operation_id="KeystoneListEndpoints")
async def list_endpoints(
    context: RequestContext, service_id: str = "", interface: str = "", region_id: str = ""
) -> dict[str, Any]:
    """List the endpoints of the catalog, optionally filtered by service, interface or region."""
    endpoints = _matching(_endpoints(context), service_id=service_id, interface=interface, region_id=region_id)
    return {"endpoints": endpoints, "links": links()}


@router.get("/v3/endpoints/{endpoint_id}", operation_id="KeystoneShowEndpoint")
async def show_endpoint(endpoint_id: str, context: RequestContext) -> dict[str, Any]:
    """Show an endpoint of the catalog."""
    return {"endpoint": _find("endpoint", endpoint_id, _endpoints(context))}


def catalog(context: IamContext) -> list[dict[str, Any]]:
    """Return the services in the form used in tokens, each with its endpoint in the called region."""
    region = context.region.id
    return [
        {
            "id": _id(kind),
            "type": kind,
            "name": name,
            "endpoints": [
                {
                    "id": _id(kind, region),
                    "interface": "public",
                    "region": region,
                    "region_id": region,
                    "url": f"{context.base_url}{path}",
                }
            ],
        }
        for kind, name, path in _SERVICES
    ]


def _services() -> list[dict[str, Any]]:
    return [
        {"id": _id(kind), "type": kind, "name": name, "description": "", "enabled": True, "links": {"self": ""}}
        for kind, name, _ in _SERVICES
    ]


def _endpoints(context: IamContext) -> list[dict[str, Any]]:
    return [
        {**endpoint, "service_id": service["id"], "enabled": True, "links": {"self": ""}}
        for service in catalog(context)
        for endpoint in service["endpoints"]
    ]


def _matching(known: list[dict[str, Any]], **wanted: str) -> list[dict[str, Any]]:
    """Return the items that have all given values. Empty values are not compared."""
    return [one for one in known if all(value in ("", one[field]) for field, value in wanted.items())]


def _find(kind: str, wanted: str, known: list[dict[str, Any]]) -> dict[str, Any]:
    for one in known:
        if one["id"] == wanted:
            return one
    raise NotFound(f"IAM {kind}", repr(wanted), f"list them by GET /v3/{kind}s")


def _id(*names: str) -> str:
    """Return a stable id."""
    return hashlib.sha256("\0".join(("tagferry", "service", *names)).encode()).hexdigest()[:32]


def _regions(context: IamContext) -> list[dict[str, Any]]:
    return [
        {
            "id": region.id,
            "type": "public",
            "description": "",
            "parent_region_id": None,
            "locales": {},
            "links": {"self": ""},
        }
        for region in context.services.regions
    ]
