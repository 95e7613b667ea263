"""Tags: list, show, create and delete."""

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tagferry.accounts.model import Permission
from tagferry.catalog import TagDetails, describe_tag, describe_tags
from tagferry.catalog.answers import Answer, keep_answer, known_answer
from tagferry.catalog.contents import BoundedReader
from tagferry.catalog.pages import FoundTags, TagQuery, known_date
from tagferry.errors import Conflict, Invalid
from tagferry.names import RepositoryName, Tag
from tagferry.web.bodies import require_json
from tagferry.web.formats import date, number
from tagferry.web.json_response import JSONResponse
from tagferry.web.response_models import ResponseModel
from tagferry.web.swr.context import RequestContext, SwrContext
from tagferry.web.swr.queries import Page, is_descending, parse_filter, parse_flag

router = APIRouter(tags=["tags"])
_REPOSITORY = "manage/namespaces/{namespace}/repos/{repository:path}"
_TAGS = f"/v2/{_REPOSITORY}/tags"
_COLUMNS = ("name", "updated_at")
_MARKED_COLUMNS = ("tag", "updated_at")
_Write: TypeAlias = Callable[[SwrContext, RepositoryName, FoundTags, Sequence[TagDetails]], bytes]
"""Writes a response that shows the tags that were found and described."""


class CreateRepoTagBody(BaseModel):
    """The body of CreateRepoTag."""

    model_config = ConfigDict(strict=True)

    source_tag: str = Field(description="The tag of the image.")
    destination_tag: str = Field(description="The new tag for the image.")
    override: bool | None = Field(None, description="If true, replace an existing tag.")


class _TagFields(ResponseModel):
    id: int
    repo_id: int
    image_id: str
    manifest: str = Field(
        description="The manifest; empty if it cannot be read, or after 8 MiB of manifests in a list."
    )
    digest: str
    schema_: int = Field(serialization_alias="schema")
    path: str
    internal_path: str
    size: int
    is_trusted: bool
    created: str
    updated: str
    domain_id: str
    tag_type: int = Field(description="1 for an index, 0 for a manifest.")


class TagItem(_TagFields):
    """A tag in ListRepositoryTags."""

    tag: str = Field(serialization_alias="Tag")
    deleted: str | None
    scanned: bool


class TagShown(_TagFields):
    """The response of ShowRepoTag, and a tag in ListRepositoryTag."""

    tag: str


class TagPage(ResponseModel):
    """The response of ListRepositoryTag. `nextMarker` is present if there are more tags."""

    tags: list[TagShown]
    next_marker: str | None = Field(None, serialization_alias="nextMarker")
    has_more: bool


_ITEMS = TypeAdapter(list[TagItem], config=ConfigDict(defer_build=True))


@router.get(_TAGS, operation_id="ListRepositoryTags", response_model=list[TagItem])
async def list_page(
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
    """List the tags of a repository, last updated first. `tag` matches any part of the tag."""
    plain = {"limit": limit, "offset": offset, "order_column": order_column, "order_type": order_type, "tag": tag}
    parameters = {**plain, **parse_filter(filter_)}
    page = Page.parse(parameters)
    by_name = _column(parameters.get("order_column"), _COLUMNS) == "name"
    descending = is_descending(parameters, "order_type", default=True)
    name = await _allowed(namespace, repository, context, Permission.READ)
    query = TagQuery(parameters.get("tag") or "", by_name=by_name, descending=descending)
    answer = await _answer(context, name, query, page, _items)
    response = _json(answer)
    response.headers.update(page.content_range(count=answer.shown, total=answer.found.total))
    return response


@router.get(
    f"/v3/{_REPOSITORY}/tags",
    operation_id="ListRepositoryTag",
    response_model=TagPage,
    response_model_exclude_none=True,
)
async def list_from_marker(
    namespace: str,
    repository: str,
    context: RequestContext,
    limit: str | None = None,
    marker: str | None = None,
    tag: str | None = None,
    order_column: str | None = None,
    order_type: str | None = None,
    with_manifest: str | None = None,
) -> Response:
    """List the tags of a repository after the marker, last updated first. `with_manifest` adds their manifests."""
    parameters = {"limit": limit, "order_type": order_type, "with_manifest": with_manifest}
    page = Page.parse(parameters)
    by_name = _column(order_column, _MARKED_COLUMNS) == "tag"
    descending = is_descending(parameters, "order_type", default=True)
    with_manifests = bool(parse_flag(parameters, "with_manifest"))
    after = _parse_marker(marker) if marker else None
    name = await _allowed(namespace, repository, context, Permission.READ)
    query = TagQuery(tag or "", by_name=by_name, descending=descending, after=after)
    return _json(await _answer(context, name, query, page, _marked_page, with_texts=with_manifests))


@router.post(_TAGS, operation_id="CreateRepoTag", status_code=201, dependencies=[Depends(require_json)])
async def create(namespace: str, repository: str, body: CreateRepoTagBody, context: RequestContext) -> Response:
    """Create another tag for the image of a tag."""
    source, destination = Tag(body.source_tag, field="source_tag"), Tag(body.destination_tag, field="destination_tag")
    name = await _allowed(namespace, repository, context, Permission.EDIT)
    store = context.region.store
    async with context.services.repository_inventory.as_missing_tag(context.region, name, source):
        manifest = await store.get_manifest(name, source)
    if (
        not body.override
        and await store.head_manifest(name, destination, for_write=True, confirm_missing=True) is not None
    ):
        raise Conflict("tag", f'the tag "{name}:{destination}" exists already; replace it with override')
    await store.put_manifest(name, manifest, destination, override=bool(body.override))
    await context.services.watch.pushed(context.region.id, name, destination, manifest.digest, context.caller.name)
    return JSONResponse({}, status_code=201)


@router.get(f"{_TAGS}/{{tag}}", operation_id="ShowRepoTag", response_model=TagShown)
async def show(namespace: str, repository: str, tag: str, context: RequestContext) -> dict[str, Any]:
    """Show a tag."""
    wanted = Tag(tag)
    name = await _allowed(namespace, repository, context, Permission.READ)
    async with context.services.repository_inventory.as_missing_tag(context.region, name, wanted):
        details = await describe_tag(context.region.store, name, wanted)
    return _fields(context, name, [details])[0]


@router.delete(f"{_TAGS}/{{tag}}", operation_id="DeleteRepoTag", status_code=204)
async def delete(namespace: str, repository: str, tag: str, context: RequestContext) -> Response:
    """Delete a tag. Its manifest remains if other tags or manifests refer to it."""
    name = RepositoryName.from_path(namespace, repository)
    await context.services.repository_inventory.delete_tag(context.caller, context.region, name, Tag(tag))
    return Response(status_code=204)


async def _allowed(namespace: str, repository: str, context: SwrContext, permission: Permission) -> RepositoryName:
    name = RepositoryName.from_path(namespace, repository)
    await context.services.access.require(context.caller, context.region.id, name, permission)
    return name


async def _answer(
    context: SwrContext, name: RepositoryName, query: TagQuery, page: Page, write: _Write, *, with_texts: bool = True
) -> Answer:
    region = context.region
    request = (write, region.id, region.registry_host, context.caller.domain_id, name, query, page, with_texts)
    known = known_answer(request)
    found = await context.services.repository_inventory.find_tags(
        region, name, query, limit=page.limit, offset=page.offset, manifests=known.manifests if known else ()
    )
    if known is not None and known.found == found:
        return known
    reader = BoundedReader(region.store, with_texts=with_texts)
    shown = await describe_tags(region.store, name, found.records, reader=reader)
    answer = Answer.of(found, reader, len(shown), write(context, name, found, shown))
    keep_answer(request, answer)
    return answer


def _items(context: SwrContext, name: RepositoryName, _: FoundTags, shown: Sequence[TagDetails]) -> bytes:
    items = _ITEMS.validate_python(_fields(context, name, shown, deleted=None, scanned=False))
    return _ITEMS.dump_json(items, by_alias=True)


def _marked_page(context: SwrContext, name: RepositoryName, found: FoundTags, shown: Sequence[TagDetails]) -> bytes:
    last = found.last if found.has_more else None
    fields = {
        "tags": _fields(context, name, shown),
        "next_marker": None if last is None else _marker(date(last[0]), last[1]),
        "has_more": found.has_more,
    }
    return TagPage.model_validate(fields).model_dump_json(by_alias=True, exclude_none=True).encode()


def _json(answer: Answer) -> Response:
    return Response(answer.content, media_type="application/json")


def _fields(context: SwrContext, name: RepositoryName, tags: Sequence[TagDetails], **more: Any) -> list[dict[str, Any]]:
    """Return the fields of the response models of these tags, with `more` fields.

    A response is validated as a whole, which takes less time than to build the model of each tag here.
    """
    region, domain_id = context.region.id, context.caller.domain_id
    repository, host = number(region, name), f"{context.region.registry_host}/{name}"
    return [
        {
            "id": number(region, name, one.tag),
            "repo_id": repository,
            "image_id": ((one.image.config if one.image else None) or one.digest).encoded,
            "manifest": one.text,
            "digest": one.digest,
            "schema_": 2,
            "path": (path := f"{host}:{one.tag}"),
            "internal_path": path,
            "size": one.size,
            "is_trusted": False,
            "created": date(one.created),
            "updated": date(one.updated),
            "domain_id": domain_id,
            "tag_type": int(one.image is not None and one.image.is_index),
            "tag": one.tag,
            **more,
        }
        for one in tags
    ]


def _column(name: str | None, known: tuple[str, ...]) -> str:
    column = name or "updated_at"
    if column not in known:
        raise Invalid("order_column", f"must be one of {', '.join(known)}", column)
    return column


def _marker(updated: str, tag: str) -> str:
    return base64.urlsafe_b64encode(f"{updated} {tag}".encode()).decode()


def _parse_marker(marker: str) -> tuple[datetime | None, str]:
    try:
        moment, tag = base64.urlsafe_b64decode(marker).decode().split(" ")
        return known_date(datetime.fromisoformat(moment).astimezone(UTC)), Tag(tag)
    except (ValueError, OverflowError, Invalid):
        raise Invalid("marker", "must be the nextMarker of a previous response", marker) from None
