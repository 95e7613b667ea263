"""The first page: what is in sync and what is not; for a new installation, the way to the first synchronized tag."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.responses import Response

from tagferry.accounts.model import Organization, Permission
from tagferry.automation.rules.state import RuleState, RuleStatus
from tagferry.automation.rules.store import Rule
from tagferry.catalog import list_repositories
from tagferry.concurrency import both
from tagferry.errors import Conflict, Denied, Expired, Invalid, NotFound, TagferryError
from tagferry.health.model import RegionHealth
from tagferry.names import Namespace, RegionId, RepositoryName, Tag
from tagferry.regions import Region
from tagferry.sync.jobs.all_jobs import JobFilter, JobPage
from tagferry.sync.jobs.model import JobStatus, SyncJob, SyncRequest
from tagferry.sync.jobs.summary import JobSummary
from tagferry.web.console.charts import HourChart
from tagferry.web.console.commands import Command
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.forms import Failure
from tagferry.web.console.jobs import live_parameters
from tagferry.web.console.paths import HOME, ROOT
from tagferry.web.console.translation import translatable

_SHOWN = 6
"""Jobs in each list."""
_RULES = 20
"""Rules that are looked at; those that need attention are shown first."""
_RULE_JOBS = 100
"""Jobs of each rule that are looked at, fewer than its own page does, since there are several rules."""
_ATTENTION = (RuleStatus.BLOCKED, RuleStatus.BEHIND, RuleStatus.IN_SYNC, RuleStatus.IDLE, RuleStatus.PAUSED)
_NOT_DONE = frozenset({JobStatus.FAILED, JobStatus.TIMEOUT, JobStatus.EXISTED})
_SEARCH_SECONDS = 3.0
"""The time in which the first image is looked for, since a registry may not answer."""
_WAIT_SECONDS = 10.0
"""The time to wait for the first synchronization."""
_DONE = translatable("%(image)s is synchronized to %(region)s.")
_EXAMPLE = "alpine:3"
"""The image that the commands push."""


@dataclass(frozen=True, slots=True)
class RegionLine:
    """A region on the first page.

    Attributes:
        health: what is known of it, if anything is.
        is_paused: whether its jobs wait, because it does not answer.
    """

    id: RegionId
    health: RegionHealth | None
    is_paused: bool


@dataclass(frozen=True, slots=True)
class FirstRun:
    """The way to the first synchronized tag.

    Attributes:
        organization: the caller's first organization; None before there is one.
        can_create: whether the caller may create one in this region.
        image: the first image in it, with the first tag; None before there is one.
        targets: the regions that the caller may synchronize it to, as the values and texts of a choice.
        has_other_regions: whether there is any other region.
        job: the caller's newest job, if there is one.
        commands: how to push an image to this region.
        needs_tls: whether docker refuses this address, because it has no TLS and is not on this machine.
        host: the host of this region's registry.
        failure: why a step was refused.
        entered: the name that was refused.
    """

    organization: Organization | None
    can_create: bool
    image: tuple[RepositoryName, Tag] | None
    targets: tuple[tuple[str, str], ...]
    has_other_regions: bool
    job: SyncJob | None
    commands: tuple[Command, ...]
    needs_tls: bool
    host: str
    failure: Failure | None = None
    entered: str = ""

    @property
    def step(self) -> int:
        """The number of the step that comes next."""
        return 1 if self.organization is None else 2 if self.image is None else 3


@dataclass(frozen=True, slots=True)
class OverviewPage:
    """The view of the first page.

    Attributes:
        first_run: the first steps, until a tag was synchronized; the rest is empty until then.
        rules: rules with their states, those that need attention first.
        has_more_rules: whether there are more rules than are shown.
        running: some of the jobs that run.
        problems: the newest jobs that did not succeed.
        has_all_problems: whether all jobs were looked at for them; otherwise there may be older ones.
        live: the address of the stream of changes.
    """

    regions: tuple[RegionLine, ...]
    commands: tuple[Command, ...]
    first_run: FirstRun | None
    summary: JobSummary
    chart: HourChart
    rules: tuple[tuple[Rule, RuleState], ...] = ()
    has_more_rules: bool = False
    running: tuple[SyncJob, ...] = ()
    problems: tuple[SyncJob, ...] = ()
    has_all_problems: bool = True
    live: str = ""


async def show(context: PageContext) -> Response:
    """Show the first page."""
    return await _answer(context)


async def home(context: PageContext) -> Response:
    """Redirect to the first page."""
    return context.redirect(HOME)


async def create_organization(context: PageContext) -> Response:
    """Create the first organization, in this region and in those that images are synchronized to."""
    form = await context.form()
    entered, inventory = form.text("organization"), context.services.organization_inventory
    try:
        name = Namespace(entered, field="organization")
        await inventory.create(context.caller, context.region, name)
    except TagferryError as error:
        return await _answer(context, refused=error, step=1, entered=entered)
    for region in context.services.regions:
        # Where it exists or may not be created, the last step says so.
        with suppress(Conflict, Denied):
            if region.id != context.region.id:
                await inventory.create(context.caller, region, name)
    return context.redirect(HOME, notice=translatable("The organization %(name)s was created."), name=name)


async def synchronize(context: PageContext) -> Response:
    """Synchronize the first image."""
    form = await context.form()
    try:
        name, tag = RepositoryName(form.text("repository")), Tag(form.text("tag"))
        request = SyncRequest(
            id=context.request_id,
            caller=context.caller,
            source_region=context.region.id,
            namespace=name.namespace,
            repository=name.repository,
            tags=(tag,),
            target_region=RegionId(form.text("target")),
            target_namespace=name.namespace,
        )
        started = await context.services.sync.start(request)
        # If it takes longer, the page shows how far it is.
        with suppress(Expired), context.waiting:
            failed = await context.services.sync.wait(started, seconds=_WAIT_SECONDS)
            if not failed:
                return context.redirect(HOME, notice=_DONE, image=f"{name}:{tag}", region=request.target_region)
    except TagferryError as error:
        return await _answer(context, refused=error, step=3)
    return context.redirect(HOME)


async def _answer(
    context: PageContext, *, refused: TagferryError | None = None, step: int = 0, entered: str = ""
) -> Response:
    """Show the page, with the reason for which one of the first steps was refused."""
    failure = Failure.of(refused, namespace="organization") if refused is not None else None
    services = context.services
    # Both at once, because the database reads meanwhile in other threads or processes.
    (summary, succeeded, newest, running, problems), (rules, has_more_rules) = await both(
        _jobs(context), _rules(context)
    )
    # A marker says that the search had no time for all jobs.
    has_succeeded = bool(succeeded.jobs) or succeeded.marker is not None
    first_run = None if has_succeeded else await _first_run(context, failure, entered)
    created = first_run.organization.name if first_run is not None and first_run.organization is not None else ""
    if isinstance(refused, Conflict) and entered and created == entered:
        # The form was sent twice.
        return context.redirect(HOME)
    if refused is not None and (first_run is None or first_run.step != step):
        # Its form is not shown any more, for example because another tab was faster: there is no place for the reason.
        raise refused
    health, paused = await services.health.health(), services.sync.paused_regions
    view = OverviewPage(
        regions=tuple(RegionLine(one.id, health.get(one.id), one.id in paused) for one in services.regions),
        commands=(Command.of("CLI", "tagferry", "job", "list"), Command.of("CLI", "tagferry", "region", "list")),
        first_run=first_run,
        summary=summary,
        chart=HourChart.of(summary.hours),
        rules=rules,
        has_more_rules=has_more_rules,
        running=tuple(running.jobs),
        problems=tuple(problems.jobs),
        has_all_problems=problems.marker is None,
        live=live_parameters(running.jobs, after=str(newest.jobs[0].id if newest.jobs else 0)),
    )
    return context.render("overview.html", view, status=failure.status if failure is not None else 200)


async def _jobs(context: PageContext) -> tuple[JobSummary, JobPage, JobPage, JobPage, JobPage]:
    """Return the summary of the jobs, a succeeded one, the newest, those that run, and those that did not succeed."""

    async def listed(*statuses: JobStatus, limit: int = _SHOWN) -> JobPage:
        return await context.services.jobs.page(context.caller, JobFilter(statuses=frozenset(statuses)), limit=limit)

    return (
        await context.services.jobs.summary(context.caller),
        await listed(JobStatus.SUCCESS, limit=1),
        await listed(limit=1),
        await listed(JobStatus.RUNNING),
        await listed(*_NOT_DONE),
    )


async def _rules(context: PageContext) -> tuple[tuple[tuple[Rule, RuleState], ...], bool]:
    """Return the rules to show, and whether there are more."""
    services = context.services
    rules, more = await services.rules.page(context.caller, limit=_RULES)
    states = await services.rule_states.of_all(rules, newest=_RULE_JOBS)
    found = sorted(zip(rules, states, strict=True), key=lambda one: _ATTENTION.index(one[1].status))
    return tuple(found[:_SHOWN]), len(found) > _SHOWN or more is not None


async def _first_run(context: PageContext, failure: Failure | None, entered: str) -> FirstRun:
    services, region = context.services, context.region
    listed = await services.organizations.list_for(context.caller, region.id)
    # The caller did not create the organizations that it may only read.
    organizations = [one for one in listed if one.permission >= Permission.EDIT]
    organization = organizations[0] if organizations else None
    image = await _first_image(region, [one.name for one in organizations])
    if image is not None:
        organization = next(one for one in organizations if one.name == image[0].namespace)
    newest = await services.jobs.page(context.caller, JobFilter(), limit=1)
    host, is_plain = _registry(context)
    is_remote = urlsplit(f"//{host}").hostname not in ("localhost", "127.0.0.1", "::1")
    return FirstRun(
        organization=organization,
        can_create=services.access.may_create(context.caller, region.id),
        image=image,
        targets=tuple((one, one) for one in await _targets(context, image[0])) if image is not None else (),
        has_other_regions=any(one.id != region.id for one in services.regions),
        job=newest.jobs[0] if newest.jobs else None,
        commands=_push_commands(host, is_plain, organization, context.caller.name) if organization else (),
        needs_tls=is_plain and is_remote,
        host=host,
        failure=failure,
        entered=entered,
    )


async def _targets(context: PageContext, name: RepositoryName) -> list[RegionId]:
    """Return the other regions in which the caller may write the repository with this name."""
    writable = await context.services.access.writable(context.caller)
    others = (one.id for one in context.services.regions if one.id != context.region.id)
    return [region for region in others if writable.contains(region, name)]


async def _first_image(region: Region, organizations: list[Namespace]) -> tuple[RepositoryName, Tag] | None:
    """Return the first image of these organizations that is found in time."""
    with suppress(TagferryError, TimeoutError):
        async with asyncio.timeout(_SEARCH_SECONDS):
            for name in await list_repositories(region.store, organizations) if organizations else ():
                with suppress(NotFound, Invalid):
                    async for tag in region.store.list_tags(name):
                        return name, tag
    return None


def _registry(context: PageContext) -> tuple[str, bool]:
    """Return the host of this region's registry, and whether it has no TLS."""
    own = context.settings.regions[context.region.id]
    url = urlsplit(context.base_url if own.is_embedded else context.region.url)
    return url.netloc, url.scheme == "http"


def _push_commands(host: str, is_plain: bool, organization: Organization, user: str) -> tuple[Command, ...]:
    target = f"{host}/{organization.name}/{_EXAMPLE}"
    without_tls = ["--tls-verify=false"] if is_plain else []
    target_without_tls = ["--dest-tls-verify=false"] if is_plain else []
    docker = (
        ("docker", "login", host, "--username", user),
        ("docker", "pull", _EXAMPLE),
        ("docker", "tag", _EXAMPLE, target),
        ("docker", "push", target),
    )
    skopeo = (
        ("skopeo", "login", host, "--username", user, *without_tls),
        ("skopeo", "copy", *target_without_tls, f"docker://docker.io/library/{_EXAMPLE}", f"docker://{target}"),
    )
    return Command.lines("docker", *docker), Command.lines("skopeo", *skopeo)


routes = (
    page(HOME, show),
    page(ROOT, home),
    page("/console/first-run/organization", create_organization, methods=("POST",)),
    page("/console/first-run/synchronize", synchronize, methods=("POST",)),
)
