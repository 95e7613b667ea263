"""Organizations and repositories of all regions: lists and search."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.responses import Response

from tagferry.concurrency import bounded_gather
from tagferry.errors import NotFound, TagferryError
from tagferry.inventory.organizations import ListedOrganization
from tagferry.names import RegionId, RepositoryName
from tagferry.regions import Region
from tagferry.web.console.commands import Command
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.paths import IMAGES, repository_path

_ORGANIZATIONS = 50
"""Organizations of a region on the page of all regions."""
_ROWS = 100
_FOUND = 50
"""Repositories of a region in the results of a search."""
_SECONDS = 3.0
"""Seconds that a region may take for a list on a page of all regions."""


@dataclass(frozen=True, slots=True)
class RegionImages:
    """The organizations of a region, or its repositories that a search has found.

    Attributes:
        reason: why they cannot be listed; "" if they can.
        has_more: whether there are more than shown.
    """

    region: RegionId
    organizations: Sequence[ListedOrganization] = ()
    repositories: Sequence[RepositoryName] = ()
    reason: str = ""
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class ImagesPage:
    """The view of all regions.

    Attributes:
        query: what is searched for; "" for all organizations.
        is_empty: whether no region has anything to show.
    """

    query: str
    regions: Sequence[RegionImages]
    is_empty: bool
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class RegionPage:
    """The view of the organizations of one region."""

    region: RegionId
    organizations: Sequence[ListedOrganization]
    next: str
    first: str
    commands: tuple[Command, ...]


async def show(context: PageContext) -> Response:
    """Show the organizations of all regions, or the repositories that a search finds."""
    query = context.query("q").strip("/")

    async def one(region: Region) -> RegionImages:
        try:
            async with asyncio.timeout(_SECONDS):
                return await (_search(context, region, query) if query else _organizations(context, region))
        except TimeoutError:
            return RegionImages(region.id, reason=f"the registry did not answer within {_SECONDS:g} s")
        except TagferryError as error:
            return RegionImages(region.id, reason=error.message)

    regions = await bounded_gather(context.services.regions, one, limit=8)
    found = [one for one in regions if one.organizations or one.repositories]
    if query and len(found) == 1 and [query] == list(found[0].repositories):
        return context.redirect(repository_path(found[0].region, query))
    shown = [one for one in regions if one in found or one.reason] if query else regions
    commands = (
        Command.api("GET", f"{context.base_url}/v2/manage/repos?name={query}")
        if query
        else Command.api("GET", f"{context.base_url}/v2/manage/namespaces"),
    )
    return context.render("images.html", ImagesPage(query, shown, not found, commands))


async def _organizations(context: PageContext, region: Region) -> RegionImages:
    listed = await context.services.organization_inventory.list_for(context.caller, region)
    return RegionImages(region.id, listed[:_ORGANIZATIONS], has_more=len(listed) > _ORGANIZATIONS)


async def _search(context: PageContext, region: Region, query: str) -> RegionImages:
    readable = await context.services.access.readable(context.caller, region.id)
    entries = await context.services.repository_inventory.list_readable(region, readable)
    found = [name for name in entries.names if name.startswith(query) or f"/{query}" in name]
    return RegionImages(region.id, repositories=found[:_FOUND], has_more=len(found) > _FOUND)


async def show_region(context: PageContext) -> Response:
    """Show the organizations of a region."""
    region, after = _region(context), context.query("after")
    listed = await context.services.organization_inventory.list_for(context.caller, region)
    following = [one for one in listed if one.name > after]
    path = f"{IMAGES}/{region.id}"
    more = f"{path}?{urlencode({'after': following[_ROWS - 1].name})}" if len(following) > _ROWS else ""
    commands = (Command.api("GET", f"{context.base_url}/v2/manage/namespaces"),)
    view = RegionPage(region.id, following[:_ROWS], more, path if after else "", commands)
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
