"""The first page."""

from dataclasses import dataclass

from starlette.responses import Response

from tagferry.web.console.commands import Command
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.paths import HOME, ROOT


@dataclass(frozen=True, slots=True)
class OverviewPage:
    """The view of the first page.

    Attributes:
        url: the address of this region for clients.
        regions: the ids of all regions.
        commands: the same by the command line.
    """

    url: str
    regions: tuple[str, ...]
    commands: tuple[Command, ...]


async def show(context: PageContext) -> Response:
    """Show the overview."""
    commands = (Command.of("CLI", "tagferry", "region", "list", "--endpoint", context.base_url),)
    regions = tuple(region.id for region in context.services.regions)
    return context.render("overview.html", OverviewPage(context.base_url, regions, commands))


async def home(context: PageContext) -> Response:
    """Redirect to the first page."""
    return context.redirect(HOME)


routes = (page(HOME, show), page(ROOT, home))
