"""The members of an organization, and the permissions on a repository."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from tagferry.accounts.grants import Grant
from tagferry.accounts.model import Permission
from tagferry.errors import Invalid, NotFound, TagferryError
from tagferry.names import Namespace, RegionId
from tagferry.regions import Region
from tagferry.web.console.commands import Command
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.forms import Failure
from tagferry.web.console.paths import IMAGES, organization_path
from tagferry.web.console.repositories import BELOW, OpenedRepository, open_repository
from tagferry.web.console.translation import translatable

_ROWS = 50
_LEVELS = {"1": translatable("read"), "3": translatable("edit"), "7": translatable("manage")}


@dataclass(frozen=True, slots=True)
class Opened:
    """The organization or the repository whose members a page shows.

    Attributes:
        at: the repository; None for an organization.
        path: the path of the page.
        permission: the caller's effective permission.
        can_open_organization: whether the caller may see the members of the organization.
        grants: the permissions that were granted, those of the caller included.
        api: the address of the management API for them.
    """

    region: Region
    namespace: Namespace
    at: OpenedRepository | None
    path: str
    permission: Permission
    can_open_organization: bool
    grants: Sequence[Grant]
    api: str

    @property
    def can_manage(self) -> bool:
        """True if the caller may change the permissions."""
        return self.permission >= Permission.MANAGE


@dataclass(frozen=True, slots=True)
class MembersPage:
    """The view of members.

    Attributes:
        members: those on this page.
        caller_id: the id of the caller.
        prefix: the beginning of the names that are listed.
        by_name: whether new members can be named by their name, and not only by their id.
        user: the user that was entered.
        level: the permission that was chosen.
        commands: the same by the command line and the API.
    """

    opened: Opened
    members: Sequence[Grant]
    caller_id: str
    prefix: str
    next: str
    first: str
    by_name: bool
    levels: dict[str, str]
    commands: tuple[Command, ...]
    user: str = ""
    level: str = "1"
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class RemovalPage:
    """The view of the question before a permission is revoked."""

    opened: Opened
    member: Grant
    is_self: bool
    commands: tuple[Command, ...]


async def show(context: PageContext) -> Response:
    """Show the members, or those whose names begin with the parameter `name`."""
    opened = await _open(context)
    return context.render("members/list.html", _view(context, opened))


async def add(context: PageContext) -> Response:
    """Grant a permission to a user who has none."""
    form = await context.form()
    opened, text, level = await _open(context), form.text("user"), form.text("permission")
    members, caller, region = context.services.members, context.caller, opened.region
    try:
        grants = [Grant(await _user_id(context, text), "", _level(level))]
        if opened.at is None:
            await members.add_to_organization(caller, region, opened.namespace, grants)
        else:
            await members.add_to_repository(caller, region, opened.at.name, grants)
    except TagferryError as error:
        failure = Failure.of(error)
        view = _view(context, opened, user=text, level=level, failure=failure)
        return context.render("members/list.html", view, status=failure.status)
    return context.redirect(opened.path, notice=translatable("The permission was granted."))


async def change(context: PageContext) -> Response:
    """Change the permission of a member."""
    form = await context.form()
    opened = await _open(context)
    grants = [Grant(context.path_parameters["user"], "", _level(form.text("permission")))]
    members, caller, region = context.services.members, context.caller, opened.region
    if opened.at is None:
        await members.change_in_organization(caller, region, opened.namespace, grants)
    else:
        await members.change_in_repository(caller, region, opened.at.name, grants)
    return context.redirect(opened.path, notice=translatable("The permission was changed."))


async def ask_to_remove(context: PageContext) -> Response:
    """Ask before a permission is revoked."""
    opened = await _open(context, Permission.MANAGE)
    user_id = context.path_parameters["user"]
    member = next((one for one in opened.grants if one.user_id == user_id), None)
    if member is None:
        raise NotFound("permission", "", where=f'of the user "{user_id}"')
    commands = (Command.api("DELETE", opened.api, [user_id]),)
    view = RemovalPage(opened, member, user_id == context.caller.user_id, commands)
    return context.render("members/remove.html", view)


async def remove(context: PageContext) -> Response:
    """Revoke the permission of a member."""
    opened = await _open(context)
    await _remove(context, opened, context.path_parameters["user"])
    return context.redirect(opened.path, notice=translatable("The permission was revoked."))


async def _remove(context: PageContext, opened: Opened, user_id: str) -> None:
    members, caller, region = context.services.members, context.caller, opened.region
    if opened.at is None:
        await members.remove_from_organization(caller, region, opened.namespace, [user_id])
    else:
        await members.remove_from_repository(caller, region, opened.at.name, [user_id])


async def _open(context: PageContext, permission: Permission = Permission.READ) -> Opened:
    """Return the organization or the repository that the path names, for a caller with this permission."""
    members, base = context.services.members, f"{context.base_url}/v2/manage/namespaces"
    if "repository" in context.path_parameters:
        at = await open_repository(context, permission)
        found = await members.of_repository(context.caller, at.region, at.name)
        api = at.api(context.base_url, "/access")
        namespace = Namespace(at.namespace)
        return Opened(
            region=at.region,
            namespace=namespace,
            at=at,
            path=f"{at.path}/members",
            permission=found.permission,
            can_open_organization=await members.is_member(context.caller, at.region, namespace),
            grants=found.grants,
            api=api,
        )
    region = context.services.regions[RegionId(context.path_parameters["region"])]
    namespace = Namespace(context.path_parameters["namespace"])
    await context.services.access.require_organization(context.caller, region.id, namespace, permission)
    organization = await members.of_organization(context.caller, region, namespace)
    return Opened(
        region=region,
        namespace=namespace,
        at=None,
        path=f"{organization_path(region.id, namespace)}:members",
        permission=organization.organization.permission,
        can_open_organization=True,
        grants=organization.grants,
        api=f"{base}/{namespace}/access",
    )


def _view(
    context: PageContext, opened: Opened, *, user: str = "", level: str = "1", failure: Failure | None = None
) -> MembersPage:
    prefix, start = context.query("name"), _number(context.query("from"))
    found = [one for one in opened.grants if one.user_name.startswith(prefix)]
    following = str(start + _ROWS) if len(found) > start + _ROWS else ""
    example = [{"user_id": "USER_ID", "user_name": "", "auth": 3}]
    commands = [Command.api("GET", opened.api)]
    if opened.can_manage:
        commands.append(Command.api("POST", opened.api, example))
    if opened.can_manage and opened.at is None:
        organization = f"{opened.region.id}/{opened.namespace}"
        commands.append(Command.of("CLI", "tagferry", "org", "grant", organization, user or "USER", "edit"))
    return MembersPage(
        opened=opened,
        members=found[start : start + _ROWS],
        caller_id=context.caller.user_id,
        prefix=prefix,
        next=context.address(opened.path, name=prefix, **{"from": following}) if following else "",
        first=context.address(opened.path, name=prefix) if start else "",
        by_name=context.caller.is_admin,
        levels=_LEVELS,
        commands=tuple(commands),
        user=user,
        level=level,
        failure=failure,
    )


async def _user_id(context: PageContext, text: str) -> str:
    """Return the id of a user. Only administrators may look up users by name; others know the id."""
    if not text:
        raise Invalid("user", "must not be empty")
    if context.caller.is_admin and (found := await context.services.accounts.list_users(context.caller, name=text)):
        return found[0].user_id
    return text


def _level(text: str) -> Permission:
    if text not in _LEVELS:
        raise Invalid("permission", "must be 7 (manage), 3 (edit) or 1 (read)", text)
    return Permission(int(text))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0


_POST = ("POST",)
routes = tuple(
    route
    for path in (f"{IMAGES}/{{region}}/{{namespace}}:members", f"{BELOW}/members")
    for route in (
        page(path, show),
        page(path, add, methods=_POST),
        page(f"{path}/{{user}}", change, methods=_POST),
        page(f"{path}/{{user}}/remove", ask_to_remove),
        page(f"{path}/{{user}}/remove", remove, methods=_POST),
    )
)
