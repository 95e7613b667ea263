"""Organizations (SWR: namespaces): create, list, show, delete."""

from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from tagferry.accounts.model import Organization, Permission
from tagferry.catalog import has_images, list_repositories
from tagferry.errors import Conflict, Denied, Invalid, NotFound, Unsupported
from tagferry.names import Namespace
from tagferry.web.context import Context, RequestContext
from tagferry.web.swr.queries import parse_filter
from tagferry.web.swr.synchronization import require_json

router = APIRouter(tags=["organizations"])
_ORGANIZATIONS = "/v2/manage/namespaces"


class CreateNamespaceBody(BaseModel):
    """The body of CreateNamespace."""

    model_config = ConfigDict(strict=True)

    namespace: str


class NamespaceItem(BaseModel):
    """An organization; `auth` is what the caller may do in it: 7 manage, 3 edit, 1 read."""

    id: int
    name: str
    creator_name: str
    auth: int


class NamespaceList(BaseModel):
    """The answer of ListNamespaces."""

    namespaces: list[NamespaceItem]


@router.post(_ORGANIZATIONS, operation_id="CreateNamespace", status_code=201, dependencies=[Depends(require_json)])
async def create(body: CreateNamespaceBody, context: RequestContext) -> Response:
    """Create an organization, which its creator manages."""
    name = Namespace(body.namespace)
    await context.services.organizations.create(context.caller, context.region.id, name)
    return JSONResponse({}, status_code=201)


@router.get(_ORGANIZATIONS, operation_id="ListNamespaces", response_model=NamespaceList)
async def list_all(
    context: RequestContext,
    namespace: str | None = None,
    filter_: Annotated[str | None, Query(alias="filter")] = None,
) -> dict[str, Any]:
    """List the organizations that the caller may see; `namespace` names one exactly, as `filter=namespace::` does."""
    parameters = parse_filter(filter_)
    if parameters.get("mode", "visible") != "visible":
        raise Invalid("mode", "must be visible", parameters["mode"])
    wanted = parameters.get("namespace") or namespace
    found = await context.services.organizations.list_for(context.caller, context.region.id)
    return {"namespaces": [_item(organization) for organization in found if wanted in (None, "", organization.name)]}


@router.get(f"{_ORGANIZATIONS}/{{namespace}}", operation_id="ShowNamespace", response_model=NamespaceItem)
async def show(namespace: str, context: RequestContext) -> dict[str, Any]:
    """Show an organization."""
    name = Namespace(namespace)
    organization = await context.services.organizations.require(
        context.caller, context.region.id, name, Permission.READ
    )
    if organization is None:
        raise NotFound("organization", f"{name} in {context.region.id}", "its registry knows it, tagferry does not")
    return _item(organization)


@router.delete(f"{_ORGANIZATIONS}/{{namespace}}", operation_id="DeleteNamespaces", status_code=204)
async def delete(namespace: str, context: RequestContext) -> Response:
    """Delete an organization that holds no repository."""
    name = Namespace(namespace)
    await context.services.organizations.require(context.caller, context.region.id, name, Permission.MANAGE)
    await _require_empty(context, name)
    await context.services.organizations.delete(context.region.id, name)
    return Response(status_code=204)


async def _require_empty(context: Context, name: Namespace) -> None:
    """Raise Conflict where the organization has a repository; what is left of deleted ones is cleared away."""
    store = context.region.store
    records = await context.services.repositories.list_in(context.region.id, [name])
    try:
        listed = await list_repositories(store, [name])
    except Unsupported:
        raise Denied(
            f"the registry of {context.region.id} does not list its repositories, so that {name} cannot be shown "
            "to be empty; delete it with: tagferry org delete"
        ) from None
    held = [record.name for record in records] or [one for one in listed if await has_images(store, one)]
    if held:
        raise Conflict(
            "organization in use",
            f"the organization {name} still holds repositories, as {held[0]}; delete them first",
        )
    for repository in listed:
        with suppress(NotFound):
            await store.delete_repository(repository)


def _item(organization: Organization) -> dict[str, Any]:
    return {
        "id": organization.id,
        "name": organization.name,
        "creator_name": organization.creator_name,
        "auth": int(organization.permission),
    }
