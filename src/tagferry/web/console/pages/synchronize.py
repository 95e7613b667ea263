"""Synchronize: choose tags and a target, look at the plan, and do it."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from tagferry.accounts.model import Permission
from tagferry.accounts.writable import WritableRepositories
from tagferry.catalog.pages import FoundTags, TagQuery
from tagferry.concurrency import bounded_gather
from tagferry.copy.estimate import Estimate
from tagferry.copy.preflight import Verdict
from tagferry.errors import Invalid, NotFound, TagferryError
from tagferry.eventual import Progress
from tagferry.names import Namespace, RegionId, Repository, RepositoryName, RepositoryRef, Tag, organization_of
from tagferry.regions import Region
from tagferry.sync.jobs.model import SyncRequest
from tagferry.sync.service import BRIEF_PREFLIGHT_SECONDS
from tagferry.web.console.commands import Command
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.forms import Failure, Form
from tagferry.web.console.jobs import JOBS
from tagferry.web.console.paths import repository_path
from tagferry.web.console.translation import translatable

_SYNCHRONIZE = "/console/synchronize"
_OFFERED = 200
"""Tags to choose from; others are entered by name."""
_ALL = "all"


@dataclass(frozen=True, slots=True)
class Choice:
    """The choices so far.

    Attributes:
        region: the source region.
        repository: the source repository, with its organization.
        tags: the chosen tags.
        is_all: whether all tags are chosen.
        to: `REGION/ORGANIZATION` of the target.
        override: whether to replace other images under the same tags.
    """

    region: str = ""
    repository: str = ""
    tags: tuple[str, ...] = ()
    is_all: bool = False
    to: str = ""
    override: bool = False


@dataclass(frozen=True, slots=True)
class PlannedTag:
    """The plan for a tag.

    Attributes:
        action: `copy`, `up_to_date`, `existed` or `failed`.
        reason: why it cannot be copied, or what is left behind.
        source: its digest at the source; "" if that was not asked.
        target: its digest at the target; "" if the target does not have it.
    """

    tag: Tag
    action: str
    reason: str = ""
    source: str = ""
    target: str = ""
    to_copy: int = 0
    to_mount: int = 0
    present: int = 0


@dataclass(frozen=True, slots=True)
class SynchronizePage:
    """The view of the form and the plan.

    Attributes:
        regions: the regions, by id and name.
        offered: the newest tags of the repository; None before it is chosen.
        has_more: whether it has more tags.
        can_synchronize: whether the caller may write the repository in any other organization.
        targets: the organizations that the caller may write to, as `REGION/ORGANIZATION`.
        plan: the plan; None before everything is chosen.
        is_listing: whether the tags to choose from are still being read.
        is_planning: whether the plan is still being computed.
    """

    choice: Choice
    regions: Sequence[tuple[str, str]]
    path: str = ""
    offered: Sequence[str] | None = None
    has_more: bool = False
    can_synchronize: bool = True
    targets: Sequence[str] = ()
    plan: Sequence[PlannedTag] | None = None
    is_listing: bool = False
    is_planning: bool = False
    failure: Failure | None = None
    commands: tuple[Command, ...] = ()

    @property
    def to_copy(self) -> int:
        """Bytes to move."""
        return sum(tag.to_copy for tag in self.plan or ())

    @property
    def to_mount(self) -> int:
        """Bytes that the target can mount."""
        return sum(tag.to_mount for tag in self.plan or ())

    @property
    def present(self) -> int:
        """Bytes that the target has already."""
        return sum(tag.present for tag in self.plan or ())

    def count(self, action: str) -> int:
        """Return the number of tags with this action."""
        return sum(tag.action == action for tag in self.plan or ())


async def show(context: PageContext) -> Response:
    """Show the form, and the plan once everything is chosen."""
    parameters = Form(tuple(context.request.query_params.multi_items()))
    choice = _choice(parameters, default_region=context.region.id)
    try:
        view = await _view(context, choice)
    except TagferryError as error:
        view = SynchronizePage(choice, _regions(context), failure=_failure(error))
    return _rendered(context, view)


async def start(context: PageContext) -> Response:
    """Start the synchronization, and lead to its jobs."""
    choice = _choice(await context.form(), default_region=context.region.id)
    try:
        name = _name(choice)
        tags = await _tags(context, choice, name)
        started = await context.services.sync.start(
            _request(context, choice, name, tags), seconds=BRIEF_PREFLIGHT_SECONDS
        )
    except TagferryError as error:
        failure = _failure(error)
        try:
            view = await _view(context, choice, with_plan=False, failure=failure)
        except TagferryError:
            view = SynchronizePage(choice, _regions(context), failure=failure)
        return _rendered(context, view)
    ids = list(started.job_ids.values())
    if len(ids) == 1:
        return context.redirect(f"{JOBS}/{ids[0]}")
    joined = sum(handle.is_joined for handle in started.jobs.values())
    if joined == len(ids):
        return context.redirect(
            context.address(JOBS, region=choice.region, repository=choice.repository),
            notice=translatable("All of these tags are being synchronized already."),
        )
    return context.redirect(
        context.address(JOBS, request=context.request_id),
        notice=translatable("Jobs started: %(n)s."),
        n=len(ids) - joined,
    )


async def _view(
    context: PageContext, choice: Choice, *, with_plan: bool = True, failure: Failure | None = None
) -> SynchronizePage:
    regions = _regions(context)
    if not choice.repository:
        return SynchronizePage(choice, regions, failure=failure)
    name, region = _name(choice), context.services.regions[RegionId(choice.region, field="region")]
    await context.services.access.require(context.caller, region.id, name, Permission.READ)
    newest = TagQuery("", by_name=False, descending=True)
    listed = await context.eventually(
        ("offered", region.id, name),
        lambda _: context.services.repository_inventory.find_tags(region, name, newest, limit=_OFFERED),
    )
    found = FoundTags() if isinstance(listed, Progress) else listed
    plan: Sequence[PlannedTag] | Progress | None = None
    writable = await context.services.access.writable(context.caller)
    source = RepositoryRef.of(region.id, name)
    can_synchronize = writable.has_copy_target(source, [one.id for one in context.services.regions])
    if with_plan and choice.to and (choice.tags or choice.is_all):
        try:
            plan = await context.eventually(("plan", choice), lambda _: _plan(context, choice, name))
        except TagferryError as error:
            failure = _failure(error)
    return SynchronizePage(
        choice=choice,
        regions=regions,
        path=repository_path(region.id, name),
        offered=[record.tag for record in found.records],
        has_more=found.has_more,
        can_synchronize=can_synchronize,
        targets=await _targets(context, choice, writable),
        plan=None if isinstance(plan, Progress) else plan,
        is_listing=isinstance(listed, Progress),
        is_planning=isinstance(plan, Progress),
        failure=failure,
        commands=_commands(context, choice, name) if choice.to else (),
    )


async def _plan(context: PageContext, choice: Choice, name: RepositoryName) -> list[PlannedTag]:
    tags = await _tags(context, choice, name)
    estimates = await context.services.sync.plan(_request(context, choice, name, tags))
    return [_planned(tag, estimate) for tag, estimate in estimates.items()]


async def _tags(context: PageContext, choice: Choice, name: RepositoryName) -> tuple[Tag, ...]:
    """Return the chosen tags; raises Invalid if there are none, or too many."""
    if not choice.is_all:
        return tuple(dict.fromkeys(Tag(tag, field="tag") for tag in choice.tags))
    limit = context.settings.sync.max_tags_per_request
    region = context.services.regions[RegionId(choice.region, field="region")]
    await context.services.access.require(context.caller, region.id, name, Permission.READ)
    query = TagQuery("", by_name=True, descending=False)
    found = await context.services.repository_inventory.find_tags(region, name, query, limit=limit)
    if found.has_more:
        raise Invalid("tag", f"must be chosen: the repository has more than the {limit} tags of one request")
    if not found.records:
        raise NotFound("tag", "", "push one first", where=f'of "{name}"')
    return tuple(record.tag for record in found.records)


async def _targets(context: PageContext, choice: Choice, writable: WritableRepositories) -> list[str]:
    """Return the organizations that the caller may write the repository in, those of other regions first."""
    namespace, _, repository = choice.repository.partition("/")

    async def names(region: Region) -> list[str]:
        recorded = writable.namespaces(region.id, repository)
        more = await _unrecorded(context, region) if region.id in writable.open_regions else set()
        return sorted(more.union(recorded))

    others = sorted(context.services.regions, key=lambda region: region.id == choice.region)
    each = await bounded_gather(others, names, limit=8)
    found = [organization_of(region.id, name) for region, names in zip(others, each, strict=True) for name in names]
    return [target for target in found if target != organization_of(choice.region, namespace)]


async def _unrecorded(context: PageContext, region: Region) -> set[Namespace]:
    """Return the organizations that only a registry has; none if it does not list them in time."""
    try:
        found = await context.eventually(
            ("unrecorded", region.id), lambda _: context.services.organization_inventory.in_registry(region)
        )
    except TagferryError:
        return set()
    return set() if isinstance(found, Progress) else found


def _request(context: PageContext, choice: Choice, name: RepositoryName, tags: tuple[Tag, ...]) -> SyncRequest:
    region, _, namespace = choice.to.partition("/")
    return SyncRequest(
        id=context.request_id,
        caller=context.caller,
        source_region=RegionId(choice.region, field="region"),
        namespace=name.namespace,
        repository=name.repository,
        tags=tags,
        target_region=RegionId(region, field="to"),
        target_namespace=Namespace(namespace, field="to"),
        override=choice.override,
    )


_ACTIONS = {
    Verdict.COPY: "copy",
    Verdict.UP_TO_DATE: "up_to_date",
    Verdict.BLOCKED: "existed",
    Verdict.MISSING: "failed",
}
_MISSING = translatable("the tag does not exist in the source repository")


def _planned(tag: Tag, estimate: Estimate | TagferryError) -> PlannedTag:
    if isinstance(estimate, TagferryError):
        return PlannedTag(tag, "failed", reason=estimate.message)
    return PlannedTag(
        tag,
        _ACTIONS[estimate.verdict],
        reason=_MISSING if estimate.verdict is Verdict.MISSING else "",
        source=estimate.source or "",
        target=estimate.target or "",
        to_copy=estimate.to_copy,
        to_mount=estimate.to_mount,
        present=estimate.present,
    )


def _choice(form: Form, *, default_region: str) -> Choice:
    names = [part for text in form.all("tag") for part in text.replace(",", " ").split()]
    return Choice(
        region=form.text("region") or default_region,
        repository=form.text("repository").strip("/"),
        tags=tuple(dict.fromkeys(names)),
        is_all=form.text("tags") == _ALL,
        to=form.text("to"),
        override=form.is_checked("override"),
    )


def _name(choice: Choice) -> RepositoryName:
    namespace, _, repository = choice.repository.partition("/")
    return RepositoryName.of(Namespace(namespace, field="repository"), Repository(repository, field="repository"))


def _regions(context: PageContext) -> list[tuple[str, str]]:
    return [(region.id, region.id) for region in context.services.regions]


def _failure(error: TagferryError) -> Failure:
    return Failure.of(error, remoteRegionId="to", remoteNamespace="to", imageTag="tag", namespace="repository")


def _rendered(context: PageContext, view: SynchronizePage) -> Response:
    return context.render("synchronize.html", view, status=view.failure.status if view.failure else 200)


def _commands(context: PageContext, choice: Choice, name: RepositoryName) -> tuple[Command, ...]:
    region, _, namespace = choice.to.partition("/")
    images = [f"{name}:{tag}" for tag in choice.tags] or [f"{name}:TAG"]
    options = ["--override"] if choice.override else []
    repository = f"{name.namespace}/repos/{name.repository.replace('/', '$')}"
    url = f"{context.base_url}/v2/manage/namespaces/{repository}/sync_images"
    body = {
        "imageTag": list(choice.tags) or ["TAG"],
        "remoteRegionId": region,
        "remoteNamespace": namespace,
        "override": choice.override,
    }
    return (
        Command.of("CLI", "tagferry", "sync", *images, "--to", choice.to, *options),
        Command.api("POST", url, body),
    )


routes = (page(_SYNCHRONIZE, show), page(_SYNCHRONIZE, start, methods=("POST",)))
