"""Organizations (SWR: namespaces): create, list, show, delete."""

import asyncio
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from tagferry.accounts.model import Organization, Permission
from tagferry.catalog import has_tags, list_repositories
from tagferry.errors import Conflict, Denied, Invalid, InvalidName, NotFound, Refused, Unavailable, Unsupported
from tagferry.names import Namespace
from tagferry.registry.storage.store import DiskStore
from tagferry.web.bodies import require_json
from tagferry.web.formats import number
from tagferry.web.json_response import JSONResponse
from tagferry.web.response_models import ResponseModel
from tagferry.web.swr.context import RequestContext, SwrContext
from tagferry.web.swr.paths import ORGANIZATIONS
from tagferry.web.swr.queries import parse_filter

router = APIRouter(tags=["organizations"])
_COUNT_SECONDS = 5.0
"""The maximum time for counting the repositories of a registry in a list."""


class CreateNamespaceBody(BaseModel):
    """The body of CreateNamespace."""

    model_config = ConfigDict(strict=True)

    namespace: str


class NamespaceItem(ResponseModel):
    """An organization. `auth` is the caller's permission: 7 manage, 3 edit, 1 read."""

    id: int
    name: str
    creator_name: str
    permission: int = Field(serialization_alias="auth")


class CountedNamespaceItem(NamespaceItem):
    """An organization in a list, with the number of users with permissions in it, and of its repositories."""

    access_user_count: int
    repo_count: int


class NamespaceList(ResponseModel):
    """The response of ListNamespaces."""

    namespaces: list[CountedNamespaceItem]


@router.post(ORGANIZATIONS, operation_id="CreateNamespace", status_code=201, dependencies=[Depends(require_json)])
async def create(body: CreateNamespaceBody, context: RequestContext) -> Response:
    """Create an organization. The caller gets the permission to manage it.

    In a region with `organizations = "open"`, this only creates a record of the registry's organization.
    """
    name = Namespace(body.namespace)
    context.services.access.require_creation(context.caller, context.region.id, name)
    await _require_unused(context, name)
    limit = organization_limit(context)
    await context.services.organizations.create(context.caller, context.region.id, name, limit=limit)
    return JSONResponse({}, status_code=201)


@router.get(ORGANIZATIONS, operation_id="ListNamespaces")
async def list_all(
    context: RequestContext,
    namespace: str | None = None,
    filter_: Annotated[str | None, Query(alias="filter")] = None,
) -> NamespaceList:
    """List the organizations that the caller can read. `namespace`, also in `filter`, selects one by its exact name."""
    parameters = parse_filter(filter_)
    if parameters.get("mode", "visible") != "visible":
        raise Invalid("mode", "must be visible", parameters["mode"])
    wanted = parameters.get("namespace") or namespace
    organizations, region = context.services.organizations, context.region.id
    found = await organizations.list_for(context.caller, region)
    items = {organization.name: NamespaceItem.model_validate(organization) for organization in found}
    if context.services.access.has_unrecorded_organizations(context.caller, region):
        for name in await _in_registry(context):
            items.setdefault(name, _unrecorded_item(context, name))
    names = [name for name in sorted(items) if wanted in (None, "", name)]
    users, repositories = await organizations.user_counts(region), await _count_repositories(context, names)
    return NamespaceList(
        namespaces=[
            CountedNamespaceItem(
                **dict(items[name]), access_user_count=users.get(name, 0), repo_count=repositories[name]
            )
            for name in names
        ]
    )


@router.get(f"{ORGANIZATIONS}/{{namespace}}", operation_id="ShowNamespace", response_model=NamespaceItem)
async def show(namespace: str, context: RequestContext) -> Organization | NamespaceItem:
    """Show an organization."""
    name, region = Namespace(namespace), context.region.id
    organization = await context.services.access.require_organization(context.caller, region, name, Permission.READ)
    if organization is not None:
        return organization
    if name in await _in_registry(context):
        return _unrecorded_item(context, name)
    raise NotFound(
        "organization", f"{name} in {region}", "it has no record, and the registry lists no repository in it"
    )


@router.delete(f"{ORGANIZATIONS}/{{namespace}}", operation_id="DeleteNamespaces", status_code=204)
async def delete(namespace: str, context: RequestContext) -> Response:
    """Delete an empty organization. In a region with `organizations = "open"`, delete only its record."""
    name, region = Namespace(namespace), context.region.id
    organization = await context.services.access.require_organization(context.caller, region, name, Permission.MANAGE)
    if organization is None:
        raise NotFound(
            "organization", f"{name} in {region}", "it has no record; organizations are managed in the registry"
        )
    if not context.services.access.is_open(region):
        await _require_empty(context, name)
        await context.services.downloads.forget(region, name)
    await context.services.organizations.delete(region, name)
    return Response(status_code=204)


def organization_limit(context: SwrContext) -> int | None:
    """Return the maximum number of organizations that the caller can create in a region; None for no limit."""
    return None if context.caller.is_admin else context.settings.quotas.organizations or None


async def _require_unused(context: SwrContext, name: Namespace) -> None:
    """Remove leftovers of a deleted organization with this name; raises Conflict if it still has images."""
    store, region = context.region.store, context.region.id
    # An existing organization keeps its images; creating it raises Conflict later.
    if not isinstance(store, DiskStore) or await context.services.organizations.exists(region, name):
        return
    if held := await store.clear_organization(name):
        raise Conflict(
            "organization in use",
            f'the registry of "{region}" still has images of a deleted organization "{name}", such as "{held[0]}"; an '
            f"administrator can assign them to a new one with: tagferry org create {region}/{name}",
        )


async def _require_empty(context: SwrContext, name: Namespace) -> None:
    """Remove leftovers of deleted repositories; raises Conflict if the organization has a repository."""
    store = context.region.store
    records = await context.services.repositories.list_in(context.region.id, [name])
    try:
        # A list may leave out what cannot be read.
        listed = await (
            store.repositories_in(name) if isinstance(store, DiskStore) else list_repositories(store, [name])
        )
    except Unsupported:
        raise Denied(
            f'the registry of {context.region.id} does not list its repositories, so it is unknown whether "{name}" is '
            "empty; delete it with: tagferry org delete"
        ) from None
    held = [record.name for record in records] or [one for one in listed if await has_tags(store, one)]
    if held:
        raise Conflict(
            "organization in use",
            f'the organization "{name}" still has repositories, such as "{held[0]}"; delete them first',
        )
    for repository in listed:
        with suppress(NotFound):
            await store.delete_repository(repository)


async def _count_repositories(context: SwrContext, namespaces: Collection[Namespace]) -> Counter[str]:
    """Return the number of repositories in each of these organizations.

    If the registry does not list its repositories in time, only those with a record are counted, so that organizations
    can be listed without the registry.
    """
    names = {record.name for record in await context.services.repositories.list_in(context.region.id, namespaces)}
    with suppress(Unsupported, Refused, Unavailable, TimeoutError):
        async with asyncio.timeout(_COUNT_SECONDS):
            names.update(await list_repositories(context.region.store, namespaces))
    return Counter(name.partition("/")[0] for name in names)


async def _in_registry(context: SwrContext) -> set[Namespace]:
    """Return the organizations of the repositories that the region's registry lists, or none if it lists nothing."""
    found = set()
    with suppress(Unsupported):
        for name in await list_repositories(context.region.store, None):
            with suppress(InvalidName):
                found.add(name.namespace)
    return found


def _unrecorded_item(context: SwrContext, name: Namespace) -> NamespaceItem:
    """Return an organization that only the registry has, as administrators see it."""
    known_id = number(context.region.id, name)
    return NamespaceItem(id=known_id, name=name, creator_name="", permission=Permission.MANAGE)
