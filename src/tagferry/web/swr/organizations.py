"""Organizations (SWR: namespaces): create, list, show, delete."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from tagferry.accounts.model import Organization, Permission
from tagferry.errors import Invalid
from tagferry.names import Namespace
from tagferry.web import audit
from tagferry.web.bodies import require_json
from tagferry.web.formats import number
from tagferry.web.json_response import JSONResponse
from tagferry.web.response_models import ResponseModel
from tagferry.web.swr.context import RequestContext, SwrContext
from tagferry.web.swr.paths import ORGANIZATIONS
from tagferry.web.swr.queries import parse_filter

router = APIRouter(tags=["organizations"])


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
    audit.bind_record(organization=name)
    await context.services.organization_inventory.create(context.caller, context.region, name)
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
    wanted = parameters.get("namespace") or namespace or ""
    listed = await context.services.organization_inventory.list_for(context.caller, context.region, name=wanted)
    return NamespaceList(
        namespaces=[
            CountedNamespaceItem(
                **dict(_item(context, one.name, one.record)),
                access_user_count=one.users,
                repo_count=one.repositories,
            )
            for one in listed
        ]
    )


@router.get(f"{ORGANIZATIONS}/{{namespace}}", operation_id="ShowNamespace", response_model=NamespaceItem)
async def show(namespace: str, context: RequestContext) -> NamespaceItem:
    """Show an organization."""
    name = Namespace(namespace)
    found = await context.services.organization_inventory.find(context.caller, context.region, name)
    return _item(context, name, found)


@router.delete(f"{ORGANIZATIONS}/{{namespace}}", operation_id="DeleteNamespaces", status_code=204)
async def delete(namespace: str, context: RequestContext) -> Response:
    """Delete an empty organization. In a region with `organizations = "open"`, delete only its record."""
    await context.services.organization_inventory.delete(context.caller, context.region, Namespace(namespace))
    return Response(status_code=204)


def _item(context: SwrContext, name: Namespace, record: Organization | None) -> NamespaceItem:
    """Return an organization; one that only the registry has as administrators see it."""
    if record is not None:
        return NamespaceItem.model_validate(record)
    known_id = number(context.region.id, name)
    return NamespaceItem(id=known_id, name=name, creator_name="", permission=Permission.MANAGE)
