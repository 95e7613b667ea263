"""One job: its progress, what it really moved, its timeline, and what to do next."""

from starlette.responses import Response

from tagferry.web.console.context import PageContext, page
from tagferry.web.console.jobs import JOBS, job_page

_JOB = f"{JOBS}/{{job:id}}"


async def show(context: PageContext) -> Response:
    """Show a job."""
    details = await context.services.jobs.details(context.caller, context.request.path_params["job"])
    return context.render("job.html", await job_page(context, details))


routes = (page(_JOB, show),)
