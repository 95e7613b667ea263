"""Organizations and repositories of all regions: lists and search."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.responses import Response

from tagferry.accounts.model import Permission
from tagferry.catalog.listings import listings_of
from tagferry.comparison.locations import ImageLocations
from tagferry.concurrency import bounded_gather
from tagferry.errors import InvalidName, NotFound, TagferryError, Throttled, Unavailable
from tagferry.eventual import Progress
from tagferry.inventory.organizations import ListedOrganization
from tagferry.names import Digest, Namespace, RegionId, RepositoryName
from tagferry.regions import Region
from tagferry.web.console.commands import Command
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.image_queries import ImageQuery
from tagferry.web.console.locations import locate
from tagferry.web.console.organizations import regions_for_creation
from tagferry.web.console.paths import IMAGES, repository_path, tag_path

_ORGANIZATIONS = 50
"""Organizations of a region on the page of all regions."""
_ROWS = 100
_FOUND = 50
"""Repositories of a region in the results of a search."""
_SECONDS = 3.0
"""Seconds that a region with a remote registry may take for a list on a page of all regions."""


@dataclass(frozen=True, slots=True)
class OrganizationRow:
    """An organization in a list.

    Attributes:
        users: the number of users with permissions in it; None while it is being counted.
        repositories: the number of its repositories; None while it is being counted.
    """

    name: Namespace
    permission: Permission
    users: int | None = None
    repositories: int | None = None


@dataclass(frozen=True, slots=True)
class RegionImages:
    """The organizations of a region, or its repositories that a search has found.

    Attributes:
        reason: why they cannot be listed; "" if they can.
        has_more: whether there are more than shown.
        is_pending: whether the registry is still being read.
    """

    region: RegionId
    organizations: Sequence[OrganizationRow] = ()
    repositories: Sequence[RepositoryName] = ()
    reason: str = ""
    has_more: bool = False
    is_pending: bool = False


@dataclass(frozen=True, slots=True)
class ImagesPage:
    """The view of all regions.

    Attributes:
        query: what is searched for; "" for all organizations.
        tag: the tag that is searched for; "" for all.
        reason: why the search is impossible; "" if it is possible.
        can_create: whether the caller may create an organization in any region.
        is_empty: whether no region has anything to show.
    """

    query: str
    tag: str
    reason: str
    can_create: bool
    regions: Sequence[RegionImages]
    is_empty: bool
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class RegionPage:
    """The view of the organizations of one region.

    Attributes:
        can_create: whether the caller may create one.
        is_pending: whether the registry is still being read.
    """

    region: RegionId
    can_create: bool
    organizations: Sequence[OrganizationRow]
    next: str
    first: str
    commands: tuple[Command, ...]
    is_pending: bool


@dataclass(frozen=True, slots=True)
class LocationsPage:
    """The view of a search by digest.

    Attributes:
        locations: what was found; None while the regions are being asked.
    """

    query: str
    digest: Digest
    locations: ImageLocations | None
    commands: tuple[Command, ...]


async def show(context: PageContext) -> Response:
    """Show the organizations of all regions, or what a search finds: repositories, or an image by its digest."""
    text = context.query("q")
    try:
        query = ImageQuery.of(text)
    except InvalidName as error:
        return context.render("images.html", ImagesPage(text, "", error.message, False, (), False, commands=()))
    if query.digest is not None:
        return await _located(context, query, query.digest)

    async def one(region: Region) -> RegionImages:
        try:
            return await (_search(context, region, query) if query.names else _organizations(context, region))
        except Throttled:
            return RegionImages(region.id, is_pending=True)
        except TimeoutError:
            return RegionImages(region.id, reason=f"the registry did not answer within {_SECONDS:g} s")
        except TagferryError as error:
            return RegionImages(region.id, reason=error.message)

    regions = await bounded_gather(context.services.regions, one, limit=8)
    found = [one for one in regions if one.organizations or one.repositories]
    is_pending = any(one.is_pending for one in regions)
    only = None if is_pending else _only(context, query, found)
    if only is not None:
        region, name = only
        return context.redirect(tag_path(region, name, query.tag) if query.tag else repository_path(region, name))
    shown = [one for one in regions if one in found or one.reason or one.is_pending] if query.names else regions
    commands = (
        Command.api("GET", f"{context.base_url}/v2/manage/repos?{urlencode(_parameters(query.names[-1], found))}")
        if query.names
        else Command.api("GET", f"{context.base_url}/v2/manage/namespaces"),
    )
    can_create = bool(regions_for_creation(context))
    is_empty = not found and not is_pending
    view = ImagesPage(query.text if query.names else "", query.tag, "", can_create, shown, is_empty, commands)
    return context.render("images.html", view)


def _parameters(searched: str, found: Sequence[RegionImages]) -> dict[str, str]:
    """Return the parameters with which the API lists about the same: it has one for each part of a name."""
    namespace, _, rest = searched.partition("/")
    if all(name.unchecked_namespace != namespace for one in found for name in one.repositories):
        return {"name": searched}
    return {"namespace": namespace, **({"name": rest} if rest else {})}


def _only(
    context: PageContext, query: ImageQuery, found: Sequence[RegionImages]
) -> tuple[RegionId, RepositoryName] | None:
    """Return the only repository that was searched for, if its whole name was given."""
    named = [(one.region, name) for one in found for name in one.repositories if name in query.names]
    here = [one for one in named if context.services.regions[one[0]].registry_host == query.host]
    if len(here) == 1:
        return here[0]
    is_only = len(named) == 1 and sum(len(one.repositories) for one in found) == 1
    return named[0] if is_only else None


async def _located(context: PageContext, query: ImageQuery, digest: Digest) -> Response:
    """Show the repositories of all regions that hold an image."""
    locations = await locate(context, digest, like=query.repository)
    commands = (
        Command.api("GET", f"{context.base_url}/v2/manage/locations?digest={digest}"),
        Command.of("CLI", "tagferry", "locate", digest),
    )
    return context.render("locations.html", LocationsPage(query.text, digest, locations, commands))


async def _organizations(context: PageContext, region: Region) -> RegionImages:
    rows, is_pending = await _listed(context, region)
    return RegionImages(region.id, rows[:_ORGANIZATIONS], has_more=len(rows) > _ORGANIZATIONS, is_pending=is_pending)


async def _listed(context: PageContext, region: Region) -> tuple[list[OrganizationRow], bool]:
    """Return the organizations of a region, and whether their numbers, or some of them, are still missing."""
    services, caller = context.services, context.caller

    async def listed(_: Progress) -> list[ListedOrganization]:
        async with _in_time(region):
            return await services.organization_inventory.list_for(caller, region)

    found = await context.eventually(("organizations", region.id), listed)
    if isinstance(found, Progress):
        recorded = await services.organizations.list_for(caller, region.id)
        return [OrganizationRow(one.name, one.permission) for one in recorded], True
    return [OrganizationRow(one.name, one.permission, one.users, one.repositories) for one in found], False


async def _search(context: PageContext, region: Region, query: ImageQuery) -> RegionImages:
    services, caller = context.services, context.caller

    async def search(_: Progress) -> list[RepositoryName]:
        async with _in_time(region):
            readable = await services.access.readable(caller, region.id)
            names = await services.repository_inventory.names(region, readable)
        return [name for name in names if query.matches(name)][: _FOUND + 1]

    found = await context.eventually(("search", region.id, query.names), search)
    if isinstance(found, Progress):
        return RegionImages(region.id, is_pending=True)
    return RegionImages(region.id, repositories=found[:_FOUND], has_more=len(found) > _FOUND)


def _in_time(region: Region) -> asyncio.Timeout:
    """Return the limit of the time for a list. An embedded registry always answers."""
    return asyncio.timeout(_SECONDS if listings_of(region.store) is None else None)


async def show_region(context: PageContext) -> Response:
    """Show the organizations of a region."""
    region, after = _region(context), context.query("after")
    try:
        rows, is_pending = await _listed(context, region)
    except TimeoutError:
        raise Unavailable(f"registry {region.store.name} did not answer within {_SECONDS:g} s") from None
    following = [one for one in rows if one.name > after]
    path = f"{IMAGES}/{region.id}"
    more = f"{path}?{urlencode({'after': following[_ROWS - 1].name})}" if len(following) > _ROWS else ""
    commands = (Command.api("GET", f"{context.base_url}/v2/manage/namespaces"),)
    can_create = context.services.access.may_create(context.caller, region.id)
    view = RegionPage(region.id, can_create, following[:_ROWS], more, path if after else "", commands, is_pending)
    return context.render("images_region.html", view)


def _region(context: PageContext) -> Region:
    return context.services.regions[RegionId(context.path_parameters["region"])]


async def redirect_longer(context: PageContext) -> Response:
    """Redirect from an address whose repository is written with slashes."""
    parameters = context.path_parameters
    namespace, path = parameters["namespace"], parameters["rest"]
    repository, separator, tag = path.rpartition("/tags/")
    try:
        name = RepositoryName(f"{namespace}/{repository if separator and '/' not in tag else path}")
    except TagferryError:
        raise NotFound("page", context.request.url.path) from None
    target = repository_path(parameters["region"], name)
    return context.redirect(f"{target}/tags/{tag}" if separator and "/" not in tag else target)


routes = (page(IMAGES, show), page(f"{IMAGES}/{{region}}", show_region))
late_routes = (page(f"{IMAGES}/{{region}}/{{namespace}}/{{rest:path}}", redirect_longer),)
"""Routes that come after those of all other pages."""
