"""The catalog of services, with the endpoints of the region whose address was called, and the regions.

Source: Keystone's API reference, "Service catalog and endpoints" and "Regions"; IAM API reference,
KeystoneShowCatalog, KeystoneListRegions and KeystoneShowRegion.
"""

import hashlib
from typing import Any

from fastapi import APIRouter

from tagferry.errors import NotFound
from tagferry.names import RegionId
from tagferry.web.context import Context, RequestContext
from tagferry.web.iam.model import links

router = APIRouter()
_SERVICES = (("identity", "keystone", "/v3"), ("iam", "iam", "/v3.0"), ("swr", "swr", ""))
"""Type, name and path of each service; the paths of SWR's documents have their version in them."""


@router.get("/v3/auth/catalog", operation_id="KeystoneShowCatalog")
async def show_catalog(context: RequestContext) -> dict[str, Any]:
    """List the services with their endpoints in this region."""
    return {"catalog": catalog(context), "links": links()}


@router.get("/v3/regions", operation_id="KeystoneListRegions")
async def list_regions(context: RequestContext) -> dict[str, Any]:
    """List the regions that tagferry knows."""
    return {"regions": [_region(region.id) for region in context.services.regions], "links": links()}


@router.get("/v3/regions/{region_id}", operation_id="KeystoneShowRegion")
async def show_region(region_id: str, context: RequestContext) -> dict[str, Any]:
    """Show a region."""
    for region in context.services.regions:
        if region.id == region_id:
            return {"region": _region(region.id)}
    raise NotFound("IAM region", repr(region_id), "list them by GET /v3/regions")


def catalog(context: Context) -> list[dict[str, Any]]:
    """The services as tokens list them."""
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


def _id(*names: str) -> str:
    """A stable id."""
    return hashlib.sha256("\0".join(("tagferry", "service", *names)).encode()).hexdigest()[:32]


def _region(region: RegionId) -> dict[str, Any]:
    return {
        "id": region,
        "type": "public",
        "description": "",
        "parent_region_id": None,
        "locales": {},
        "links": {"self": ""},
    }
