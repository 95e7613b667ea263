"""The sharing of a repository with other domains."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from tagferry.accounts.model import Permission
from tagferry.accounts.shares import Share
from tagferry.errors import Invalid, NotFound, TagferryError
from tagferry.inventory.sharing import FOREVER, parse_deadline
from tagferry.web.console.commands import Command
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.forms import Failure, Form
from tagferry.web.console.repositories import BELOW, OpenedRepository, open_repository
from tagferry.web.console.states import SHARE_ENDED, SHARE_VALID, State
from tagferry.web.console.translation import translatable

_ROWS = 50
_PATH = f"{BELOW}/sharing"


@dataclass(frozen=True, slots=True)
class ShareRow:
    """A share with its state."""

    share: Share
    state: State


@dataclass(frozen=True, slots=True)
class SharingPage:
    """The view of the shares of a repository.

    Attributes:
        edited: the domain whose share the form changes; "" if it creates one.
        domain: the domain that was entered.
        deadline: the last day that was entered; "" for no end.
        commands: the same by the API.
    """

    at: OpenedRepository
    rows: Sequence[ShareRow]
    next: str
    first: str
    commands: tuple[Command, ...]
    edited: str = ""
    domain: str = ""
    deadline: str = ""
    description: str = ""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class EndPage:
    """The view of the question before a share is deleted."""

    at: OpenedRepository
    share: Share
    commands: tuple[Command, ...]


async def show(context: PageContext) -> Response:
    """Show the shares, and the form for a new one, or for the one with the domain in the parameter `domain`."""
    at = await open_repository(context)
    shares = await context.services.sharing.visible(context.caller, at.region, at.name)
    edited = _find(at, shares, context.query("domain")) if context.query("domain") else None
    form = Form()
    if edited is not None:
        deadline = edited.deadline.date().isoformat() if edited.deadline is not None else ""
        form = Form((("domain", edited.domain_name), ("deadline", deadline), ("description", edited.description)))
    view = _view(context, at, shares, form, edited="" if edited is None else edited.domain_name)
    return context.render("sharing/list.html", view)


async def save(context: PageContext) -> Response:
    """Create a share, or change the one that the field `edited` names."""
    form = await context.form()
    at = await open_repository(context)
    sharing, caller, edited = context.services.sharing, context.caller, form.raw("edited")
    description = form.text("description")
    try:
        deadline = parse_deadline(form.text("deadline") or FOREVER)
        if edited:
            await sharing.update(caller, at.region, at.name, edited, deadline=deadline, description=description)
        else:
            domain = form.text("domain")
            if not domain or "\0" in domain:
                raise Invalid("domain", "must be the name of a domain", domain)
            await sharing.create(caller, at.region, at.name, domain, deadline=deadline, description=description)
    except TagferryError as error:
        failure = Failure.of(error)
        shares = await sharing.visible(caller, at.region, at.name)
        view = _view(context, at, shares, form, edited=edited, failure=failure)
        return context.render("sharing/list.html", view, status=failure.status)
    notice = translatable("The share was changed.") if edited else translatable("The repository is shared.")
    return context.redirect(f"{at.path}/sharing", notice=notice)


async def ask_to_end(context: PageContext) -> Response:
    """Ask before a share is deleted."""
    at = await open_repository(context, Permission.MANAGE)
    shares = await context.services.sharing.visible(context.caller, at.region, at.name)
    share = _find(at, shares, context.query("domain"))
    commands = (Command.api("DELETE", f"{_api(context, at)}/{share.domain_name}"),)
    return context.render("sharing/end.html", EndPage(at, share, commands))


async def end(context: PageContext) -> Response:
    """Delete a share."""
    form = await context.form()
    at = await open_repository(context)
    await context.services.sharing.delete(context.caller, at.region, at.name, form.raw("domain"))
    return context.redirect(f"{at.path}/sharing", notice=translatable("The repository is no longer shared."))


def _view(
    context: PageContext,
    at: OpenedRepository,
    shares: Sequence[Share],
    form: Form,
    *,
    edited: str,
    failure: Failure | None = None,
) -> SharingPage:
    start, base = _number(context.query("from")), f"{at.path}/sharing"
    api = _api(context, at)
    commands = [Command.api("GET", api)]
    if at.can_manage:
        body = {"access_domain": "DOMAIN", "permit": "read", "deadline": FOREVER, "description": ""}
        commands.append(Command.api("POST", api, body))
    return SharingPage(
        at=at,
        rows=[ShareRow(one, SHARE_ENDED if one.is_expired else SHARE_VALID) for one in shares[start : start + _ROWS]],
        next=f"{base}?from={start + _ROWS}" if len(shares) > start + _ROWS else "",
        first=base if start else "",
        commands=tuple(commands),
        edited=edited,
        domain=form.text("domain"),
        deadline=form.text("deadline"),
        description=form.text("description"),
        failure=failure,
    )


def _find(at: OpenedRepository, shares: Sequence[Share], domain: str) -> Share:
    for share in shares:
        if share.domain_name == domain:
            return share
    raise NotFound("share", "", where=f'of "{at.name}" with "{domain}"')


def _api(context: PageContext, at: OpenedRepository) -> str:
    repository = at.repository.replace("/", "$")
    return f"{context.base_url}/v2/manage/namespaces/{at.namespace}/repositories/{repository}/access-domains"


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0


routes = (
    page(_PATH, show),
    page(_PATH, save, methods=("POST",)),
    page(f"{_PATH}/end", ask_to_end),
    page(f"{_PATH}/end", end, methods=("POST",)),
)
