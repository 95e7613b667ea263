"""Repositories: create, show, update and delete."""

from dataclasses import replace

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from tagferry.accounts.access import Access
from tagferry.accounts.model import Permission
from tagferry.accounts.repositories import RepositoryMetadata, repository_conflict
from tagferry.catalog import has_tags
from tagferry.errors import NotFound
from tagferry.names import Namespace, Repository, RepositoryName
from tagferry.quotas import count_exceeded
from tagferry.registry.storage.store import DiskStore
from tagferry.web.bodies import require_json
from tagferry.web.formats import date, number
from tagferry.web.json_response import JSONResponse
from tagferry.web.response_models import ResponseModel
from tagferry.web.swr.context import RequestContext, SwrContext
from tagferry.web.swr.paths import REPOSITORIES, REPOSITORY
from tagferry.web.swr.repository_views import find

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
    metadata = body.metadata
    await _require(context, name, Permission.MANAGE if metadata.is_public else Permission.EDIT)
    if await has_tags(context.region.store, name):
        raise repository_conflict(context.region.id, name)
    await _require_room(context, name)
    await context.services.repositories.create(context.caller, context.region.id, name, metadata)
    return JSONResponse({}, status_code=201)


@router.get(REPOSITORY, operation_id="ShowRepository")
async def show(namespace: str, repository: str, context: RequestContext) -> RepositoryShown:
    """Show a repository."""
    name = RepositoryName.from_path(namespace, repository)
    owner = (await _require(context, name, Permission.READ)).owner
    view = await find(context, name)
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
    name, metadata = RepositoryName.from_path(namespace, repository), body.metadata
    access = await _require(context, name, Permission.EDIT)
    region, repositories = context.region.id, context.services.repositories
    record = await repositories.find(region, name)
    if metadata.is_public == (record is not None and record.is_public):
        # Leave the field unchanged, since a concurrent request may be changing it.
        metadata = replace(metadata, is_public=None)
    elif access.permission < Permission.MANAGE:
        await _require(context, name, Permission.MANAGE)
    if record is None:
        found = await find(context, name)
        await repositories.find_or_create(context.caller, region, name, since=found.created)
    await repositories.update(region, name, metadata)
    return JSONResponse({}, status_code=201)


@router.delete(REPOSITORY, operation_id="DeleteRepo", status_code=204)
async def delete(namespace: str, repository: str, context: RequestContext) -> Response:
    """Delete a repository with all its images. If the registry refuses, the record remains, too."""
    name = RepositoryName.from_path(namespace, repository)
    await _require(context, name, Permission.MANAGE)
    region, store = context.region, context.region.store
    record = await context.services.repositories.find(region.id, name)
    try:
        tags = [tag async for tag in store.list_tags(name)]
        await store.delete_repository(name)
    except NotFound:
        if record is None:
            raise
    else:
        await context.services.watch.forget(region.id, name, *tags)
    await context.services.repositories.delete(region.id, name)
    await context.services.downloads.forget(region.id, name.namespace, name.repository)
    return Response(status_code=204)


async def _require_room(context: SwrContext, name: RepositoryName) -> None:
    """Raise QuotaExceeded if the organization has reached its quota of repositories."""
    quotas, region, namespace = context.services.quotas, context.region, name.namespace
    limit = (await quotas.limits(region.id, namespace)).repositories
    if limit is None:
        return
    names = await quotas.recorded(region.id, namespace)
    if isinstance(region.store, DiskStore):
        names |= (await region.store.quotas.usage(namespace)).repositories
    if name not in names and len(names) >= limit:
        raise count_exceeded(namespace, "repositories", len(names), limit)


async def _require(context: SwrContext, name: RepositoryName, permission: Permission) -> Access:
    return await context.services.access.require(context.caller, context.region.id, name, permission)
