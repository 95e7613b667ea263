"""The group `admin`, the only one. Its members are the administrators."""

import hashlib
from typing import Self

from fastapi import APIRouter, Response

from tagferry.accounts.authorization import require_administrator, require_own, require_permanent_key
from tagferry.accounts.model import Caller, UserRecord
from tagferry.errors import NotFound
from tagferry.web import audit
from tagferry.web.iam.context import IamContext, RequestContext
from tagferry.web.iam.model import Links
from tagferry.web.iam.users import IamUser, IamUserList
from tagferry.web.response_models import ResponseModel

router = APIRouter()
_NAME = "admin"
_ID = hashlib.sha256(b"tagferry\0group\0admin").hexdigest()[:32]
_MEMBER = "/v3/groups/{group_id}/users/{user_id}"


class Group(ResponseModel):
    """A group."""

    id: str = _ID
    name: str = _NAME
    description: str = "Administrators, who have all permissions"
    domain_id: str
    links: Links = Links()

    @classmethod
    def of(cls, caller: Caller) -> Self:
        """Return the group as this caller sees it."""
        return cls(domain_id=caller.domain_id)


class ShownGroup(ResponseModel):
    """One group."""

    group: Group


class GroupList(ResponseModel):
    """A list of groups."""

    links: Links = Links()
    groups: list[Group]


@router.get("/v3/groups", operation_id="KeystoneListGroups")
async def list_groups(context: RequestContext, domain_id: str = "", name: str = "") -> GroupList:
    """List the groups. The only one is `admin`, which appears to belong to the caller's domain."""
    require_administrator(context.caller)
    is_wanted = name in ("", _NAME) and domain_id in ("", context.caller.domain_id)
    return GroupList(groups=[Group.of(context.caller)] if is_wanted else [])


@router.get("/v3/groups/{group_id}", operation_id="KeystoneShowGroup")
async def show_group(group_id: str, context: RequestContext) -> ShownGroup:
    """Show the group `admin`."""
    require_administrator(context.caller)
    _require_group(group_id)
    return ShownGroup(group=Group.of(context.caller))


@router.get("/v3/users/{user_id}/groups", operation_id="KeystoneListGroupsForUser")
async def list_groups_of_user(user_id: str, context: RequestContext) -> GroupList:
    """List the groups of a user: `admin` or none."""
    require_own(user_id, context.caller)
    user = await context.services.users.show(user_id)
    return GroupList(groups=[Group.of(context.caller)] if user.is_admin else [])


@router.get("/v3/groups/{group_id}/users", operation_id="KeystoneListUsersForGroupByAdmin")
async def list_members(group_id: str, context: RequestContext) -> IamUserList:
    """List the administrators of all domains."""
    require_administrator(context.caller)
    _require_group(group_id)
    administrators = await context.services.users.administrators()
    return IamUserList(users=[IamUser.of(user) for user in administrators])


@router.head(_MEMBER, operation_id="KeystoneCheckUserInGroup", status_code=204)
async def check_member(group_id: str, user_id: str, context: RequestContext) -> Response:
    """Check whether a user is in the group. Returns 204 if so, else 404."""
    require_own(user_id, context.caller)
    _require_group(group_id)
    _require_member(await context.services.users.show(user_id))
    return Response(status_code=204)


@router.put(_MEMBER, operation_id="KeystoneAddUserToGroup", status_code=204)
async def add_member(group_id: str, user_id: str, context: RequestContext) -> Response:
    """Make a user an administrator."""
    user = await _user_to_change(group_id, user_id, context)
    await context.services.users.update(user.user_id, is_admin=True)
    return Response(status_code=204)


@router.delete(_MEMBER, operation_id="KeystoneRemoveUserFromGroup", status_code=204)
async def remove_member(group_id: str, user_id: str, context: RequestContext) -> Response:
    """Revoke a user's administrator role."""
    user = await _user_to_change(group_id, user_id, context)
    _require_member(user)
    await context.services.users.update(user.user_id, is_admin=False)
    return Response(status_code=204)


async def _user_to_change(group_id: str, user_id: str, context: IamContext) -> UserRecord:
    require_administrator(context.caller)
    require_permanent_key(context.caller)
    _require_group(group_id)
    user = await context.services.users.show(user_id)
    audit.bind_subject(user=user.name)
    return user


def _require_group(group_id: str) -> None:
    if group_id != _ID:
        raise NotFound("group", group_id, f"the only group is {_NAME}, with the id {_ID}")


def _require_member(user: UserRecord) -> None:
    if not user.is_admin:
        raise NotFound("user", user.name, where=f"in the group {_NAME}")
