"""Attached artifacts: those of a tag's image, and the tags of the image that an artifact is attached to."""

from typing import Self

from fastapi import APIRouter
from pydantic import Field

from tagferry.accounts.model import Permission
from tagferry.catalog import ReferrerDetails, describe_referrer, find_tag, list_referrers, list_subject_tags
from tagferry.catalog.contents import BoundedReader
from tagferry.names import RepositoryName, Tag
from tagferry.web.formats import date, number
from tagferry.web.response_models import ResponseModel
from tagferry.web.swr.context import RequestContext, SwrContext
from tagferry.web.swr.paths import BELOW_REPOSITORY
from tagferry.web.swr.queries import Page

router = APIRouter(tags=["tags"])
_TAG = f"{BELOW_REPOSITORY}/{{tag}}"
_ACCESSORIES = {"default": 10, "maximum": 100}
_REFERENCES = {"default": 10, "maximum": 10}


class Accessory(ResponseModel):
    """An artifact attached to an image."""

    id: int
    domain_id: str
    namespace_name: str
    repo_name: str
    sig_tag: str = Field(description="The artifact's tag; empty for a referrer, which has none.")
    sig_digest: str
    target_digest: str = Field(description="The digest of the image.")
    size: int
    type: str = Field(description="The artifact type, or signature.cosign, attestation.cosign or sbom.cosign.")
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, context: SwrContext, name: RepositoryName, details: ReferrerDetails) -> Self:
        """Return an artifact of this repository."""
        one = details.referrer
        return cls(
            id=number(context.region.id, name, one.digest, one.tag or ""),
            domain_id=context.caller.domain_id,
            namespace_name=name.namespace,
            repo_name=name.repository,
            sig_tag=one.tag or "",
            sig_digest=one.digest,
            target_digest=one.subject,
            size=details.size,
            type=one.kind,
            created_at=date(details.created),
            updated_at=date(details.updated),
        )


class Accessories(ResponseModel):
    """The response of ListRepoAccessories."""

    total: int
    accessories: list[Accessory]


class References(ResponseModel):
    """The response of ListReferences. `next_marker` is present if there are more tags."""

    next_marker: str | None = None
    has_more: bool
    tags: list[str]


@router.get(f"{_TAG}/accessories", operation_id="ListRepoAccessories")
async def list_accessories(
    namespace: str,
    repository: str,
    tag: str,
    context: RequestContext,
    limit: str | None = None,
    offset: str | None = None,
) -> Accessories:
    """List the signatures and other artifacts attached to a tag's image."""
    page = Page.parse({"limit": limit, "offset": offset}, **_ACCESSORIES)
    wanted = Tag(tag)
    name = await _readable(namespace, repository, context)
    store = context.region.store
    async with context.services.repository_inventory.as_missing_tag(context.region, name, wanted):
        subject = await find_tag(store, name, wanted)
    found = await list_referrers(store, name, subject)
    reader = BoundedReader(store)
    shown = found[page.offset : page.offset + page.limit]
    described = [await describe_referrer(store, name, one, reader) for one in shown]
    accessories = [Accessory.of(context, name, details) for details in described if details is not None]
    return Accessories(total=len(found), accessories=accessories)


@router.get(
    f"{_TAG}/references",
    operation_id="ListReferences",
    response_model_exclude_none=True,
)
async def list_references(
    namespace: str,
    repository: str,
    tag: str,
    context: RequestContext,
    limit: str | None = None,
    marker: str | None = None,
) -> References:
    """List the tags of the image that a tagged artifact, such as a signature, is attached to."""
    size = Page.parse({"limit": limit}, **_REFERENCES).limit
    wanted, after = Tag(tag), Tag(marker, field="marker") if marker else ""
    name = await _readable(namespace, repository, context)
    async with context.services.repository_inventory.as_missing_tag(context.region, name, wanted):
        found = [one for one in await list_subject_tags(context.region.store, name, wanted) if one > after]
    has_more = len(found) > size
    return References(tags=found[:size], has_more=has_more, next_marker=found[size - 1] if has_more else None)


async def _readable(namespace: str, repository: str, context: SwrContext) -> RepositoryName:
    name = RepositoryName.from_path(namespace, repository)
    await context.services.access.require(context.caller, context.region.id, name, Permission.READ)
    return name
