"""The processes that work on the database. For administrators."""

from dataclasses import dataclass

from starlette.responses import Response

from tagferry.web.console.commands import Command
from tagferry.web.console.context import PageContext, page
from tagferry.workers import ProcessInfo


@dataclass(frozen=True, slots=True)
class WorkersPage:
    """The view of the list of processes.

    Attributes:
        slots: how many jobs all processes may run at once.
        running: how many they run.
        commands: the same by the command line and the API.
    """

    processes: tuple[ProcessInfo, ...]
    slots: int
    running: int
    commands: tuple[Command, ...]


async def show(context: PageContext) -> Response:
    """Show the processes."""
    processes = tuple(await context.services.processes.all(context.caller))
    present = [one for one in processes if not one.is_lost]
    view = WorkersPage(
        processes=processes,
        slots=sum(one.slots for one in present),
        running=sum(one.running for one in present),
        commands=(Command.of("CLI", "tagferry", "worker", "list"), Command("API", "GET /v2/manage/workers")),
    )
    return context.render("workers.html", view)


routes = (page("/console/workers", show),)
