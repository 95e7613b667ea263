"""Compare a repository with its copies, and find an image by its digest. Extensions of tagferry."""

from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import AliasPath, Field

from tagferry.comparison.locations import ImageLocations
from tagferry.comparison.service import Comparison, ComparisonQuery, TargetChoice
from tagferry.names import Digest, Namespace, Repository, RepositoryName, RepositoryRef, Tag
from tagferry.web.response_models import CamelCaseModel
from tagferry.web.swr.context import RequestContext
from tagferry.web.swr.paths import BELOW_REPOSITORY
from tagferry.web.swr.queries import Page, parse_flag

router = APIRouter(tags=["comparison"])


class ComparedRepositoryItem(CamelCaseModel):
    """A repository of a comparison."""

    region: str = Field(validation_alias=AliasPath("reference", "region"))
    namespace: str = Field(validation_alias=AliasPath("reference", "namespace"))
    repository: str = Field(validation_alias=AliasPath("reference", "repository"))
    exists: bool = Field(description="False if its registry has no such repository; true if that is unknown.")
    reason: str = Field(description="Why its tags cannot be listed; empty if they can.")


class TargetTagItem(CamelCaseModel):
    """A tag at one target."""

    state: str = Field(
        description="`same`; `converted`: the image that a job made of the source's; `different`; `missing`: only the "
        "source has the tag; `extra`: only the target has it; `absent`: neither has it; or `unknown`."
    )
    digest: str | None = Field(description="The digest that the tag points to; null if it is not known.")
    reason: str = Field(description="Why the state is unknown; otherwise empty.")


class ComparedTagItem(CamelCaseModel):
    """A tag at the source and at the targets."""

    tag: str
    digest: str | None = Field(
        description="The digest that it has at the source; null if it does not exist there or cannot be read."
    )
    reason: str = Field(description="Why it cannot be read at the source; otherwise empty.")
    targets: list[TargetTagItem] = Field(description="The tag at each target, in the order of the targets.")


class ComparisonPage(CamelCaseModel):
    """The tags of a repository and of its copies. `nextMarker` is null on the last page."""

    source: ComparedRepositoryItem
    targets: list[ComparedRepositoryItem]
    tags: list[ComparedTagItem]
    next_marker: str | None
    targets_left_out: int = Field(description="The number of further targets, which are not compared.")

    @classmethod
    def of(cls, found: Comparison) -> Self:
        """Return the response for a page of a comparison."""
        return cls(
            source=ComparedRepositoryItem.model_validate(found.source),
            targets=[ComparedRepositoryItem.model_validate(one) for one in found.targets],
            tags=[ComparedTagItem.model_validate(one) for one in found.tags],
            next_marker=found.next_after,
            targets_left_out=found.left_out,
        )


class LocationItem(CamelCaseModel):
    """A repository that holds the image."""

    region: str
    namespace: str
    repository: str


class RegionCoverageItem(CamelCaseModel):
    """The requests to a region."""

    region: str
    asked: int = Field(description="The number of repositories that were asked and answered.")
    is_complete: bool = Field(description="True if these are all repositories that the caller may read.")
    reason: str = Field(description="Why not all were asked; otherwise empty.")


class ImageLocationsShown(CamelCaseModel):
    """The repositories that hold an image."""

    found: list[LocationItem]
    coverage: list[RegionCoverageItem]


@router.get(f"{BELOW_REPOSITORY}/comparison", operation_id="CompareRepository")
async def compare(
    namespace: str,
    repository: str,
    context: RequestContext,
    to: Annotated[list[str] | None, Query(description="Only these targets: `REGION` or `REGION/ORGANIZATION`.")] = None,
    tag: Annotated[str, Query(description="Only tags with this in their name.")] = "",
    differences: Annotated[str | None, Query(description="If true, leave out tags that are the same.")] = None,
    limit: str | None = None,
    marker: Annotated[str, Query(description="The `nextMarker` of the page before.")] = "",
) -> ComparisonPage:
    """Compare the tags of a repository with those of its copies, in lexical order. An extension of tagferry.

    The copies are the repositories of the same name in other regions, and the targets of the repository's rules and
    newest jobs, as far as the caller may read them. A registry that does not answer makes its tags `unknown`. A page
    may have fewer tags than `limit`, or none, and still have a `nextMarker`.
    """
    query = ComparisonQuery(
        limit=Page.parse({"limit": limit}).limit,
        part=tag,
        after=Tag(marker, field="marker") if marker else None,
        only_differences=bool(parse_flag({"differences": differences}, "differences")),
        choices=tuple(TargetChoice.parse(one, field="to") for one in to or ()),
    )
    source = RepositoryRef(context.region.id, Namespace(namespace), Repository.from_path(repository))
    return ComparisonPage.of(await context.services.comparison.compare(context.caller, source, query))


@router.get("/v2/manage/locations", operation_id="ListImageLocations", response_model=ImageLocationsShown)
async def locate(
    context: RequestContext,
    digest: Annotated[str, Query(description="The digest of a manifest or an index.")],
    repository: Annotated[
        str, Query(description="`ORGANIZATION/REPOSITORY`, a name that is asked for in every region.")
    ] = "",
) -> ImageLocations:
    """List the repositories that hold an image, in all regions. An extension of tagferry.

    Embedded registries are asked for all repositories that the caller may read. Of other regions only those
    repositories are asked in which the image is expected; `coverage` says which regions were not asked completely.
    """
    like = RepositoryName(repository, field="repository") if repository else None
    return await context.services.locations.find(context.caller, Digest(digest), like=like)
