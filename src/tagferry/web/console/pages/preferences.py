"""The language, the theme and the time zone of a browser."""

from starlette.responses import Response

from tagferry.web.console.context import PageContext, page
from tagferry.web.console.paths import own_path
from tagferry.web.console.preferences import CHOICES, remember


async def save(context: PageContext) -> Response:
    """Store the preferences that were sent, and return to the page."""
    form = await context.form()
    response = context.redirect(own_path(form.text("next")))
    for preference in CHOICES:
        remember(response, preference, form.text(preference), is_secure=context.request.url.scheme == "https")
    return response


routes = (page("/console/preferences", save, methods=("POST",)),)
