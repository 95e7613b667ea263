"""The own account, and for administrators the users: passwords and access keys."""

from dataclasses import dataclass, replace

from starlette.responses import Response

from tagferry.accounts.model import AccessKey, KeyRecord, UserRecord
from tagferry.errors import TagferryError, Unauthenticated
from tagferry.web import audit
from tagferry.web.authentication import client_address
from tagferry.web.console.commands import Command
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.failures import slow_down
from tagferry.web.console.forms import Failure
from tagferry.web.console.session import start_session
from tagferry.web.console.translation import translatable

_ACCOUNT, _USERS = "/console/account", "/console/users"
_SHOWN = 50
_WRONG = translatable("it is not the current password")
_DIFFERENT = translatable("it differs from the new password above")


@dataclass(frozen=True, slots=True)
class AccountPage:
    """The view of a user.

    Attributes:
        base: the address of the page.
        is_own: whether it is the caller.
        keys: the access keys.
        made: a key that was just created; its secret is shown only here.
        password_failure: why a new password was refused.
        key_failure: why a new key was refused.
        description: the description of the refused key.
        commands: the same by the command line.
    """

    base: str
    is_own: bool
    user: UserRecord
    keys: tuple[KeyRecord, ...]
    commands: tuple[Command, ...]
    made: AccessKey | None = None
    password_failure: Failure | None = None
    key_failure: Failure | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class UsersPage:
    """The view of the list of users.

    Attributes:
        prefix: the beginning of the names that are listed.
        next: the address of the next page; "" at the end.
        first: that of the first page; "" on it.
        commands: the same by the command line.
    """

    users: tuple[UserRecord, ...]
    prefix: str
    next: str
    first: str
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class NewUserPage:
    """The view of the form for a new user."""

    name: str = ""
    description: str = ""
    failure: Failure | None = None

    @property
    def commands(self) -> tuple[Command, ...]:
        """The same by the command line."""
        return (Command.of("CLI", "tagferry", "user", "create", self.name or "NAME"),)


@dataclass(frozen=True, slots=True)
class DeletionPage:
    """The view of the question before something is deleted: a user, or an access key if `access_key` is set."""

    base: str
    user: UserRecord
    access_key: str = ""

    @property
    def commands(self) -> tuple[Command, ...]:
        """The same by the command line."""
        kind, name = ("key", self.access_key) if self.access_key else ("user", self.user.name)
        return (Command.of("CLI", "tagferry", kind, "delete", name),)


async def show(context: PageContext) -> Response:
    """Show the own account, or for administrators a user."""
    if not context.caller.is_admin and context.path_parameters.get("user") == context.caller.user_id:
        # The actions of the other page are those of administrators.
        return context.redirect(_ACCOUNT)
    return context.render("accounts/account.html", await _view(context))


async def change_password(context: PageContext) -> Response:
    """Change the own password. A new session replaces this one; all others end."""
    form = await context.form()
    caller, accounts, address = context.caller, context.services.accounts, client_address(context.request.scope)
    audit.bind_subject(user=caller.name)
    new = form.raw("password")
    if new != form.raw("repeated"):
        return await _refuse_password(context, Failure(400, _DIFFERENT, "repeated"))
    try:
        await accounts.change_password(caller, new, form.raw("current"), address=address)
        renewed = await context.services.authenticator.by_password(caller.name, new, address=address)
        token = await context.services.tokens.issue_session(renewed)
    except Unauthenticated:
        # The page is not answered with 401, which would mean that the session has ended.
        return await _refuse_password(context, Failure(400, _WRONG, "current"))
    except TagferryError as error:
        refusal = await _refuse_password(context, Failure.of(error, **{"user.password": "password"}))
        slow_down(error, refusal, context.request.scope)
        return refusal
    response = context.redirect(_ACCOUNT, notice=translatable("Your password was changed. Other sessions have ended."))
    start_session(response, token, context.request.scope)
    return response


async def _refuse_password(context: PageContext, failure: Failure) -> Response:
    view = replace(await _view(context), password_failure=failure)
    return context.render("accounts/account.html", view, status=failure.status)


async def create_key(context: PageContext) -> Response:
    """Create an access key, and show its secret once."""
    form = await context.form()
    description, accounts = form.text("description"), context.services.accounts
    user = await accounts.owner_of_new_key(context.caller, _user_id(context))
    audit.bind_subject(user=user.name)
    try:
        made = await accounts.create_key(context.caller, user.user_id, description=description)
    except TagferryError as error:
        failure = Failure.of(error)
        view = replace(await _view(context), key_failure=failure, description=description)
        return context.render("accounts/account.html", view, status=failure.status)
    audit.bind_subject(access_key=made.access_key)
    return context.render("accounts/account.html", replace(await _view(context), made=made), status=201)


async def switch_key(context: PageContext) -> Response:
    """Enable or disable an access key."""
    form = await context.form()
    user, key = await _key(context)
    is_enabled = form.text("enabled") == "true"
    await context.services.accounts.update_key(context.caller, key.access_key, enabled=is_enabled)
    notice = translatable("The access key is enabled.") if is_enabled else translatable("The access key is disabled.")
    return context.redirect(_base(context, user), notice=notice)


async def ask_to_delete_key(context: PageContext) -> Response:
    """Ask before an access key is deleted."""
    user, key = await _key(context)
    return context.render("accounts/delete.html", DeletionPage(_base(context, user), user, key.access_key))


async def delete_key(context: PageContext) -> Response:
    """Delete an access key."""
    user, key = await _key(context)
    await context.services.accounts.delete_key(context.caller, key.access_key)
    return context.redirect(_base(context, user), notice=translatable("The access key was deleted."))


async def show_users(context: PageContext) -> Response:
    """Show the users, or those whose names begin with the parameter `name`, from the one after `after`."""
    prefix, after = context.query("name"), context.query("after")
    found = await context.services.accounts.list_users(context.caller, prefix=prefix, after=after, limit=_SHOWN + 1)
    shown = tuple(found[:_SHOWN])
    view = UsersPage(
        users=shown,
        prefix=prefix,
        next=context.address(_USERS, name=prefix, after=shown[-1].name) if len(found) > _SHOWN else "",
        first=context.address(_USERS, name=prefix) if after else "",
        commands=(Command.of("CLI", "tagferry", "user", "list"), Command("API", "GET /v3/users")),
    )
    return context.render("accounts/users.html", view)


async def ask_for_user(context: PageContext) -> Response:
    """Show the form for a new user."""
    # Only to refuse those who may not.
    await context.services.accounts.list_users(context.caller, limit=1)
    return context.render("accounts/new_user.html", NewUserPage())


async def create_user(context: PageContext) -> Response:
    """Create a user."""
    form = await context.form()
    name, description = form.text("name"), form.text("description")
    audit.bind_subject(user=name[:64])
    try:
        made = await context.services.accounts.create_user(
            context.caller, name, form.raw("password"), description=description
        )
    except TagferryError as error:
        failure = Failure.of(error, **{"user name": "name"})
        view = NewUserPage(name, description, failure)
        return context.render("accounts/new_user.html", view, status=failure.status)
    notice = translatable("The user %(name)s was created.")
    return context.redirect(f"{_USERS}/{made.user_id}", notice=notice, name=made.name)


async def update_user(context: PageContext) -> Response:
    """Set a user's password, or enable or disable the user."""
    form = await context.form()
    accounts = context.services.accounts
    user = await accounts.user_to_change(context.caller, _user_id(context))
    audit.bind_subject(user=user.name)
    enabled = {"true": True, "false": False}.get(form.text("enabled"))
    try:
        await accounts.update_user(context.caller, user.user_id, password=form.raw("password") or None, enabled=enabled)
    except TagferryError as error:
        return await _refuse_password(context, Failure.of(error))
    return context.redirect(f"{_USERS}/{user.user_id}", notice=translatable("The user was changed."))


async def ask_to_delete_user(context: PageContext) -> Response:
    """Ask before a user is deleted."""
    user = await context.services.accounts.user_to_change(context.caller, _user_id(context))
    return context.render("accounts/delete.html", DeletionPage(f"{_USERS}/{user.user_id}", user))


async def delete_user(context: PageContext) -> Response:
    """Delete a user."""
    user = await context.services.accounts.user_to_change(context.caller, _user_id(context))
    audit.bind_subject(user=user.name)
    await context.services.accounts.delete_user(context.caller, user.user_id)
    return context.redirect(_USERS, notice=translatable("The user %(name)s was deleted."), name=user.name)


async def _view(context: PageContext) -> AccountPage:
    user_id, accounts = _user_id(context), context.services.accounts
    user = await accounts.user(context.caller, user_id)
    is_own = "user" not in context.path_parameters
    commands = [
        Command.of("CLI", "tagferry", "key", "create", user.name),
        Command.of("CLI", "tagferry", "user", "password", user.name),
    ]
    if context.caller.is_admin and not is_own:
        commands.append(Command.of("CLI", "tagferry", "user", "demote" if user.is_admin else "promote", user.name))
    return AccountPage(
        base=_base(context, user),
        is_own=is_own,
        user=user,
        keys=tuple(await accounts.keys_of(context.caller, user_id)),
        commands=tuple(commands),
    )


async def _key(context: PageContext) -> tuple[UserRecord, KeyRecord]:
    """Return the user and the access key that the path names."""
    accounts = context.services.accounts
    key = await accounts.key(context.caller, context.path_parameters["key"])
    user = await accounts.user(context.caller, key.user_id)
    audit.bind_subject(user=user.name, access_key=key.access_key)
    return user, key


def _user_id(context: PageContext) -> str:
    return context.path_parameters.get("user", context.caller.user_id)


def _base(context: PageContext, user: UserRecord) -> str:
    return f"{_USERS}/{user.user_id}" if "user" in context.path_parameters else _ACCOUNT


_POST = ("POST",)
_USER = f"{_USERS}/{{user}}"

routes = (
    page(_ACCOUNT, show),
    page(f"{_ACCOUNT}/password", change_password, methods=_POST),
    page(_USERS, show_users),
    page(_USERS, create_user, methods=_POST),
    page(f"{_USERS}/new", ask_for_user),
    page(_USER, show),
    page(_USER, update_user, methods=_POST),
    page(f"{_USER}/delete", ask_to_delete_user),
    page(f"{_USER}/delete", delete_user, methods=_POST),
    *(
        route
        for base in (_ACCOUNT, _USER)
        for route in (
            page(f"{base}/keys", create_key, methods=_POST),
            page(f"{base}/keys/{{key}}", switch_key, methods=_POST),
            page(f"{base}/keys/{{key}}/delete", ask_to_delete_key),
            page(f"{base}/keys/{{key}}/delete", delete_key, methods=_POST),
        )
    ),
)
