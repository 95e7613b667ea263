"""Permissions of users in organizations and repositories (SWR: access)."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from fastapi import APIRouter, Body, Depends, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tagferry.accounts.grants import Grant
from tagferry.accounts.model import Caller, Permission
from tagferry.errors import Invalid
from tagferry.names import Namespace, RepositoryName
from tagferry.web.bodies import require_json
from tagferry.web.formats import number
from tagferry.web.items import Items
from tagferry.web.json_response import JSONResponse
from tagferry.web.response_models import ResponseModel
from tagferry.web.swr.context import RequestContext
from tagferry.web.swr.paths import BELOW_REPOSITORY, ORGANIZATIONS
from tagferry.web.text import StoredText, Text

router = APIRouter(tags=["permissions"])
_IN_ORGANIZATION = f"{ORGANIZATIONS}/{{namespace}}/access"
_IN_REPOSITORY = f"{BELOW_REPOSITORY}/access"
_MOST_USERS = 500
"""The maximum number of users in one request. An empty request succeeds and changes nothing."""


class UserAuth(BaseModel):
    """A user's permission. `auth` is 7 for manage, 3 for edit, 1 for read."""

    model_config = ConfigDict(strict=True)

    user_id: StoredText
    user_name: Text = Field("", description="The user's name. Optional, but must match `user_id`.")
    auth: int

    @classmethod
    def of(cls, grant: Grant) -> Self:
        """Return a user's permission as its operations show it."""
        return cls(user_id=grant.user_id, user_name=grant.user_name, auth=grant.permission)


class NamespaceAuths(ResponseModel):
    """The response of ShowNamespaceAuth."""

    id: int
    name: str
    creator_name: str
    self_auth: UserAuth = Field(description="The caller's effective permission.")
    others_auths: list[UserAuth]


class RepositoryAuths(ResponseModel):
    """The response of ShowUserRepositoryAuth."""

    id: int
    name: str
    self_auth: UserAuth = Field(description="The caller's effective permission.")
    others_auths: list[UserAuth] = Field(description="The permissions of other users granted on this repository.")


def _as_list(body: Any) -> Any:
    """Treat `null` as an empty list, since Go clients such as Terraform's provider send it."""
    return [] if body is None else body


UserAuths = Annotated[Items[UserAuth], BeforeValidator(_as_list), Body()]
UserIds = Annotated[Items[StoredText], BeforeValidator(_as_list), Body()]


@router.post(
    _IN_ORGANIZATION, operation_id="CreateNamespaceAuth", status_code=201, dependencies=[Depends(require_json)]
)
async def create_in_organization(namespace: str, body: UserAuths, context: RequestContext) -> Response:
    """Grant permissions in an organization to users who have none there."""
    grants = _grants(body)
    await context.services.members.add_to_organization(context.caller, context.region, Namespace(namespace), grants)
    return JSONResponse({}, status_code=201)


@router.get(_IN_ORGANIZATION, operation_id="ShowNamespaceAuth")
async def show_in_organization(namespace: str, context: RequestContext) -> NamespaceAuths:
    """Show the permissions of users in an organization."""
    found = await context.services.members.of_organization(context.caller, context.region, Namespace(namespace))
    organization = found.organization
    return NamespaceAuths(
        id=organization.id,
        name=organization.name,
        creator_name=organization.creator_name,
        self_auth=_own(context.caller, organization.permission),
        others_auths=_others(context.caller, found.grants),
    )


@router.patch(
    _IN_ORGANIZATION, operation_id="UpdateNamespaceAuth", status_code=201, dependencies=[Depends(require_json)]
)
async def update_in_organization(namespace: str, body: UserAuths, context: RequestContext) -> Response:
    """Change the permissions of users in an organization."""
    grants = _grants(body)
    await context.services.members.change_in_organization(context.caller, context.region, Namespace(namespace), grants)
    return JSONResponse({}, status_code=201)


@router.delete(
    _IN_ORGANIZATION, operation_id="DeleteNamespaceAuth", status_code=204, dependencies=[Depends(require_json)]
)
async def delete_in_organization(namespace: str, body: UserIds, context: RequestContext) -> Response:
    """Revoke the permissions of users in an organization. Permissions granted on single repositories remain."""
    user_ids = _user_ids(body)
    name, members = Namespace(namespace), context.services.members
    await members.remove_from_organization(context.caller, context.region, name, user_ids)
    return Response(status_code=204)


@router.post(
    _IN_REPOSITORY, operation_id="CreateUserRepositoryAuth", status_code=201, dependencies=[Depends(require_json)]
)
async def create_in_repository(namespace: str, repository: str, body: UserAuths, context: RequestContext) -> Response:
    """Grant permissions on a repository to users who have none on the repository itself."""
    grants = _grants(body)
    name = RepositoryName.from_path(namespace, repository)
    await context.services.members.add_to_repository(context.caller, context.region, name, grants)
    return JSONResponse({}, status_code=201)


@router.get(_IN_REPOSITORY, operation_id="ShowUserRepositoryAuth")
async def show_in_repository(namespace: str, repository: str, context: RequestContext) -> RepositoryAuths:
    """Show the permissions granted on a repository itself. Guests see only their own."""
    name = RepositoryName.from_path(namespace, repository)
    found = await context.services.members.of_repository(context.caller, context.region, name)
    return RepositoryAuths(
        id=number(context.region.id, name),
        name=name.repository,
        self_auth=_own(context.caller, found.permission),
        others_auths=_others(context.caller, found.grants),
    )


@router.patch(
    _IN_REPOSITORY, operation_id="UpdateUserRepositoryAuth", status_code=201, dependencies=[Depends(require_json)]
)
async def update_in_repository(namespace: str, repository: str, body: UserAuths, context: RequestContext) -> Response:
    """Change the permissions of users on a repository."""
    grants = _grants(body)
    name = RepositoryName.from_path(namespace, repository)
    await context.services.members.change_in_repository(context.caller, context.region, name, grants)
    return JSONResponse({}, status_code=201)


@router.delete(
    _IN_REPOSITORY, operation_id="DeleteUserRepositoryAuth", status_code=204, dependencies=[Depends(require_json)]
)
async def delete_in_repository(namespace: str, repository: str, body: UserIds, context: RequestContext) -> Response:
    """Revoke the permissions of users on a repository. Permissions in its organization remain."""
    user_ids = _user_ids(body)
    name = RepositoryName.from_path(namespace, repository)
    await context.services.members.remove_from_repository(context.caller, context.region, name, user_ids)
    return Response(status_code=204)


def _grants(body: list[UserAuth]) -> list[Grant]:
    _user_ids([one.user_id for one in body])
    for index, one in enumerate(body):
        if one.auth not in {int(permission) for permission in Permission}:
            raise Invalid(f"body[{index}].auth", "must be 7 (manage), 3 (edit) or 1 (read)", one.auth)
    return [Grant(one.user_id, one.user_name, Permission(one.auth)) for one in body]


def _user_ids(named: list[str]) -> list[str]:
    if len(named) > _MOST_USERS:
        raise Invalid("body", f"must name at most {_MOST_USERS} users", len(named))
    for index, user_id in enumerate(named):
        if user_id in named[:index]:
            raise Invalid(f"body[{index}]", "must not name a user twice", user_id)
    return named


def _own(caller: Caller, permission: Permission) -> UserAuth:
    return UserAuth.of(Grant(caller.user_id, caller.name, permission))


def _others(caller: Caller, grants: Sequence[Grant]) -> list[UserAuth]:
    return [UserAuth.of(grant) for grant in grants if grant.user_id != caller.user_id]
