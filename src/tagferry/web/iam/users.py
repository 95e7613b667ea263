"""Users: managed by administrators, in every domain; their passwords changed by themselves, too."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from tagferry.accounts.model import UserRecord
from tagferry.errors import Denied, Invalid
from tagferry.web import audit
from tagferry.web.authentication import client_address
from tagferry.web.bodies import require_json
from tagferry.web.context import RequestContext
from tagferry.web.formats import date
from tagferry.web.iam.authorize import require_administrator, require_own, require_permanent_key
from tagferry.web.iam.model import Strict, links
from tagferry.web.text import StoredText, Text

router = APIRouter()
Kept = Annotated[StoredText, Field(max_length=255)]
_PROFILE: dict[str, str | bool] = {
    **dict.fromkeys(("email", "areacode", "phone", "xuser_id", "xuser_type"), ""),
    "pwd_status": False,
}
"""The fields of a user that are only stored, with the values that are shown if none were given."""


class UserOptions(Strict):
    """What creating and updating a user have in common.

    How to reach a user, its identity elsewhere, and `pwd_status` are kept and shown, and have no effect. Other modes of
    access would promise that a user is kept from something.
    """

    domain_id: Text | None = None
    password: Text | None = None
    enabled: bool | None = None
    description: Text | None = None
    access_mode: Literal["default"] | None = None
    email: Kept | None = None
    areacode: Kept | None = None
    phone: Kept | None = None
    xuser_id: Kept | None = None
    xuser_type: Kept | None = None
    pwd_status: bool | None = None

    @property
    def profile(self) -> dict[str, Any]:
        """The given values of the fields that are only stored."""
        given = {field: getattr(self, field) for field in _PROFILE}
        return {field: value for field, value in given.items() if value is not None}


class CreateUser(UserOptions):
    """The user to be."""

    name: Text


class CreateUserBody(Strict):
    """The body of CreateUser and of KeystoneCreateUser."""

    user: CreateUser


class UpdateUser(UserOptions):
    """What is to be otherwise."""

    name: Text | None = None


class UpdateUserBody(Strict):
    """The body of UpdateUser and of KeystoneUpdateUserByAdmin."""

    user: UpdateUser


class NewPassword(Strict):
    """A user's new password, and the one so far."""

    password: Text
    original_password: Text


class NewPasswordBody(Strict):
    """The body of KeystoneUpdateUserPassword."""

    user: NewPassword


@router.post("/v3/users", operation_id="KeystoneCreateUser", status_code=201, dependencies=[Depends(require_json)])
@router.post("/v3.0/OS-USER/users", operation_id="CreateUser", status_code=201, dependencies=[Depends(require_json)])
async def create_user(body: CreateUserBody, context: RequestContext) -> dict[str, Any]:
    """Create a user in the caller's domain or another; without a password it can use access keys only."""
    require_administrator(context.caller)
    require_permanent_key(context.caller)
    wanted, users = body.user, context.services.users
    domain = context.caller.domain_name
    if wanted.domain_id:
        domain = await users.domain_name(wanted.domain_id)
    made = await users.create(
        wanted.name,
        wanted.password,
        domain=domain,
        enabled=wanted.enabled is not False,
        description=wanted.description or "",
        profile=wanted.profile,
    )
    audit.bind_subject(user=made.name)
    return {"user": user_document(await users.show(made.user_id))}


@router.get("/v3/users", operation_id="KeystoneListUsers")
async def list_users(
    context: RequestContext, domain_id: str = "", name: str = "", enabled: bool | None = None
) -> dict[str, Any]:
    """List the users of all domains, or of one; `name` picks one."""
    require_administrator(context.caller)
    users = await context.services.users.list_users(domain_id=domain_id or None, name=name or None, enabled=enabled)
    return {"links": links(), "users": [user_document(user) for user in users]}


@router.get("/v3/users/{user_id}", operation_id="KeystoneShowUser")
@router.get("/v3.0/OS-USER/users/{user_id}", operation_id="ShowUser")
async def show_user(user_id: str, context: RequestContext) -> dict[str, Any]:
    """Show a user."""
    require_own(user_id, context.caller)
    return {"user": user_document(await context.services.users.show(user_id))}


@router.patch("/v3/users/{user_id}", operation_id="KeystoneUpdateUserByAdmin", dependencies=[Depends(require_json)])
@router.put("/v3.0/OS-USER/users/{user_id}", operation_id="UpdateUser", dependencies=[Depends(require_json)])
async def update_user(user_id: str, body: UpdateUserBody, context: RequestContext) -> dict[str, Any]:
    """Change a user's name, password or description, or disable or enable it: all that is given, or nothing."""
    require_administrator(context.caller)
    require_permanent_key(context.caller)
    wanted, users = body.user, context.services.users
    user = await users.show(user_id)
    audit.bind_subject(user=user.name)
    if wanted.domain_id not in (None, "", user.domain_id):
        raise Invalid("user.domain_id", "must be the user's own; nobody changes the domain", wanted.domain_id)
    changed = await users.update(
        user.user_id,
        name=wanted.name,
        password=wanted.password,
        description=wanted.description,
        enabled=wanted.enabled,
        profile=wanted.profile,
    )
    return {"user": user_document(changed)}


@router.post(
    "/v3/users/{user_id}/password",
    operation_id="KeystoneUpdateUserPassword",
    status_code=204,
    dependencies=[Depends(require_json)],
)
async def update_password(user_id: str, body: NewPasswordBody, context: RequestContext) -> Response:
    """Change the caller's own password, which ends the tokens got by the old one."""
    caller = context.caller
    if user_id != caller.user_id:
        raise Denied("a user changes its own password here; administrators give new ones by PATCH /v3/users/{user_id}")
    require_permanent_key(caller)
    audit.bind_subject(user=caller.name)
    new, original = body.user.password, body.user.original_password
    authenticator, address = context.services.authenticator, client_address(context.request.scope)
    await authenticator.by_password(caller.name, original, address=address)
    if new == original:
        raise Invalid("user.password", "must not be the one so far")
    await context.services.users.update(user_id, password=new)
    return Response(status_code=204)


@router.delete("/v3/users/{user_id}", operation_id="KeystoneDeleteUser", status_code=204)
async def delete_user(user_id: str, context: RequestContext) -> Response:
    """Delete a user with its access keys and tokens."""
    require_administrator(context.caller)
    require_permanent_key(context.caller)
    user = await context.services.users.show(user_id)
    audit.bind_subject(user=user.name)
    await context.services.users.delete(user.user_id)
    return Response(status_code=204)


def user_document(user: UserRecord) -> dict[str, Any]:
    """A user as all of IAM's operations tell it."""
    return {
        "id": user.user_id,
        "name": user.name,
        "domain_id": user.domain_id,
        "enabled": user.enabled,
        "description": user.description,
        "create_time": date(user.created_at),
        "access_mode": "default",
        "is_domain_owner": False,
        "last_project_id": "",
        **_PROFILE,
        **user.profile,
        "password_expires_at": "",
        "links": links(),
    }
