"""The versions of IAM's API, which OpenStack's clients request before they authenticate.

Source: Keystone's API reference, "API versions"; IAM API reference, KeystoneListVersions and KeystoneShowVersion.
"""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from tagferry.web.context import Context, RequestContext

router = APIRouter()
_VERSION = "v3.6"
"""The version of the vendor's IAM."""


class Link(BaseModel):
    """A link to a version."""

    rel: str
    href: str


class MediaType(BaseModel):
    """The media type of a version's documents."""

    base: str
    type: str


class KeystoneVersion(BaseModel):
    """A version of Keystone's API."""

    model_config = ConfigDict(populate_by_name=True)

    id: str
    status: str
    updated: str
    links: list[Link]
    media_types: list[MediaType] = Field(alias="media-types")


class KeystoneShownVersion(BaseModel):
    """The response of KeystoneShowVersion."""

    version: KeystoneVersion


class KeystoneVersionList(BaseModel):
    """The versions, which Keystone nests one level deeper than SWR does."""

    values: list[KeystoneVersion]


class KeystoneVersions(BaseModel):
    """The response of KeystoneListVersions."""

    versions: KeystoneVersionList


@router.get("/v3", operation_id="KeystoneShowVersion", response_model=KeystoneShownVersion)
async def show_version(context: RequestContext) -> dict[str, Any]:
    """Show the version of IAM's API. No credentials are required."""
    return {"version": _version(context)}


def list_versions(context: Context) -> dict[str, Any]:
    """Return the versions of IAM's API; there is one."""
    return {"versions": {"values": [_version(context)]}}


def _version(context: Context) -> dict[str, Any]:
    return {
        "id": _VERSION,
        "status": "stable",
        "updated": "2016-04-04T00:00:00Z",
        "links": [{"rel": "self", "href": f"{context.base_url}/v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }
