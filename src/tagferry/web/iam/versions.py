"""The versions of IAM's API, which OpenStack's clients request before they authenticate.

Source: Keystone's API reference, "API versions"; IAM API reference, KeystoneListVersions and KeystoneShowVersion.
"""

from typing import Self

from fastapi import APIRouter
from pydantic import Field

from tagferry.web.iam.context import RequestContext
from tagferry.web.response_models import ResponseModel

router = APIRouter()
_VERSION = "v3.6"
"""The version of the vendor's IAM."""


class Link(ResponseModel):
    """A link to a version."""

    rel: str
    href: str


class MediaType(ResponseModel):
    """The media type of a version's documents."""

    base: str
    type: str


class KeystoneVersion(ResponseModel):
    """A version of Keystone's API."""

    id: str
    status: str
    updated: str
    links: list[Link]
    media_types: list[MediaType] = Field(serialization_alias="media-types")

    @classmethod
    def of(cls, base_url: str) -> Self:
        """Return the version that the region at this URL has."""
        return cls(
            id=_VERSION,
            status="stable",
            updated="2016-04-04T00:00:00Z",
            links=[Link(rel="self", href=f"{base_url}/v3/")],
            media_types=[MediaType(base="application/json", type="application/vnd.openstack.identity-v3+json")],
        )


class KeystoneShownVersion(ResponseModel):
    """The response of KeystoneShowVersion."""

    version: KeystoneVersion


class KeystoneVersionList(ResponseModel):
    """The versions, which Keystone nests one level deeper than SWR does."""

    values: list[KeystoneVersion]


class KeystoneVersions(ResponseModel):
    """The response of KeystoneListVersions."""

    versions: KeystoneVersionList

    @classmethod
    def of(cls, base_url: str) -> Self:
        """Return the versions of IAM's API; there is one."""
        return cls(versions=KeystoneVersionList(values=[KeystoneVersion.of(base_url)]))


@router.get("/v3", operation_id="KeystoneShowVersion")
async def show_version(context: RequestContext) -> KeystoneShownVersion:
    """Show the version of IAM's API. No credentials are required."""
    return KeystoneShownVersion(version=KeystoneVersion.of(context.base_url))
