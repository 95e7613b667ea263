"""The retention policy of a repository: what it would delete, what it has deleted."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from tagferry.accounts.model import Permission
from tagferry.automation.retention.history import Deletion
from tagferry.automation.retention.rules import ExpiredTag, RuleSet
from tagferry.automation.retention.store import Policy
from tagferry.errors import Invalid, TagferryError
from tagferry.eventual import Progress
from tagferry.web import audit
from tagferry.web.console.commands import Command
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.forms import Failure
from tagferry.web.console.repositories import BELOW, OpenedRepository, open_repository
from tagferry.web.console.translation import translatable

_ROWS = 50
_PLANNED = 200
"""Tags that a preview shows; it counts all."""
_FIELDS = ("number", "number_except", "number_pattern", "days", "days_except", "days_pattern")


@dataclass(frozen=True, slots=True)
class RetentionPage:
    """The view of a repository's retention policy.

    Attributes:
        policy: the policy, if there is one.
        is_simple: whether the form can show the policy.
        fields: the values of the form.
        plan: the tags that these rules would delete now; None if that was not asked for, or is not known yet.
        progress: how far the plan is, if it is not known yet.
        deletions: the tags that policies have deleted, newest first.
        interval_hours: the hours between two runs.
    """

    at: OpenedRepository
    policy: Policy | None
    is_simple: bool
    fields: Mapping[str, str]
    plan: Sequence[ExpiredTag] | None
    progress: Progress | None
    deletions: Sequence[Deletion]
    interval_hours: float
    next: str
    first: str
    failure: Failure | None
    commands: tuple[Command, ...]

    @property
    def shown(self) -> Sequence[ExpiredTag]:
        """The tags of the plan that are shown."""
        return (self.plan or ())[:_PLANNED]


@dataclass(frozen=True, slots=True)
class DeleteRetentionPage:
    """The view of the question before a policy is deleted."""

    at: OpenedRepository
    policy_id: str
    failure: Failure | None = None
    commands: tuple[Command, ...] = ()


async def show(context: PageContext) -> Response:
    """Show the policy, and what the rules in the query would delete."""
    at = await open_repository(context)
    fields = {name: context.query(name) for name in _FIELDS}
    plan, failure = None, None
    if any(fields.values()):
        try:
            plan = await _plan(context, at, await _parsed(fields))
        except TagferryError as error:
            failure = _failure(error)
    return await _page(context, at, fields, plan=plan, failure=failure)


async def _plan(context: PageContext, at: OpenedRepository, rules: RuleSet) -> Sequence[ExpiredTag] | Progress:
    """Return the tags that these rules would delete, for which all images have to be read once."""

    async def plan(progress: Progress) -> Sequence[ExpiredTag]:
        inventory = context.services.retention_inventory
        return await inventory.plan(context.caller, at.region, at.name, rules, progress=progress)

    return await context.eventually(("retention", at.region.id, at.name, json.dumps(rules.documents)), plan)


async def save(context: PageContext) -> Response:
    """Create the policy, or replace its rules."""
    at, form = await open_repository(context), await context.form()
    fields = {name: form.text(name) for name in _FIELDS}
    services, caller = context.services, context.caller
    try:
        rules = await _parsed(fields)
        policy = await services.retention_inventory.find(caller, at.region, at.name)
        if policy is None:
            audit.bind_record(operation="create a retention policy")
            await services.retention_inventory.create(caller, at.region, at.name, rules)
        else:
            await services.retention_inventory.update(caller, at.region, at.name, policy.id, rules)
    except TagferryError as error:
        return await _page(context, at, fields, failure=_failure(error))
    return context.redirect(f"{at.path}/retention", notice=translatable("The policy was saved, and runs now."))


async def ask_to_delete(context: PageContext) -> Response:
    """Ask before the policy is deleted."""
    at = await open_repository(context, Permission.MANAGE)
    policy = await context.services.retention_inventory.find(context.caller, at.region, at.name)
    if policy is None:
        return context.redirect(f"{at.path}/retention")
    return context.render("retention_delete.html", _deletion(context, at, str(policy.id)))


async def delete(context: PageContext) -> Response:
    """Delete the policy."""
    at, form = await open_repository(context), await context.form()
    text = form.text("policy")
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise Invalid("policy", "must be the id of the policy", text)
    try:
        await context.services.retention_inventory.delete(context.caller, at.region, at.name, int(text))
    except TagferryError as error:
        failure = Failure.of(error)
        return context.render("retention_delete.html", _deletion(context, at, text, failure), status=failure.status)
    return context.redirect(f"{at.path}/retention", notice=translatable("The policy was deleted."))


async def _page(
    context: PageContext,
    at: OpenedRepository,
    fields: Mapping[str, str],
    *,
    plan: Sequence[ExpiredTag] | Progress | None = None,
    failure: Failure | None = None,
) -> Response:
    inventory = context.services.retention_inventory
    policy = await inventory.find(context.caller, at.region, at.name)
    offset = _offset(context.query("offset"))
    deletions, total = await inventory.deletions(context.caller, at.region, at.name, limit=_ROWS, offset=offset)
    saved = _fields(policy.rules) if policy is not None else {}
    shown = fields if any(fields.values()) or failure is not None else (saved or dict.fromkeys(_FIELDS, ""))
    path = f"{at.path}/retention"
    body: dict[str, Any] = {"algorithm": "or", "rules": policy.rules if policy is not None else _documents(shown)}
    address = at.api(context.base_url, "/retentions")
    change = ("PATCH", f"{address}/{policy.id}") if policy is not None else ("POST", address)
    view = RetentionPage(
        at=at,
        policy=policy,
        is_simple=policy is None or saved is not None,
        fields=shown,
        plan=None if isinstance(plan, Progress) else plan,
        progress=plan if isinstance(plan, Progress) else None,
        deletions=deletions,
        interval_hours=context.settings.retention.interval_hours,
        next=f"{path}?offset={offset + _ROWS}" if offset + _ROWS < total else "",
        first=path if offset else "",
        failure=failure,
        commands=(Command.api("POST", f"{address}/plan", body), Command.api(*change, body)) if body["rules"] else (),
    )
    return context.render("retention.html", view, status=failure.status if failure is not None else 200)


async def _parsed(fields: Mapping[str, str]) -> RuleSet:
    """Return the rules of the form; raises Invalid."""
    documents = _documents(fields)
    if not documents:
        raise Invalid("number", "or the age in days must be given")
    return await asyncio.to_thread(RuleSet.parse, documents)


def _documents(fields: Mapping[str, str]) -> list[dict[str, Any]]:
    documents = []
    for name, template, parameter in (("number", "tag_rule", "num"), ("days", "date_rule", "days")):
        if not fields[name]:
            continue
        selectors = [
            {"kind": "label", "pattern": label.strip()}
            for label in fields[f"{name}_except"].split(",")
            if label.strip()
        ]
        if pattern := fields[f"{name}_pattern"]:
            selectors.append({"kind": "regexp", "pattern": pattern})
        documents.append({"template": template, "params": {parameter: fields[name]}, "tag_selectors": selectors})
    return documents


def _fields(rules: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """Return the form's values for a policy; None if the form cannot show it."""
    fields = dict.fromkeys(_FIELDS, "")
    for rule in rules:
        name = "number" if rule["template"] == "tag_rule" else "days"
        labels = [one["pattern"] for one in rule["tag_selectors"] if one["kind"] == "label"]
        patterns = [one["pattern"] for one in rule["tag_selectors"] if one["kind"] == "regexp"]
        if fields[name] or len(patterns) > 1:
            return None
        fields[name] = str(next(iter(rule["params"].values())))
        fields[f"{name}_except"] = ", ".join(labels)
        fields[f"{name}_pattern"] = "".join(patterns)
    return fields


def _failure(error: TagferryError) -> Failure:
    failure = Failure.of(error)
    # The API names fields by their position; the rules of the form are at most two.
    for part, field in ((".num", "number"), (".days", "days")):
        if failure.field.endswith(part):
            return Failure(failure.status, failure.message, field)
    return failure


def _deletion(
    context: PageContext, at: OpenedRepository, policy_id: str, failure: Failure | None = None
) -> DeleteRetentionPage:
    commands = (Command.api("DELETE", at.api(context.base_url, f"/retentions/{policy_id}")),)
    return DeleteRetentionPage(at, policy_id, failure, commands)


def _offset(text: str) -> int:
    if text and not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise Invalid("offset", "must be a whole number", text)
    return int(text or 0)


routes = (
    page(f"{BELOW}/retention", show),
    page(f"{BELOW}/retention", save, methods=("POST",)),
    page(f"{BELOW}/retention/delete", ask_to_delete),
    page(f"{BELOW}/retention/delete", delete, methods=("POST",)),
)
