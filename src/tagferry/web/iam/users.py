"""Users. Administrators manage the users of all domains; users can change their own passwords."""

from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from tagferry.accounts.model import UserRecord
from tagferry.errors import Denied, Invalid
from tagferry.web import audit
from tagferry.web.authentication import client_address
from tagferry.web.bodies import require_json
from tagferry.web.iam.context import RequestContext
from tagferry.web.iam.model import Links, Strict
from tagferry.web.response_models import ResponseModel, Time
from tagferry.web.text import StoredText, Text

router = APIRouter()
ProfileText = Annotated[StoredText, Field(max_length=255)]
_PROFILE = ("email", "areacode", "phone", "xuser_id", "xuser_type", "pwd_status")
"""The fields of a user that are only stored and shown."""


class UserOptions(Strict):
    """The fields of a user that can be set and updated.

    Contact data, external identities and `pwd_status` are stored and shown, and have no effect. Other values of
    `access_mode` are rejected, since they would promise a restriction that is not enforced.
    """

    domain_id: Text | None = None
    password: Text | None = None
    enabled: bool | None = None
    description: Text | None = None
    access_mode: Literal["default"] | None = None
    email: ProfileText | None = None
    areacode: ProfileText | None = None
    phone: ProfileText | None = None
    xuser_id: ProfileText | None = None
    xuser_type: ProfileText | None = None
    pwd_status: bool | None = None

    @property
    def profile(self) -> dict[str, Any]:
        """The given values of the fields that are only stored."""
        given = {field: getattr(self, field) for field in _PROFILE}
        return {field: value for field, value in given.items() if value is not None}


class CreateUser(UserOptions):
    """The new user."""

    name: Text


class CreateUserBody(Strict):
    """The body of CreateUser and of KeystoneCreateUser."""

    user: CreateUser


class UpdateUser(UserOptions):
    """The changes; omitted fields keep their values."""

    name: Text | None = None


class UpdateUserBody(Strict):
    """The body of UpdateUser and of KeystoneUpdateUserByAdmin."""

    user: UpdateUser


class NewPassword(Strict):
    """A user's new and current password."""

    password: Text
    original_password: Text


class NewPasswordBody(Strict):
    """The body of KeystoneUpdateUserPassword."""

    user: NewPassword


class IamUser(ResponseModel):
    """A user."""

    id: str
    name: str
    domain_id: str
    enabled: bool
    description: str
    create_time: Time
    access_mode: str = "default"
    is_domain_owner: bool = False
    last_project_id: str = ""
    email: str = ""
    areacode: str = ""
    phone: str = ""
    xuser_id: str = ""
    xuser_type: str = ""
    pwd_status: bool = False
    password_expires_at: str = ""
    links: Links = Links()

    @classmethod
    def of(cls, user: UserRecord) -> Self:
        """Return a user as IAM shows it."""
        return cls(
            id=user.user_id,
            name=user.name,
            domain_id=user.domain_id,
            enabled=user.enabled,
            description=user.description,
            create_time=user.created_at,
            **user.profile,
        )


class ShownIamUser(ResponseModel):
    """One user."""

    user: IamUser


class IamUserList(ResponseModel):
    """A list of users."""

    links: Links = Links()
    users: list[IamUser]


@router.post("/v3/users", operation_id="KeystoneCreateUser", status_code=201, dependencies=[Depends(require_json)])
@router.post("/v3.0/OS-USER/users", operation_id="CreateUser", status_code=201, dependencies=[Depends(require_json)])
async def create_user(body: CreateUserBody, context: RequestContext) -> ShownIamUser:
    """Create a user, by default in the caller's domain. Without a password, it can only use access keys."""
    wanted = body.user
    made = await context.services.accounts.create_user(
        context.caller,
        wanted.name,
        wanted.password,
        domain_id=wanted.domain_id or "",
        enabled=wanted.enabled is not False,
        description=wanted.description or "",
        profile=wanted.profile,
    )
    audit.bind_subject(user=made.name)
    return ShownIamUser(user=IamUser.of(made))


@router.get("/v3/users", operation_id="KeystoneListUsers")
async def list_users(
    context: RequestContext, domain_id: str = "", name: str = "", enabled: bool | None = None
) -> IamUserList:
    """List users, optionally filtered by domain, name or state."""
    users = await context.services.accounts.list_users(
        context.caller, domain_id=domain_id or None, name=name or None, enabled=enabled
    )
    return IamUserList(users=[IamUser.of(user) for user in users])


@router.get("/v3/users/{user_id}", operation_id="KeystoneShowUser")
@router.get("/v3.0/OS-USER/users/{user_id}", operation_id="ShowUser")
async def show_user(user_id: str, context: RequestContext) -> ShownIamUser:
    """Show a user."""
    return ShownIamUser(user=IamUser.of(await context.services.accounts.user(context.caller, user_id)))


@router.patch("/v3/users/{user_id}", operation_id="KeystoneUpdateUserByAdmin", dependencies=[Depends(require_json)])
@router.put("/v3.0/OS-USER/users/{user_id}", operation_id="UpdateUser", dependencies=[Depends(require_json)])
async def update_user(user_id: str, body: UpdateUserBody, context: RequestContext) -> ShownIamUser:
    """Update a user's name, password, description or state. Either all given changes are applied, or none."""
    wanted, accounts = body.user, context.services.accounts
    user = await accounts.user_to_change(context.caller, user_id)
    audit.bind_subject(user=user.name)
    if wanted.domain_id not in (None, "", user.domain_id):
        raise Invalid("user.domain_id", "must be the user's domain, which cannot be changed", wanted.domain_id)
    changed = await accounts.update_user(
        context.caller,
        user.user_id,
        name=wanted.name,
        password=wanted.password,
        description=wanted.description,
        enabled=wanted.enabled,
        profile=wanted.profile,
    )
    return ShownIamUser(user=IamUser.of(changed))


@router.post(
    "/v3/users/{user_id}/password",
    operation_id="KeystoneUpdateUserPassword",
    status_code=204,
    dependencies=[Depends(require_json)],
)
async def update_password(user_id: str, body: NewPasswordBody, context: RequestContext) -> Response:
    """Change the caller's own password. This revokes the tokens issued for the old one."""
    caller = context.caller
    if user_id != caller.user_id:
        raise Denied("users can change only their own password; administrators use PATCH /v3/users/{user_id}")
    audit.bind_subject(user=caller.name)
    await context.services.accounts.change_password(
        caller, body.user.password, body.user.original_password, address=client_address(context.request.scope)
    )
    return Response(status_code=204)


@router.delete("/v3/users/{user_id}", operation_id="KeystoneDeleteUser", status_code=204)
async def delete_user(user_id: str, context: RequestContext) -> Response:
    """Delete a user with its access keys and tokens."""
    accounts = context.services.accounts
    user = await accounts.user_to_change(context.caller, user_id)
    audit.bind_subject(user=user.name)
    await accounts.delete_user(context.caller, user.user_id)
    return Response(status_code=204)
