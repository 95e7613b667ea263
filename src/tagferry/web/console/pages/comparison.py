"""The copies of a repository: the matrix of tags and targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.responses import Response

from tagferry.accounts.writable import WritableRepositories
from tagferry.comparison.service import ComparedRepository, ComparedTag, Comparison, ComparisonQuery, TargetChoice
from tagferry.eventual import Progress
from tagferry.names import Tag
from tagferry.web.console.commands import Command
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.repositories import BELOW, OpenedRepository, open_repository

_ROWS = 50


@dataclass(frozen=True, slots=True)
class TargetSummary:
    """A target with the number of tags on the page that differ.

    Attributes:
        differing: the tags that it lacks, or has with another image.
        choice: its name, `REGION/ORGANIZATION`.
        can_write: whether the caller may synchronize tags to it.
    """

    target: ComparedRepository
    choice: str
    can_write: bool
    differing: Sequence[Tag]

    @property
    def synchronization(self) -> str:
        """The query of the page that synchronizes the differing tags to it."""
        return urlencode([*(("tag", tag) for tag in self.differing), ("to", self.choice)])


@dataclass(frozen=True, slots=True)
class ComparisonPage:
    """The view of the matrix of tags and targets.

    Attributes:
        comparison: None while the registries are being read.
    """

    at: OpenedRepository
    part: str
    only_differences: bool
    to: Sequence[str]
    comparison: Comparison | None
    targets: Sequence[TargetSummary]
    next: str
    first: str
    commands: tuple[Command, ...]

    @property
    def rows(self) -> Sequence[ComparedTag]:
        """The tags."""
        return self.comparison.tags if self.comparison is not None else ()


async def show(context: PageContext) -> Response:
    """Show the tags of a repository beside those of its copies."""
    at = await open_repository(context)
    after, part = context.query("after"), context.query("q")
    only_differences = bool(context.query("differences"))
    to = [one for one in context.request.query_params.getlist("to") if one]
    query = ComparisonQuery(
        limit=_ROWS,
        part=part,
        after=Tag(after, field="after") if after else None,
        only_differences=only_differences,
        choices=tuple(TargetChoice.parse(one, field="to") for one in to),
    )

    async def compare(_: Progress) -> Comparison:
        return await context.services.comparison.compare(context.caller, at.reference, query)

    compared = await context.eventually(("comparison", at.reference, query), compare)
    found = None if isinstance(compared, Progress) else compared
    next_after = found.next_after if found is not None else None
    writable = await context.services.access.writable(context.caller)
    terms = [("q", part)] if part else []
    terms += [("differences", "on")] if only_differences else []
    terms += [("to", one) for one in to]
    options = [option for one in to for option in ("--to", one)]
    return context.render(
        "comparison.html",
        ComparisonPage(
            at=at,
            part=part,
            only_differences=only_differences,
            to=to,
            comparison=found,
            targets=[_summary(found, index, writable) for index in range(len(found.targets))]
            if found is not None
            else (),
            next=f"{at.path}/comparison?{urlencode([*terms, ('after', next_after)])}" if next_after else "",
            first=f"{at.path}/comparison?{urlencode(terms)}" if after else "",
            commands=(
                Command.api("GET", at.api(context.base_url, "/comparison")),
                Command.of("CLI", "tagferry", "tags", at.name, "--compare", *options),
            ),
        ),
    )


def _summary(found: Comparison, index: int, writable: WritableRepositories) -> TargetSummary:
    target = found.targets[index]
    reference = target.reference
    differing = [row.tag for row in found.tags if row.targets[index].state.is_behind]
    can_write = writable.contains(reference.region, reference.name)
    return TargetSummary(target, reference.organization, can_write, differing)


routes = (page(f"{BELOW}/comparison", show),)
