"""An organization: its repositories; create and delete organizations and repositories."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.responses import Response

from tagferry.accounts.model import Permission
from tagferry.accounts.repositories import RepositoryMetadata
from tagferry.errors import TagferryError
from tagferry.eventual import Progress
from tagferry.inventory.listed_repositories import View
from tagferry.names import Namespace, RegionId, Repository, RepositoryName
from tagferry.regions import Region
from tagferry.web import audit
from tagferry.web.console.commands import Command, pushing
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.forms import Failure
from tagferry.web.console.organizations import regions_for_creation
from tagferry.web.console.paths import IMAGES, organization_path, repository_path
from tagferry.web.console.translation import translatable

_ROWS = 100
_DESCRIBED = 200
"""Tags up to which the list shows the size of a repository: all of its images have to be read for it once."""


@dataclass(frozen=True, slots=True)
class OrganizationPage:
    """The view of an organization.

    Attributes:
        pushing: the commands that push a first image.
        reason: why its repositories cannot be listed; "" if they can.
        is_pending: whether the registry is still being read.
        is_member: whether the caller may see the members.
        can_push: whether the caller may create repositories.
        can_delete: whether the caller may delete the organization.
    """

    region: RegionId
    namespace: Namespace
    pushing: tuple[Command, ...]
    part: str
    repositories: Sequence[View]
    reason: str
    is_pending: bool
    next: str
    first: str
    is_member: bool
    can_push: bool
    can_delete: bool
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class NewOrganizationPage:
    """The view of the form for a new organization."""

    regions: Sequence[tuple[str, str]]
    region: str
    name: str = ""
    failure: Failure | None = None
    commands: tuple[Command, ...] = ()


@dataclass(frozen=True, slots=True)
class NewRepositoryPage:
    """The view of the form for a new repository."""

    region: str
    namespace: str
    name: str = ""
    description: str = ""
    is_public: bool = False
    can_publish: bool = False
    failure: Failure | None = None
    commands: tuple[Command, ...] = ()


@dataclass(frozen=True, slots=True)
class DeleteOrganizationPage:
    """The view of the question before an organization is deleted."""

    region: str
    namespace: str
    failure: Failure | None = None
    commands: tuple[Command, ...] = ()


async def show_organization(context: PageContext) -> Response:
    """Show the repositories of an organization."""
    region, namespace = _region(context), Namespace(context.path_parameters["namespace"])
    services, caller = context.services, context.caller
    readable = await services.access.readable(caller, region.id)
    permission = await _permission(context, region, namespace)
    if permission is None and namespace not in (readable.namespaces or {namespace}):
        # Raises the error that explains why nothing is shown.
        await services.access.require_organization(caller, region.id, namespace, Permission.READ)
    after, part = context.query("after"), context.query("q")

    async def listed(_: Progress) -> tuple[Sequence[RepositoryName], Sequence[View]]:
        names = await services.repository_inventory.names(region, readable, namespace=namespace, part=part or None)
        following = [name for name in names if name > after][: _ROWS + 1]
        shown = await services.repository_inventory.some(region, following[:_ROWS], readable, largest=_DESCRIBED)
        return following, shown

    reason, is_pending = "", False
    names: Sequence[RepositoryName] = ()
    shown: Sequence[View] = ()
    try:
        found = await context.eventually(("repositories", region.id, namespace, part, after), listed)
        if isinstance(found, Progress):
            is_pending = True
        else:
            names, shown = found
    except TagferryError as error:
        reason = error.message
    if permission is None and not (shown or part or after or is_pending):
        await services.access.require_organization(caller, region.id, namespace, Permission.READ)
    path = organization_path(region.id, namespace)
    terms = {"q": part} if part else {}
    view = OrganizationPage(
        region=region.id,
        namespace=namespace,
        pushing=pushing(f"{region.registry_host}/{namespace}/app:v1", is_plain=region.is_plain),
        part=part,
        repositories=shown,
        reason=reason,
        is_pending=is_pending,
        next=f"{path}?{urlencode({**terms, 'after': names[_ROWS - 1]})}" if len(names) > _ROWS else "",
        first=path + (f"?{urlencode(terms)}" if terms else "") if after else "",
        is_member=await services.members.is_member(caller, region, namespace),
        can_push=permission is not None and permission >= Permission.EDIT,
        can_delete=permission is Permission.MANAGE and await services.organizations.exists(region.id, namespace),
        commands=(Command.api("GET", f"{context.base_url}/v2/manage/repos?namespace={namespace}"),),
    )
    return context.render("images_organization.html", view)


async def new_organization(context: PageContext) -> Response:
    """Show the form for a new organization."""
    return context.render("organization_new.html", _new_organization(context, context.query("region")))


async def create_organization(context: PageContext) -> Response:
    """Create an organization."""
    form = await context.form()
    try:
        region = context.services.regions[RegionId(form.text("region"))]
        name = Namespace(form.text("name"))
        audit.bind_record(organization=name)
        await context.services.organization_inventory.create(context.caller, region, name)
    except TagferryError as error:
        failure = Failure.of(error, namespace="name")
        view = _new_organization(context, form.text("region"), form.text("name"), failure)
        return context.render("organization_new.html", view, status=failure.status)
    notice = translatable("The organization %(name)s was created.")
    return context.redirect(organization_path(region.id, name), notice=notice, name=name)


async def ask_to_delete_organization(context: PageContext) -> Response:
    """Ask before an organization is deleted."""
    region, namespace = _region(context), Namespace(context.path_parameters["namespace"])
    await context.services.access.require_organization(context.caller, region.id, namespace, Permission.MANAGE)
    return context.render("organization_delete.html", _delete_organization(context, region, namespace))


async def delete_organization(context: PageContext) -> Response:
    """Delete an organization."""
    region, namespace = _region(context), Namespace(context.path_parameters["namespace"])
    try:
        await context.services.organization_inventory.delete(context.caller, region, namespace)
    except TagferryError as error:
        view = _delete_organization(context, region, namespace, Failure.of(error))
        return context.render("organization_delete.html", view, status=Failure.of(error).status)
    notice = translatable("The organization %(name)s was deleted.")
    return context.redirect(IMAGES, notice=notice, name=namespace)


async def new_repository(context: PageContext) -> Response:
    """Show the form for a new repository."""
    region, namespace = _region(context), Namespace(context.path_parameters["namespace"])
    await context.services.access.require_organization(context.caller, region.id, namespace, Permission.EDIT)
    return context.render("repository_new.html", await _new_repository(context, region, namespace))


async def create_repository(context: PageContext) -> Response:
    """Create a repository."""
    region, namespace = _region(context), Namespace(context.path_parameters["namespace"])
    form = await context.form()
    try:
        name = RepositoryName.of(namespace, Repository(form.text("name")))
        audit.bind_record(repository=name)
        metadata = RepositoryMetadata(
            is_public=form.is_checked("is_public"), category=None, description=form.text("description")
        )
        await context.services.repository_inventory.create(context.caller, region, name, metadata)
    except TagferryError as error:
        failure = Failure.of(error, repository="name")
        view = await _new_repository(
            context,
            region,
            namespace,
            form.text("name"),
            form.text("description"),
            is_public=form.is_checked("is_public"),
            failure=failure,
        )
        return context.render("repository_new.html", view, status=failure.status)
    notice = translatable("The repository %(name)s was created.")
    return context.redirect(repository_path(region.id, name), notice=notice, name=name)


def _region(context: PageContext) -> Region:
    return context.services.regions[RegionId(context.path_parameters["region"])]


async def _permission(context: PageContext, region: Region, namespace: Namespace) -> Permission | None:
    """Return the caller's permission in an organization; None without one, or if it does not exist."""
    try:
        found = await context.services.access.require_organization(
            context.caller, region.id, namespace, Permission.READ
        )
    except TagferryError:
        return None
    return found.permission if found is not None else Permission.MANAGE


def _new_organization(
    context: PageContext, region: str, name: str = "", failure: Failure | None = None
) -> NewOrganizationPage:
    regions = [(one, one) for one in regions_for_creation(context)]
    commands = (
        Command.api("POST", f"{context.base_url}/v2/manage/namespaces", {"namespace": name or "NAME"}),
        Command.of("CLI", "tagferry", "org", "create", f"{region or context.region.id}/{name or 'NAME'}"),
    )
    return NewOrganizationPage(regions, region or context.region.id, name, failure, commands)


def _delete_organization(
    context: PageContext, region: Region, namespace: Namespace, failure: Failure | None = None
) -> DeleteOrganizationPage:
    commands = (
        Command.api("DELETE", f"{context.base_url}/v2/manage/namespaces/{namespace}"),
        Command.of("CLI", "tagferry", "org", "delete", f"{region.id}/{namespace}"),
    )
    return DeleteOrganizationPage(region.id, namespace, failure, commands)


async def _new_repository(
    context: PageContext,
    region: Region,
    namespace: Namespace,
    name: str = "",
    description: str = "",
    *,
    is_public: bool = False,
    failure: Failure | None = None,
) -> NewRepositoryPage:
    permission = await _permission(context, region, namespace)
    commands = (
        Command.api(
            "POST",
            f"{context.base_url}/v2/manage/namespaces/{namespace}/repos",
            {"repository": name or "NAME", "is_public": is_public, "description": description},
        ),
    )
    return NewRepositoryPage(
        region=region.id,
        namespace=namespace,
        name=name,
        description=description,
        is_public=is_public,
        can_publish=permission is Permission.MANAGE,
        failure=failure,
        commands=commands,
    )


_ORGANIZATION = f"{IMAGES}/{{region}}/{{namespace}}"
routes = (
    page("/console/organizations/new", new_organization),
    page("/console/organizations/new", create_organization, methods=("POST",)),
    # A colon is in no name, so these are no repositories.
    page(f"{_ORGANIZATION}:delete", ask_to_delete_organization),
    page(f"{_ORGANIZATION}:delete", delete_organization, methods=("POST",)),
    page(f"{_ORGANIZATION}:new", new_repository),
    page(f"{_ORGANIZATION}:new", create_repository, methods=("POST",)),
    page(_ORGANIZATION, show_organization),
)
