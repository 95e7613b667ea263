"""The record of a repository: description, category, visibility."""

from dataclasses import dataclass

from starlette.responses import Response

from tagferry.accounts.model import Permission
from tagferry.accounts.repositories import CATEGORIES, NO_CATEGORY, RepositoryMetadata
from tagferry.errors import TagferryError
from tagferry.web.console.commands import Command
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.forms import Failure
from tagferry.web.console.repositories import BELOW, OpenedRepository, open_repository
from tagferry.web.console.translation import translatable


@dataclass(frozen=True, slots=True)
class SettingsPage:
    """The view of the form.

    Attributes:
        categories: SWR's categories, with the empty one for none.
    """

    at: OpenedRepository
    description: str
    category: str
    is_public: bool
    categories: tuple[tuple[str, str], ...]
    failure: Failure | None
    commands: tuple[Command, ...]


async def show(context: PageContext) -> Response:
    """Show the form."""
    at = await open_repository(context, Permission.EDIT)
    # Raises NotFound.
    await context.services.repository_inventory.find_record(at.region, at.name)
    entry = await context.services.repository_inventory.entry(at.region, at.name)
    return _page(context, at, entry.description, entry.category, is_public=entry.is_public)


async def save(context: PageContext) -> Response:
    """Change what is recorded."""
    at, form = await open_repository(context, Permission.EDIT), await context.form()
    description, category, is_public = form.text("description"), form.text("category"), form.is_checked("is_public")
    try:
        if not at.can_manage:
            # The form of editors does not have the field.
            is_public = (await context.services.repository_inventory.entry(at.region, at.name)).is_public
        metadata = RepositoryMetadata(is_public=is_public, category=category, description=description)
        await context.services.repository_inventory.update(context.caller, at.region, at.name, metadata)
    except TagferryError as error:
        return _page(context, at, description, category, is_public=is_public, failure=Failure.of(error))
    return context.redirect(at.path, notice=translatable("The repository was changed."))


def _page(
    context: PageContext,
    at: OpenedRepository,
    description: str,
    category: str,
    *,
    is_public: bool,
    failure: Failure | None = None,
) -> Response:
    body = {"is_public": is_public, "category": category, "description": description}
    view = SettingsPage(
        at=at,
        description=description,
        category=category,
        is_public=is_public,
        categories=((NO_CATEGORY, "-"), *((one, one) for one in CATEGORIES)),
        failure=failure,
        commands=(Command.api("PATCH", at.api(context.base_url), body),),
    )
    return context.render("repository_settings.html", view, status=failure.status if failure is not None else 200)


routes = (
    page(f"{BELOW}/settings", show),
    page(f"{BELOW}/settings", save, methods=("POST",)),
)
