"""Repositories: list and show."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from tagferry.accounts.model import Permission
from tagferry.catalog import RepositoryDetails, describe_repository, list_repositories
from tagferry.errors import Invalid
from tagferry.names import Namespace, Repository, RepositoryName
from tagferry.web.context import Context, RequestContext
from tagferry.web.swr.formats import date, number
from tagferry.web.swr.queries import Page, is_descending, parse_filter

router = APIRouter(tags=["repositories"])

_ORDERS: dict[str, Callable[[RepositoryDetails], Any]] = {
    "name": lambda details: details.name,
    "updated_time": lambda details: details.updated,
    "tag_count": lambda details: len(details.tags),
}


class RepositoryItem(BaseModel):
    """A repository in ListReposDetails."""

    name: str
    category: str
    description: str
    size: int
    is_public: bool
    num_images: int
    num_download: int
    created_at: str
    updated_at: str
    logo: str
    url: str
    path: str
    internal_path: str
    domain_name: str
    namespace: str
    tags: list[str]
    status: bool
    total_range: int


class RepositoryShown(BaseModel):
    """The answer of ShowRepository; the tags are listed by an operation of their own."""

    id: int
    ns_id: int
    name: str
    category: str
    description: str
    creator_id: str
    creator_name: str
    size: int
    is_public: bool
    num_images: int
    num_download: int
    url: str
    path: str
    internal_path: str
    created: str
    updated: str
    domain_id: str
    priority: int


@router.get("/v2/manage/repos", operation_id="ListReposDetails", response_model=list[RepositoryItem])
async def list_all(
    context: RequestContext,
    namespace: str | None = None,
    name: str | None = None,
    category: str | None = None,
    limit: str | None = None,
    offset: str | None = None,
    order_column: str | None = None,
    order_type: str | None = None,
    filter_: Annotated[str | None, Query(alias="filter")] = None,
) -> Response:
    """List repositories of the organizations that the caller may read; `name` matches any part of the name."""
    plain = {
        "namespace": namespace,
        "name": name,
        "category": category,
        "limit": limit,
        "offset": offset,
        "order_column": order_column,
        "order_type": order_type,
    }
    parameters = {**plain, **parse_filter(filter_)}
    page = Page.parse(parameters)
    column = parameters.get("order_column") or "name"
    if column not in _ORDERS:
        raise Invalid("order_column", f"must be one of {', '.join(_ORDERS)}", column)
    descending = is_descending(parameters, "order_type", default=False)
    names = await _matching(context, parameters.get("namespace"), parameters.get("name"))
    if parameters.get("category") not in (None, "", "other"):
        names = []
    details = await _page(context, names, page, column=column, descending=descending)
    items = [_item(context, one, total=len(names)) for one in details]
    return JSONResponse(items, headers=page.content_range(count=len(items), total=len(names)))


@router.get(
    "/v2/manage/namespaces/{namespace}/repos/{repository:path}",
    operation_id="ShowRepository",
    response_model=RepositoryShown,
)
async def show(namespace: str, repository: str, context: RequestContext) -> dict[str, Any]:
    """Show a repository."""
    owner = Namespace(namespace)
    name = RepositoryName.of(owner, Repository.from_path(repository))
    organization = await context.services.organizations.require(
        context.caller, context.region.id, owner, Permission.READ
    )
    details = await describe_repository(context.region.store, name)
    path = f"{context.region.registry_host}/{name}"
    return {
        "id": number(context.region.id, name),
        "ns_id": organization.id if organization else number(context.region.id, owner),
        "name": name.repository,
        "category": "other",
        "description": "",
        "creator_id": organization.creator_id if organization else "",
        "creator_name": organization.creator_name if organization else "",
        "size": details.size,
        "is_public": False,
        "num_images": len(details.tags),
        "num_download": 0,
        "url": "",
        "path": path,
        "internal_path": path,
        "created": date(details.created),
        "updated": date(details.updated),
        "domain_id": context.caller.domain_id,
        "priority": 0,
    }


async def _matching(context: Context, namespace: str | None, part: str | None) -> list[RepositoryName]:
    readable = await context.services.organizations.list_for(context.caller, context.region.id)
    owners = [organization.name for organization in readable if namespace in (None, "", organization.name)]
    names = await list_repositories(context.region.store, owners)
    return [name for name in names if not part or part in name.partition("/")[2]]


async def _page(
    context: Context, names: list[RepositoryName], page: Page, *, column: str, descending: bool
) -> list[RepositoryDetails]:
    """Describe as few repositories as the order allows: by name only the page's, else all."""
    store = context.region.store
    if column == "name":
        ordered = sorted(names, reverse=descending)[page.offset : page.offset + page.limit]
        return [await describe_repository(store, name) for name in ordered]
    details = [await describe_repository(store, name) for name in names]
    return sorted(details, key=_ORDERS[column], reverse=descending)[page.offset : page.offset + page.limit]


def _item(context: Context, details: RepositoryDetails, *, total: int) -> dict[str, Any]:
    path = f"{context.region.registry_host}/{details.name}"
    return {
        "name": details.name.partition("/")[2],
        "category": "other",
        "description": "",
        "size": details.size,
        "is_public": False,
        "num_images": len(details.tags),
        "num_download": 0,
        "created_at": date(details.created),
        "updated_at": date(details.updated),
        "logo": "",
        "url": "",
        "path": path,
        "internal_path": path,
        "domain_name": context.caller.domain_name,
        "namespace": details.name.partition("/")[0],
        "tags": list(details.tags),
        "status": False,
        "total_range": total,
    }
