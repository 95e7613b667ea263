"""Tags: list and show."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from tagferry.accounts.model import Permission
from tagferry.catalog import TagDetails, describe_tag, describe_tags
from tagferry.errors import Invalid
from tagferry.names import Namespace, Repository, RepositoryName, Tag
from tagferry.web.context import Context, RequestContext
from tagferry.web.swr.formats import date, number
from tagferry.web.swr.queries import Page, is_descending, parse_filter

router = APIRouter(tags=["tags"])
_TAGS = "/v2/manage/namespaces/{namespace}/repos/{repository:path}/tags"
_COLUMNS = ("name", "updated_at")


class _TagFields(BaseModel):
    id: int
    repo_id: int
    image_id: str
    manifest: str
    digest: str
    schema_: int = Field(alias="schema")
    path: str
    internal_path: str
    size: int
    is_trusted: bool
    created: str
    updated: str
    domain_id: str
    tag_type: int = Field(description="1 for an index, 0 for a manifest")


class TagItem(_TagFields):
    """A tag in ListRepositoryTags."""

    tag: str = Field(alias="Tag")
    deleted: str | None
    scanned: bool


class TagShown(_TagFields):
    """The answer of ShowRepoTag."""

    tag: str


@router.get(_TAGS, operation_id="ListRepositoryTags", response_model=list[TagItem])
async def list_all(
    namespace: str,
    repository: str,
    context: RequestContext,
    limit: str | None = None,
    offset: str | None = None,
    order_column: str | None = None,
    order_type: str | None = None,
    tag: str | None = None,
    filter_: Annotated[str | None, Query(alias="filter")] = None,
) -> Response:
    """List a repository's tags, the last updated first; `tag` matches any part of the tag."""
    plain = {"limit": limit, "offset": offset, "order_column": order_column, "order_type": order_type, "tag": tag}
    parameters = {**plain, **parse_filter(filter_)}
    page = Page.parse(parameters)
    column = parameters.get("order_column") or "updated_at"
    if column not in _COLUMNS:
        raise Invalid("order_column", f"must be one of {', '.join(_COLUMNS)}", column)
    descending = is_descending(parameters, "order_type", default=True)
    name = await _readable(namespace, repository, context)
    details = await _matching(context, name, parameters.get("tag") or "")
    details.sort(key=lambda one: one.tag if column == "name" else (one.updated, one.tag), reverse=descending)
    shown = details[page.offset : page.offset + page.limit]
    items = [_item(context, name, one) | {"Tag": one.tag, "deleted": None, "scanned": False} for one in shown]
    return JSONResponse(items, headers=page.content_range(count=len(items), total=len(details)))


@router.get(f"{_TAGS}/{{tag}}", operation_id="ShowRepoTag", response_model=TagShown)
async def show(namespace: str, repository: str, tag: str, context: RequestContext) -> dict[str, Any]:
    """Show a tag."""
    wanted = Tag(tag)
    name = await _readable(namespace, repository, context)
    return _item(context, name, await describe_tag(context.region.store, name, wanted)) | {"tag": wanted}


async def _readable(namespace: str, repository: str, context: Context) -> RepositoryName:
    owner = Namespace(namespace)
    name = RepositoryName.of(owner, Repository.from_path(repository))
    await context.services.organizations.require(context.caller, context.region.id, owner, Permission.READ)
    return name


async def _matching(context: Context, name: RepositoryName, part: str) -> list[TagDetails]:
    records = [record for record in await context.region.store.describe_tags(name) if part in record.tag]
    return await describe_tags(context.region.store, name, records)


def _item(context: Context, name: RepositoryName, details: TagDetails) -> dict[str, Any]:
    manifest = details.manifest
    path = f"{context.region.registry_host}/{name}:{details.tag}"
    return {
        "id": number(context.region.id, name, details.tag),
        "repo_id": number(context.region.id, name),
        "image_id": (manifest.config.digest if manifest.config else manifest.digest).encoded,
        "manifest": manifest.raw.decode("utf-8", "replace"),
        "digest": manifest.digest,
        "schema": 2,
        "path": path,
        "internal_path": path,
        "size": details.size,
        "is_trusted": False,
        "created": date(details.created),
        "updated": date(details.updated),
        "domain_id": context.caller.domain_id,
        "tag_type": int(manifest.is_index),
    }
