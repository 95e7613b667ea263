"""A repository: its tags, and what may be done with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlencode

from starlette.responses import Response

from tagferry.accounts.model import Permission
from tagferry.catalog import RepositoryDetails, TagDetails, describe_tags, list_referrers
from tagferry.catalog.contents import BoundedReader
from tagferry.catalog.listings import listings_of
from tagferry.catalog.pages import Place, TagQuery, known_date
from tagferry.concurrency import bounded_gather
from tagferry.errors import Invalid, NotFound, TagferryError
from tagferry.eventual import Progress
from tagferry.inventory.listed_repositories import Entry, View
from tagferry.names import Tag
from tagferry.web.console.commands import Command, pushing
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.copies import Copies, copies_of
from tagferry.web.console.forms import Failure
from tagferry.web.console.paths import organization_path
from tagferry.web.console.repositories import BELOW, OpenedRepository, open_repository
from tagferry.web.console.translation import translatable

_ROWS = 50
_REFERRERS_AT_ONCE = 8
_DESCRIBED = 500
"""Tags up to which the page shows the size of the whole repository: all images have to be read for it once."""


@dataclass(frozen=True, slots=True)
class ListedTags:
    """A page of a repository's tags.

    Attributes:
        total: the number of tags in the list.
        last: the position of the last one; None if there are no more.
        details: size and dates of the repository; None if it has so many tags that computing them takes long.
        referrers: the number of referrers of each tag, where that costs no request to a registry.
    """

    tags: Sequence[TagDetails] = ()
    total: int = 0
    last: Place | None = None
    details: RepositoryDetails | None = None
    referrers: Mapping[Tag, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RepositoryPage:
    """The view of a repository's tags.

    Attributes:
        entry: the recorded facts of the repository.
        copies: what its newest jobs say about its copies.
        part: a part of the tags' names that is filtered by.
        by_name: whether the tags are ordered by name, and not by their last update.
        reason: why the tags cannot be listed; "" if they can.
        is_pending: whether the tags are still being read.
    """

    at: OpenedRepository
    entry: Entry
    copies: Copies
    listed: ListedTags
    part: str
    by_name: bool
    reason: str
    is_pending: bool
    next: str
    first: str
    commands: tuple[Command, ...]
    pushing: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class DeleteTagsPage:
    """The view of the question before tags are deleted.

    Attributes:
        failures: tags that could not be deleted, with the reasons.
    """

    at: OpenedRepository
    tags: Sequence[Tag]
    failures: Sequence[tuple[Tag, str]] = ()
    deleted: int = 0
    commands: tuple[Command, ...] = ()

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The fields of the form that deletes them."""
        return [("tag", tag) for tag in self.tags]


@dataclass(frozen=True, slots=True)
class DeleteRepositoryPage:
    """The view of the question before a repository is deleted."""

    at: OpenedRepository
    view: View
    failure: Failure | None = None
    commands: tuple[Command, ...] = ()


async def show(context: PageContext) -> Response:
    """Show the tags of a repository."""
    at = await open_repository(context)
    inventory = context.services.repository_inventory
    part, by_name, after = context.query("q"), context.query("order") == "name", context.query("after")
    query = TagQuery(part, by_name=by_name, descending=not by_name, after=_place(after))
    reason, is_pending, listed = "", False, ListedTags()
    try:
        found = await context.eventually(("tags", at.region.id, at.name, query), lambda _: _listed(context, at, query))
        if isinstance(found, Progress):
            is_pending = True
        else:
            listed = found
    except NotFound:
        raise
    except TagferryError as error:
        reason = error.message
    terms = {name: value for name, value in (("q", part), ("order", "name" if by_name else "")) if value}
    moment, tag = listed.last or (None, "")
    marker = f"{moment.isoformat() if moment else ''} {tag}"
    return context.render(
        "repository.html",
        RepositoryPage(
            at=at,
            entry=await inventory.entry(at.region, at.name),
            copies=await copies_of(context, at, {one.tag: one.digest for one in listed.tags}),
            listed=listed,
            part=part,
            by_name=by_name,
            reason=reason,
            is_pending=is_pending,
            next=f"{at.path}?{urlencode({**terms, 'after': marker})}" if listed.last else "",
            first=at.path + (f"?{urlencode(terms)}" if terms else "") if after else "",
            commands=(
                Command.api("GET", at.api(context.base_url, "/tags")),
                Command.of("CLI", "tagferry", "tags", at.name),
            ),
            pushing=pushing(f"{at.region.registry_host}/{at.name}:v1", is_plain=at.region.is_plain),
        ),
    )


async def _listed(context: PageContext, at: OpenedRepository, query: TagQuery) -> ListedTags:
    inventory, store = context.services.repository_inventory, at.region.store
    found = await inventory.find_tags(at.region, at.name, query, limit=_ROWS)
    tags = await describe_tags(store, at.name, found.records, reader=BoundedReader(store))
    details = None
    if found.total <= _DESCRIBED and not query.part:
        (details,) = await inventory.described(at.region, [at.name])
    return ListedTags(tags, found.total, found.last if found.has_more else None, details, await _referrers(at, tags))


def _place(after: str) -> Place | None:
    if not after:
        return None
    moment, _, tag = after.rpartition(" ")
    try:
        return known_date(datetime.fromisoformat(moment)) if moment else None, Tag(tag)
    except (ValueError, OverflowError, Invalid):
        raise Invalid("after", "must be from the link to the next page", after) from None


async def _referrers(at: OpenedRepository, tags: Sequence[TagDetails]) -> dict[Tag, int]:
    """Return the number of referrers of each tag, if the registry is embedded."""
    if listings_of(at.region.store) is None:
        return {}

    async def count(one: TagDetails) -> int:
        try:
            return len(await list_referrers(at.region.store, at.name, one.digest))
        except (TagferryError, OSError):
            return 0

    found = await bounded_gather(tags, count, limit=_REFERRERS_AT_ONCE)
    return {one.tag: number for one, number in zip(tags, found, strict=True)}


async def ask_to_delete_tags(context: PageContext) -> Response:
    """Ask before tags are deleted."""
    at = await open_repository(context, Permission.MANAGE)
    tags = [Tag(one) for one in dict.fromkeys(context.request.query_params.getlist("tag"))]
    if not tags:
        return context.redirect(at.path, notice=translatable("Select the tags to delete first."))
    commands = tuple(Command.api("DELETE", at.api(context.base_url, f"/tags/{tag}")) for tag in tags[:3])
    return context.render("tags_delete.html", DeleteTagsPage(at, tags, commands=commands))


async def delete_tags(context: PageContext) -> Response:
    """Delete tags, one after the other."""
    at = await open_repository(context, Permission.MANAGE)
    form = await context.form()
    tags = [Tag(one) for one in dict.fromkeys(form.all("tag"))]
    failures = []
    for tag in tags:
        try:
            await context.services.repository_inventory.delete_tag(context.caller, at.region, at.name, tag)
        except TagferryError as error:
            failures.append((tag, error.message))
    deleted = len(tags) - len(failures)
    if not failures:
        return context.redirect(at.path, notice=translatable("Deleted tags: %(number)s."), number=deleted)
    view = DeleteTagsPage(at, [tag for tag, _ in failures], failures, deleted)
    return context.render("tags_delete.html", view, status=409)


async def ask_to_delete(context: PageContext) -> Response:
    """Ask before a repository is deleted."""
    at = await open_repository(context, Permission.MANAGE)
    return context.render("repository_delete.html", await _deletion(context, at))


async def delete(context: PageContext) -> Response:
    """Delete a repository with all its images."""
    at = await open_repository(context, Permission.MANAGE)
    try:
        await context.services.repository_inventory.delete(context.caller, at.region, at.name)
    except TagferryError as error:
        failure = Failure.of(error)
        return context.render("repository_delete.html", await _deletion(context, at, failure), status=failure.status)
    path = organization_path(at.region.id, at.namespace)
    return context.redirect(path, notice=translatable("The repository %(name)s was deleted."), name=at.name)


async def _deletion(context: PageContext, at: OpenedRepository, failure: Failure | None = None) -> DeleteRepositoryPage:
    # The number of tags is shown, but nothing of their images.
    view = await context.services.repository_inventory.find(at.region, at.name, largest=0)
    commands = (Command.api("DELETE", at.api(context.base_url)),)
    return DeleteRepositoryPage(at, view, failure, commands)


routes = (
    page(BELOW, show),
    page(f"{BELOW}/delete-tags", ask_to_delete_tags),
    page(f"{BELOW}/delete-tags", delete_tags, methods=("POST",)),
    page(f"{BELOW}/delete", ask_to_delete),
    page(f"{BELOW}/delete", delete, methods=("POST",)),
)
