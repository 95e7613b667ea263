"""Repositories: create, show, update and delete."""

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from tagferry.accounts.model import Permission
from tagferry.accounts.repositories import RepositoryMetadata
from tagferry.names import Namespace, Repository, RepositoryName
from tagferry.web import audit
from tagferry.web.bodies import require_json
from tagferry.web.formats import date, number
from tagferry.web.json_response import JSONResponse
from tagferry.web.response_models import ResponseModel
from tagferry.web.swr.context import RequestContext
from tagferry.web.swr.paths import REPOSITORIES, REPOSITORY

router = APIRouter(tags=["repositories"])


class UpdateRepoBody(BaseModel):
    """The body of UpdateRepo. Omitted fields keep their values."""

    model_config = ConfigDict(strict=True)

    is_public: bool = Field(description="If true, everyone can read the repository.")
    category: str | None = Field(None, description="The category of its images.")
    description: str | None = None

    @property
    def metadata(self) -> RepositoryMetadata:
        """Return the metadata to set; raises Invalid."""
        return RepositoryMetadata(is_public=self.is_public, category=self.category, description=self.description)


class CreateRepoBody(UpdateRepoBody):
    """The body of CreateRepo."""

    repository: str


class RepositoryShown(ResponseModel):
    """The response of ShowRepository. ListRepositoryTags lists the tags."""

    id: int
    ns_id: int
    name: str
    category: str
    description: str
    creator_id: str
    creator_name: str
    size: int
    is_public: bool
    num_images: int
    num_download: int
    url: str
    path: str
    internal_path: str
    created: str
    updated: str
    domain_id: str
    priority: int


@router.post(REPOSITORIES, operation_id="CreateRepo", status_code=201, dependencies=[Depends(require_json)])
async def create(namespace: str, body: CreateRepoBody, context: RequestContext) -> Response:
    """Create an empty repository. A public one requires the permission to manage its organization."""
    name = RepositoryName.of(Namespace(namespace), Repository(body.repository))
    audit.bind_record(repository=name)
    await context.services.repository_inventory.create(context.caller, context.region, name, body.metadata)
    return JSONResponse({}, status_code=201)


@router.get(REPOSITORY, operation_id="ShowRepository")
async def show(namespace: str, repository: str, context: RequestContext) -> RepositoryShown:
    """Show a repository."""
    name = RepositoryName.from_path(namespace, repository)
    access = await context.services.access.require(context.caller, context.region.id, name, Permission.READ)
    owner = access.owner
    view = await context.services.repository_inventory.find(context.region, name)
    # A repository created by a push has no recorded creator; show its organization's.
    creator = view.entry.record or owner
    path = f"{context.region.registry_host}/{name}"
    return RepositoryShown(
        id=number(context.region.id, name),
        ns_id=owner.id if owner else number(context.region.id, name.namespace),
        name=name.repository,
        category=view.entry.category,
        description=view.entry.description,
        creator_id=creator.creator_id if creator else "",
        creator_name=creator.creator_name if creator else "",
        size=view.details.size,
        is_public=view.entry.is_public,
        num_images=len(view.details.tags),
        num_download=view.entry.downloads,
        url="",
        path=path,
        internal_path=path,
        created=date(view.created),
        updated=date(view.updated),
        domain_id=owner.domain_id if owner else context.caller.domain_id,
        priority=0,
    )


@router.patch(REPOSITORY, operation_id="UpdateRepo", status_code=201, dependencies=[Depends(require_json)])
async def update(namespace: str, repository: str, body: UpdateRepoBody, context: RequestContext) -> Response:
    """Update a repository's metadata.

    Changing `is_public` requires the permission to manage the repository. A repository created by a push gets a record.
    """
    name = RepositoryName.from_path(namespace, repository)
    await context.services.repository_inventory.update(context.caller, context.region, name, body.metadata)
    return JSONResponse({}, status_code=201)


@router.delete(REPOSITORY, operation_id="DeleteRepo", status_code=204)
async def delete(namespace: str, repository: str, context: RequestContext) -> Response:
    """Delete a repository with all its images. If the registry refuses, the record remains, too."""
    name = RepositoryName.from_path(namespace, repository)
    await context.services.repository_inventory.delete(context.caller, context.region, name)
    return Response(status_code=204)
