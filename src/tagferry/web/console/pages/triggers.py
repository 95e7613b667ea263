"""The triggers of a repository, with the calls that they made."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from tagferry.accounts.model import Permission
from tagferry.automation.triggers.deliveries import Delivery
from tagferry.automation.triggers.store import EVERY_TAG, Trigger, TriggerSpec
from tagferry.errors import Invalid, TagferryError, Throttled
from tagferry.web.console.commands import Command
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.forms import Failure, Form
from tagferry.web.console.repositories import BELOW, OpenedRepository, open_repository
from tagferry.web.console.translation import translatable

_PATH = f"{BELOW}/triggers"
_FIELDS = (
    "name",
    "trigger_type",
    "condition",
    "trigger_mode",
    "cluster_id",
    "cluster_name",
    "cluster_ns",
    "app_type",
    "application",
    "container",
)

_RESULT_SECONDS, _LOOK_SECONDS = 5.0, 0.2
"""Seconds in which the result of a test is awaited, and between two looks for it."""
_SETUP = Command(
    "tagferry.toml",
    '[[webhooks]]\nurl = "https://hooks.example.com/tagferry"\nsecret = "A LONG SECRET"\ncluster_name = "production"',
)


@dataclass(frozen=True, slots=True)
class TriggersPage:
    """The view of the triggers of a repository.

    Attributes:
        triggers: each with its newest call; None if there was none.
        has_webhooks: whether the configuration has webhooks that triggers can call.
        setup: what to add to the configuration if it has none.
    """

    at: OpenedRepository
    triggers: Sequence[tuple[Trigger, Delivery | None]]
    has_webhooks: bool
    setup: tuple[Command, ...]
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class TriggerPage:
    """The view of a trigger with its newest calls."""

    at: OpenedRepository
    trigger: Trigger
    deliveries: Sequence[Delivery]
    commands: tuple[Command, ...]
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class NewTriggerPage:
    """The view of the form for a trigger.

    Attributes:
        values: the values of the fields.
        is_enabled: whether the trigger is to be enabled.
    """

    at: OpenedRepository
    values: dict[str, str]
    is_enabled: bool
    has_webhooks: bool
    commands: tuple[Command, ...]
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class DeletionPage:
    """The view of the question before a trigger is deleted."""

    at: OpenedRepository
    trigger: Trigger
    commands: tuple[Command, ...]


async def show_all(context: PageContext) -> Response:
    """Show the triggers of a repository."""
    at = await open_repository(context)
    found = await context.services.triggers.all(context.caller, at.region, at.name)
    view = TriggersPage(
        at=at,
        triggers=[(trigger, deliveries[0] if deliveries else None) for trigger, deliveries in found],
        has_webhooks=bool(context.settings.webhooks),
        setup=(_SETUP,),
        commands=(Command.api("GET", at.api(context.base_url, "/triggers")),),
    )
    return context.render("triggers/list.html", view)


async def show(context: PageContext) -> Response:
    """Show a trigger and its newest calls."""
    return await _show(context, await open_repository(context))


async def switch(context: PageContext) -> Response:
    """Enable or disable a trigger."""
    form = await context.form()
    at, name, enabled = await open_repository(context), context.path_parameters["trigger"], form.text("enabled")
    is_enabled = enabled == "true"
    try:
        await context.services.triggers.switch(context.caller, at.region, at.name, name, enabled=is_enabled)
    except TagferryError as error:
        return await _show(context, at, Failure.of(error))
    notice = translatable("The trigger is enabled.") if is_enabled else translatable("The trigger is disabled.")
    return context.redirect(f"{at.path}/triggers/{name}", notice=notice)


async def new(context: PageContext) -> Response:
    """Show the form for a trigger."""
    at = await open_repository(context, Permission.EDIT)
    webhook = next(iter(context.settings.webhooks), None)
    usual = {"trigger_type": "all", "condition": EVERY_TAG, "trigger_mode": "cce", "app_type": "deployments"}
    if webhook is not None:
        usual["trigger_mode"] = webhook.trigger_mode
        usual["cluster_id"], usual["cluster_name"] = webhook.cluster_id or "", webhook.cluster_name or ""
    return context.render("triggers/new.html", _new(context, at, Form(tuple(usual.items())), is_enabled=True))


async def create(context: PageContext) -> Response:
    """Create a trigger."""
    form = await context.form()
    at, is_enabled = await open_repository(context), form.is_checked("enabled")
    values = {name: form.text(name) for name in _FIELDS}
    if values["trigger_type"] == "all":
        values["condition"] = EVERY_TAG
    try:
        spec = TriggerSpec(**values)
        spec.check()
        await context.services.triggers.create(context.caller, at.region, at.name, spec, enabled=is_enabled)
    except TagferryError as error:
        failure = Failure.of(error)
        view = _new(context, at, form, is_enabled=is_enabled, failure=failure)
        return context.render("triggers/new.html", view, status=failure.status)
    return context.redirect(f"{at.path}/triggers/{spec.name}", notice=translatable("The trigger was created."))


async def test(context: PageContext) -> Response:
    """Call the webhook of a trigger as a test, and show the result if it comes soon."""
    at, name = await open_repository(context), context.path_parameters["trigger"]
    triggers, caller = context.services.triggers, context.caller
    try:
        event_id = await triggers.test(caller, at.region, at.name, name)
    except (Throttled, Invalid) as error:
        return await _show(context, at, Failure.of(error))
    until = time.monotonic() + _RESULT_SECONDS
    with context.waiting:
        while time.monotonic() < until:
            _, deliveries = await triggers.find(caller, at.region, at.name, name)
            if any(one.event_id == event_id and one.ended_at is not None for one in deliveries):
                break
            await asyncio.sleep(_LOOK_SECONDS)
    notice = translatable("The webhook is called as a test. The result is among the newest calls.")
    return context.redirect(f"{at.path}/triggers/{name}", notice=notice)


async def ask_to_delete(context: PageContext) -> Response:
    """Ask before a trigger is deleted."""
    at = await open_repository(context, Permission.EDIT)
    trigger, _ = await context.services.triggers.find(
        context.caller, at.region, at.name, context.path_parameters["trigger"]
    )
    commands = (Command.api("DELETE", at.api(context.base_url, f"/triggers/{trigger.spec.name}")),)
    return context.render("triggers/delete.html", DeletionPage(at, trigger, commands))


async def delete(context: PageContext) -> Response:
    """Delete a trigger."""
    at = await open_repository(context)
    await context.services.triggers.delete(context.caller, at.region, at.name, context.path_parameters["trigger"])
    return context.redirect(f"{at.path}/triggers", notice=translatable("The trigger was deleted."))


async def _show(context: PageContext, at: OpenedRepository, failure: Failure | None = None) -> Response:
    name = context.path_parameters["trigger"]
    trigger, deliveries = await context.services.triggers.find(context.caller, at.region, at.name, name)
    api = at.api(context.base_url, f"/triggers/{trigger.spec.name}")
    commands = [Command.api("GET", api)]
    if at.can_edit:
        commands.append(Command.api("PATCH", api, {"enable": "false" if trigger.enabled else "true"}))
        commands.append(Command.api("POST", f"{api}/test"))
    view = TriggerPage(at, trigger, deliveries, tuple(commands), failure)
    return context.render("triggers/trigger.html", view, status=200 if failure is None else failure.status)


def _new(
    context: PageContext, at: OpenedRepository, form: Form, *, is_enabled: bool, failure: Failure | None = None
) -> NewTriggerPage:
    values = {name: form.text(name) for name in _FIELDS}
    example = {"action": "update", "enable": "true", **{name: value or name.upper() for name, value in values.items()}}
    return NewTriggerPage(
        at=at,
        values=values,
        is_enabled=is_enabled,
        has_webhooks=bool(context.settings.webhooks),
        commands=(Command.api("POST", at.api(context.base_url, "/triggers"), example),),
        failure=failure,
    )


routes = (
    page(_PATH, show_all),
    page(f"{_PATH}:new", new),
    page(f"{_PATH}:new", create, methods=("POST",)),
    page(f"{_PATH}/{{trigger}}", show),
    page(f"{_PATH}/{{trigger}}", switch, methods=("POST",)),
    page(f"{_PATH}/{{trigger}}/test", test, methods=("POST",)),
    page(f"{_PATH}/{{trigger}}/delete", ask_to_delete),
    page(f"{_PATH}/{{trigger}}/delete", delete, methods=("POST",)),
)
