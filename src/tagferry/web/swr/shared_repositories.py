"""Lists of shared repositories: those that the caller's side shares, and those shared with the caller's domain."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query

from tagferry.errors import Invalid, MissingField
from tagferry.inventory.listed_repositories import Entries, Entry, Listing
from tagferry.web.swr.context import RequestContext, SwrContext
from tagferry.web.swr.queries import parse_filter, parse_flag
from tagferry.web.swr.repository_lists import (
    ORDERS,
    Order,
    RepositoryItem,
    RepositoryPage,
    page_behind_marker,
    page_of,
)

router = APIRouter(tags=["sharing"])
_OURS, _THEIRS = "self", "thirdparty"
# SWR calls the same order `updated_at` in the parameter and `updated_time` in the filter.
_ORDERS: Mapping[str, Order] = {
    **ORDERS,
    "updated_at": ORDERS["updated_time"],
    "namespace": lambda view, descending: view.entry.name,
    "domain_name": lambda view, descending: (view.entry.domain_name, view.entry.name),
}


@router.get("/v2/manage/shared-repositories", operation_id="ListSharedReposDetails")
async def list_page(
    context: RequestContext,
    namespace: str | None = None,
    name: str | None = None,
    center: str | None = None,
    domain_name: str | None = None,
    status: str | None = None,
    limit: str | None = None,
    offset: str | None = None,
    order_column: str | None = None,
    order_type: str | None = None,
    filter_: Annotated[str | None, Query(alias="filter")] = None,
) -> list[RepositoryItem]:
    """List shared repositories. Of those that are no longer shared with the caller's domain, only the name is shown."""
    plain = {
        "namespace": namespace,
        "name": name,
        "center": center,
        "domain_name": domain_name,
        "status": status,
        "limit": limit,
        "offset": offset,
        "order_column": order_column,
        "order_type": order_type,
    }
    parameters = {**plain, **parse_filter(filter_)}
    wanted = _Wanted.parse(parameters, side="center")
    return await page_of(context, parameters, partial(_matching, context, wanted), orders=_ORDERS)


@router.get(
    "/v3/manage/shared-repositories",
    operation_id="ListSharedRepoDetails",
    response_model_exclude_none=True,
)
async def list_from_marker(
    context: RequestContext,
    namespace: str | None = None,
    name: str | None = None,
    shared_by: str | None = None,
    limit: str | None = None,
    marker: str | None = None,
    status: str | None = None,
) -> RepositoryPage:
    """List shared repositories in the order of their ids, starting after the marker."""
    parameters = {
        "namespace": namespace,
        "name": name,
        "shared_by": shared_by,
        "limit": limit,
        "marker": marker,
        "status": status,
    }
    wanted = _Wanted.parse(parameters, side="shared_by")
    return await page_behind_marker(context, parameters, partial(_matching, context, wanted))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The filters of a list of shared repositories. Empty values and None match all.

    Attributes:
        are_theirs: list repositories shared with the caller's domain, rather than those that the caller's side shares.
        part: any part of the repository's name.
        domain: the name of the domain that owns the repository.
        are_shared: whether the repository is still shared with the caller's domain.
    """

    are_theirs: bool
    namespace: str
    part: str
    domain: str
    are_shared: bool | None

    @classmethod
    def parse(cls, parameters: Mapping[str, str | None], *, side: str) -> "_Wanted":
        """Parse the parameters; `side` is the name of the one that selects who shares. Raises Invalid."""
        by = parameters.get(side)
        if not by:
            raise MissingField(side)
        if by not in (_OURS, _THEIRS):
            raise Invalid(side, f"must be {_OURS} or {_THEIRS}", by)
        status = parse_flag(parameters, "status")
        return cls(
            are_theirs=by == _THEIRS,
            namespace=parameters.get("namespace") or "",
            part=parameters.get("name") or "",
            domain=parameters.get("domain_name") or "",
            are_shared=status if by == _THEIRS else None,
        )

    def __contains__(self, entry: Entry) -> bool:
        return (
            self.namespace in ("", entry.name.namespace)
            and self.part in entry.name.repository
            and self.domain in ("", entry.domain_name)
            and self.are_shared in (None, entry.is_shared)
        )


async def _matching(context: SwrContext, wanted: _Wanted) -> Listing:
    shares, region = context.services.shares, context.region.id
    found = await (shares.received if wanted.are_theirs else shares.given)(context.caller, region)
    namespaces = {one.name.namespace for one in found}
    listed = await context.services.repositories.list_in(region, namespaces)
    downloads = await context.services.downloads.in_region(region, namespaces)
    records = {record.name: record for record in listed}
    entries = (
        Entry(
            one.name,
            None if one.is_expired else records.get(one.name),
            domain_name=one.domain_name,
            is_shared=not one.is_expired if wanted.are_theirs else None,
            downloads=0 if one.is_expired else downloads.get(one.name, 0),
        )
        for one in found
    )
    listed_entries = Entries.of(entry for entry in entries if entry in wanted)
    return context.services.repository_inventory.listing_of(context.region, listed_entries)
