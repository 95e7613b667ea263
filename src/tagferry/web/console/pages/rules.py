"""Auto-sync rules: of all repositories, of one repository, and one rule."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from starlette.responses import Response

from tagferry.automation.rules.service import RuleActions
from tagferry.automation.rules.state import RuleState
from tagferry.automation.rules.store import Rule, RuleSpec
from tagferry.catalog.pages import TagQuery
from tagferry.copy.estimate import Estimate
from tagferry.copy.preflight import Verdict
from tagferry.errors import Invalid, TagferryError
from tagferry.eventual import Progress
from tagferry.names import Namespace, RegionId, RepositoryName, Tag
from tagferry.sync.jobs.model import SyncRequest
from tagferry.web import audit
from tagferry.web.console.commands import Command
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.forms import Failure
from tagferry.web.console.paths import repository_path
from tagferry.web.console.repositories import BELOW, OpenedRepository, can_open, open_repository
from tagferry.web.console.translation import translatable

_ROWS = 50
_JOBS = 50
_LISTED_JOBS = 100
"""Jobs of a repository by which a list shows the state of a rule; the page of the rule looks at more."""
_PREVIEWED = 20
"""Tags whose copies a preview estimates."""
_RULES = "/console/policies"
_RULE = f"{_RULES}/{{rule:id}}"


@dataclass(frozen=True, slots=True)
class RulesPage:
    """The view of rules: of all repositories, or of one.

    Attributes:
        at: the repository; None for all.
    """

    at: OpenedRepository | None
    rules: Sequence[tuple[Rule, RuleState]]
    next: str
    first: str
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class RulePage:
    """The view of one rule.

    Attributes:
        actions: what the caller is permitted to do with it.
        path: the path of its repository's page.
        can_open_target: whether the caller may read the target.
    """

    rule: Rule
    state: RuleState
    actions: RuleActions
    path: str
    can_open_target: bool
    commands: tuple[Command, ...]

    @property
    def jobs(self) -> Sequence[object]:
        """The newest executions."""
        return self.state.jobs[:_JOBS]


@dataclass(frozen=True, slots=True)
class PreviewedTag:
    """A tag that exists, and what a sync to the target would do with it.

    Attributes:
        action: `copy`, `up_to_date`, `existed` or `failed`.
        bytes: bytes to transfer.
        reason: why it fails.
    """

    tag: Tag
    action: str
    bytes: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NewRulePage:
    """The view of the form for a new rule, and of its effects.

    Attributes:
        tags: the newest tags at the source; None before a target is chosen.
        has_more: whether there are more tags.
        is_pending: whether source and target are still being compared.
    """

    at: OpenedRepository
    regions: Sequence[tuple[str, str]]
    to_region: str
    to_namespace: str
    override: bool
    tags: Sequence[PreviewedTag] | None = None
    has_more: bool = False
    failure: Failure | None = None
    commands: tuple[Command, ...] = ()
    is_pending: bool = False

    @property
    def bytes(self) -> int:
        """Bytes of all previewed tags that the target lacks."""
        return sum(tag.bytes for tag in self.tags or ())


@dataclass(frozen=True, slots=True)
class DeleteRulePage:
    """The view of the question before a rule is deleted."""

    rule: Rule
    failure: Failure | None = None
    commands: tuple[Command, ...] = ()


async def show_all(context: PageContext) -> Response:
    """Show the rules of all repositories that the caller may read."""
    after = _number(context.query("after"))
    rules, next_after = await context.services.rules.page(context.caller, after=after, limit=_ROWS)
    view = RulesPage(
        at=None,
        rules=await _with_states(context, rules),
        next=f"{_RULES}?after={next_after}" if next_after is not None else "",
        first=_RULES if after else "",
        commands=(),
    )
    return context.render("rules.html", view)


async def show_of_repository(context: PageContext) -> Response:
    """Show the rules of a repository."""
    at = await open_repository(context)
    rules = await context.services.rules.of_repository(context.caller, at.reference)
    commands = (Command.api("GET", at.api(context.base_url, "/sync_repo")),)
    return context.render("rules.html", RulesPage(at, await _with_states(context, rules), "", "", commands))


async def show(context: PageContext) -> Response:
    """Show a rule."""
    rule = await _rule(context)
    path = repository_path(rule.source.region, rule.source.name)
    source = rule.source
    commands = (
        Command.api("GET", f"{context.base_url}{_api_path(rule)}/sync_repo"),
        Command.of(
            "CLI", "tagferry", "tags", source.name, "--compare", "--to", f"{rule.target_region}/{rule.target_namespace}"
        ),
    )
    state = await context.services.rule_states.of(rule)
    target = RepositoryName.of(rule.target_namespace, source.repository)
    view = RulePage(
        rule=rule,
        state=state,
        actions=await context.services.rules.actions(context.caller, rule),
        path=path,
        can_open_target=await can_open(context, rule.target_region, target),
        commands=commands,
    )
    return context.render("rule.html", view)


async def new(context: PageContext) -> Response:
    """Show the form for a new rule, with a preview once it has a target."""
    at = await open_repository(context)
    region, namespace = context.query("to_region"), context.query("to_namespace")
    override = bool(context.query("override"))
    if not namespace:
        return context.render("rule_new.html", _new(context, at, region, namespace, override=override))
    try:
        found = await context.eventually(
            ("preview", at.reference, region, namespace, override),
            lambda _: _preview(context, at, region, namespace, override=override),
        )
    except TagferryError as error:
        failure = _failure(error)
        view = _new(context, at, region, namespace, override=override, failure=failure)
        return context.render("rule_new.html", view, status=failure.status)
    tags, has_more = (None, False) if isinstance(found, Progress) else found
    view = _new(context, at, region, namespace, override=override, tags=tags, has_more=has_more)
    return context.render("rule_new.html", replace(view, is_pending=isinstance(found, Progress)))


async def create(context: PageContext) -> Response:
    """Create a rule, or change the one with this target."""
    at, form = await open_repository(context), await context.form()
    region, namespace, override = form.text("to_region"), form.text("to_namespace"), form.is_checked("override")
    try:
        spec = RuleSpec(
            caller=context.caller,
            source=at.reference,
            target_region=RegionId(region, field="to_region"),
            target_namespace=Namespace(namespace, field="to_namespace"),
            override=override,
            sync_auto=True,
        )
        rule = await context.services.rules.put(spec)
    except TagferryError as error:
        failure = _failure(error)
        view = _new(context, at, region, namespace, override=override, failure=failure)
        return context.render("rule_new.html", view, status=failure.status)
    return context.redirect(f"{_RULES}/{rule.id}", notice=translatable("The rule is active from now on."))


async def pause(context: PageContext) -> Response:
    """Switch a rule off."""
    return await _switch(context, is_on=False, notice=translatable("The rule is paused."))


async def resume(context: PageContext) -> Response:
    """Switch a rule on."""
    return await _switch(context, is_on=True, notice=translatable("The rule is active again, for what is pushed now."))


async def ask_to_delete(context: PageContext) -> Response:
    """Ask before a rule is deleted."""
    rule = await _rule(context)
    await context.services.rules.authorize_deletion(context.caller, rule)
    return context.render("rule_delete.html", _deletion(context, rule))


async def delete(context: PageContext) -> Response:
    """Delete a rule."""
    rule = await _rule(context)
    try:
        await context.services.rules.delete(context.caller, rule.source, rule.target_region, rule.target_namespace)
    except TagferryError as error:
        failure = Failure.of(error)
        return context.render("rule_delete.html", _deletion(context, rule, failure), status=failure.status)
    path = f"{repository_path(rule.source.region, rule.source.name)}/rules"
    return context.redirect(path, notice=translatable("The rule was deleted."))


async def _rule(context: PageContext) -> Rule:
    rule = await context.services.rules.find(context.caller, context.request.path_params["rule"])
    audit.bind_record(organization=rule.source.namespace, repository=rule.source.name)
    return rule


async def _switch(context: PageContext, *, is_on: bool, notice: str) -> Response:
    rule = await _rule(context)
    await context.services.rules.put(
        RuleSpec(
            caller=context.caller,
            source=rule.source,
            target_region=rule.target_region,
            target_namespace=rule.target_namespace,
            override=rule.override,
            sync_auto=is_on,
        )
    )
    return context.redirect(f"{_RULES}/{rule.id}", notice=notice)


async def _with_states(context: PageContext, rules: Sequence[Rule]) -> list[tuple[Rule, RuleState]]:
    states = await context.services.rule_states.of_all(rules, newest=_LISTED_JOBS)
    return list(zip(rules, states, strict=True))


async def _preview(
    context: PageContext, at: OpenedRepository, region: str, namespace: str, *, override: bool
) -> tuple[list[PreviewedTag], bool]:
    """Return what a sync of the newest tags would do, and whether there are more tags; raises its errors."""
    query = TagQuery("", by_name=False, descending=True)
    found = await context.services.repository_inventory.find_tags(at.region, at.name, query, limit=_PREVIEWED)
    tags = tuple(record.tag for record in found.records)
    if not tags:
        return [], False
    estimates = await context.services.sync.plan(
        SyncRequest(
            id=context.request_id,
            caller=context.caller,
            source_region=at.region.id,
            namespace=at.name.namespace,
            repository=at.name.repository,
            tags=tags,
            target_region=RegionId(region, field="to_region"),
            target_namespace=Namespace(namespace, field="to_namespace"),
            override=override,
        )
    )
    return [_previewed(tag, estimate) for tag, estimate in estimates.items()], found.has_more


_ACTIONS = {
    Verdict.COPY: "copy",
    Verdict.UP_TO_DATE: "up_to_date",
    Verdict.BLOCKED: "existed",
    Verdict.MISSING: "failed",
}


def _previewed(tag: Tag, estimate: Estimate | TagferryError) -> PreviewedTag:
    if isinstance(estimate, TagferryError):
        return PreviewedTag(tag, "failed", reason=estimate.message)
    return PreviewedTag(tag, _ACTIONS[estimate.verdict], estimate.to_copy)


def _new(
    context: PageContext,
    at: OpenedRepository,
    region: str,
    namespace: str,
    *,
    override: bool,
    tags: Sequence[PreviewedTag] | None = None,
    has_more: bool = False,
    failure: Failure | None = None,
) -> NewRulePage:
    regions = [(one.id, one.id) for one in context.services.regions]
    others = [one for one, _ in regions if one != at.region.id]
    body = {
        "remoteRegionId": region or (others or [at.region.id])[0],
        "remoteNamespace": namespace or "ORGANIZATION",
        "syncAuto": True,
        "override": override,
    }
    commands = (Command.api("POST", at.api(context.base_url, "/sync_repo"), body),)
    chosen = region or (others[0] if others else "")
    return NewRulePage(at, regions, chosen, namespace, override, tags, has_more, failure, commands)


def _failure(error: TagferryError) -> Failure:
    return Failure.of(error, remoteRegionId="to_region", remoteNamespace="to_namespace", namespace="to_namespace")


def _deletion(context: PageContext, rule: Rule, failure: Failure | None = None) -> DeleteRulePage:
    body = {"remoteRegionId": rule.target_region, "remoteNamespace": rule.target_namespace}
    commands = (Command.api("DELETE", f"{context.base_url}{_api_path(rule)}/sync_repo", body),)
    return DeleteRulePage(rule, failure, commands)


def _api_path(rule: Rule) -> str:
    source = rule.source
    return f"/v2/manage/namespaces/{source.namespace}/repos/{source.repository.replace('/', '$')}"


def _number(text: str) -> int:
    if text and not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise Invalid("after", "must be from the link to the next page", text)
    return int(text or 0)


routes = (
    page(_RULES, show_all),
    page(_RULE, show),
    page(f"{_RULE}/pause", pause, methods=("POST",)),
    page(f"{_RULE}/resume", resume, methods=("POST",)),
    page(f"{_RULE}/delete", ask_to_delete),
    page(f"{_RULE}/delete", delete, methods=("POST",)),
    page(f"{BELOW}/rules", show_of_repository),
    page(f"{BELOW}/rules/new", new),
    page(f"{BELOW}/rules/new", create, methods=("POST",)),
)
