"""Lists of repositories, paged by offset or by marker."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, Any, Self

from fastapi import APIRouter, Query
from pydantic import Field

from tagferry.accounts.repositories import check_category
from tagferry.errors import Invalid
from tagferry.inventory.listed_repositories import Entries, Listing, View
from tagferry.names import RepositoryName
from tagferry.web.formats import by_date, date, number
from tagferry.web.response_models import ResponseModel
from tagferry.web.swr.context import RequestContext, SwrContext
from tagferry.web.swr.queries import Page, is_descending, parse_filter, parse_flag, parse_number

router = APIRouter(tags=["repositories"])

Order = Callable[[View, bool], Any]
"""A sort key; the second argument is whether the order is descending."""
ORDERS: Mapping[str, Order] = {
    "name": lambda view, descending: view.entry.name,
    "updated_time": lambda view, descending: by_date(view.updated, descending=descending),
    "tag_count": lambda view, descending: len(view.details.tags),
}
"""The values of `order_column` and their sort keys."""


class _Item(ResponseModel):
    name: str
    category: str
    description: str
    size: int
    is_public: bool
    num_images: int
    num_download: int
    created_at: str
    updated_at: str
    domain_name: str
    status: bool

    @classmethod
    def of(cls, context: SwrContext, one: View, **more: Any) -> Self:
        """Return a repository as lists show it, with `more` fields."""
        entry, details = one.entry, one.details
        return cls(
            name=entry.name.unchecked_repository,
            category=entry.category,
            description=entry.description,
            size=details.size,
            is_public=entry.is_public,
            num_images=len(details.tags),
            num_download=entry.downloads,
            created_at=date(one.created),
            updated_at=date(one.updated),
            domain_name=entry.domain_name or context.caller.domain_name,
            status=bool(entry.is_shared),
            **more,
        )


class RepositoryItem(_Item):
    """A repository in ListReposDetails."""

    logo: str
    url: str
    path: str
    internal_path: str
    namespace: str
    tags: list[str]
    total_range: int


class MarkedRepositoryItem(_Item):
    """A repository in ListRepoDetails."""

    id: int
    namespace_name: str


class RepositoryPage(ResponseModel):
    """The response of ListRepoDetails. `nextMarker` is present if there are more repositories."""

    repos: list[MarkedRepositoryItem]
    next_marker: int | None = Field(None, serialization_alias="nextMarker")


@router.get("/v2/manage/repos", operation_id="ListReposDetails")
async def list_page(
    context: RequestContext,
    namespace: str | None = None,
    name: str | None = None,
    category: str | None = None,
    is_public: str | None = None,
    limit: str | None = None,
    offset: str | None = None,
    order_column: str | None = None,
    order_type: str | None = None,
    filter_: Annotated[str | None, Query(alias="filter")] = None,
) -> list[RepositoryItem]:
    """List the repositories that the caller can read. `name` matches any part of the name."""
    plain = {
        "namespace": namespace,
        "name": name,
        "category": category,
        "is_public": is_public,
        "limit": limit,
        "offset": offset,
        "order_column": order_column,
        "order_type": order_type,
    }
    parameters = {**plain, **parse_filter(filter_)}
    return await page_of(context, parameters, partial(_matching, context, parameters))


@router.get("/v3/manage/repos", operation_id="ListRepoDetails", response_model_exclude_none=True)
async def list_from_marker(
    context: RequestContext,
    namespace: str | None = None,
    name: str | None = None,
    category: str | None = None,
    limit: str | None = None,
    marker: str | None = None,
    is_public: str | None = None,
) -> RepositoryPage:
    """List the repositories that the caller can read in the order of their ids, starting after the marker."""
    parameters = {
        "namespace": namespace,
        "name": name,
        "category": category,
        "limit": limit,
        "marker": marker,
        "is_public": is_public,
    }
    return await page_behind_marker(context, parameters, partial(_matching, context, parameters))


async def page_of(
    context: SwrContext,
    parameters: Mapping[str, str | None],
    find: Callable[[], Awaitable[Listing]],
    *,
    orders: Mapping[str, Order] = ORDERS,
) -> list[RepositoryItem]:
    """Return the page of a list selected by `limit`, `offset`, `order_column` and `order_type`; raises Invalid.

    Args:
        context: the request's context.
        parameters: the request's parameters.
        find: returns the whole list; called after the parameters were validated.
        orders: the values of `order_column` and their sort keys, with at least `name`.
    """
    page = Page.parse(parameters)
    column = parameters.get("order_column") or "name"
    if column not in orders:
        raise Invalid("order_column", f"must be one of {', '.join(orders)}", column)
    descending = is_descending(parameters, "order_type", default=False)
    listing = await find()
    shown = await _page(listing, page, order=orders[column], descending=descending)
    context.response.headers.update(page.content_range(count=len(shown), total=len(listing.names)))
    return [_listed(context, one, total=len(listing.names)) for one in shown]


async def page_behind_marker(
    context: SwrContext, parameters: Mapping[str, str | None], find: Callable[[], Awaitable[Listing]]
) -> RepositoryPage:
    """Return the page of a list selected by `limit` and `marker`, in the order of ids; like `page_of`."""
    size = Page.parse({"limit": parameters.get("limit")}).limit
    after = parse_number(parameters, "marker", default=-1)
    listing = await find()
    following = sorted((found, name) for name in listing.names if (found := _id(context, name)) > after)
    # Two names may have the same id. A page never ends between them, since the marker could not distinguish them.
    end = size
    while 0 < end < len(following) and following[end][0] == following[end - 1][0]:
        end += 1
    shown = await listing.views([name for _, name in following[:end]])
    return RepositoryPage(
        repos=[_marked(context, one) for one in shown],
        next_marker=following[end - 1][0] if end < len(following) else None,
    )


async def _matching(context: SwrContext, parameters: Mapping[str, str | None]) -> Listing:
    namespace, part, category = (parameters.get(name) for name in ("namespace", "name", "category"))
    if category:
        check_category(category)
    is_public = parse_flag(parameters, "is_public")
    readable = await context.services.access.readable(context.caller, context.region.id)
    inventory, wanted = context.services.repository_inventory, {"namespace": namespace, "part": part}
    is_by_name = parameters.get("order_column") in (None, "", "name")
    if is_by_name and not category and is_public is None:
        names = await inventory.names(context.region, readable, **wanted)
        return inventory.listing(context.region, names, readable)
    entries = await inventory.list_readable(context.region, readable, **wanted)
    if category or is_public is not None:
        entries = Entries.of(
            entry
            for entry in entries
            if (not category or category == entry.category) and is_public in (None, entry.is_public)
        )
    return inventory.listing_of(context.region, entries)


async def _page(listing: Listing, page: Page, *, order: Order, descending: bool) -> list[View]:
    """Return the views of a page. Ordered by name, only the page's repositories are read, otherwise all."""
    chosen = slice(page.offset, page.offset + page.limit)
    if order is ORDERS["name"]:
        return await listing.views((listing.names[::-1] if descending else listing.names)[chosen])
    every = await listing.views(listing.names)
    return sorted(every, key=lambda view: order(view, descending), reverse=descending)[chosen]


def _id(context: SwrContext, name: RepositoryName) -> int:
    return number(context.region.id, name)


def _marked(context: SwrContext, one: View) -> MarkedRepositoryItem:
    namespace = one.entry.name.unchecked_namespace
    return MarkedRepositoryItem.of(context, one, id=_id(context, one.entry.name), namespace_name=namespace)


def _listed(context: SwrContext, one: View, *, total: int) -> RepositoryItem:
    name = one.entry.name
    path = f"{context.region.registry_host}/{name}"
    return RepositoryItem.of(
        context,
        one,
        logo="",
        url="",
        path=path,
        internal_path=path,
        namespace=name.unchecked_namespace,
        tags=list(one.details.tags),
        total_range=total,
    )
