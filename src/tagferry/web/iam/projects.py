"""Projects and domains.

Each region has a project, whose name is the region's id. It exists in every domain, for all of its users.
"""

import hashlib
from typing import Self

from fastapi import APIRouter
from pydantic import Field

from tagferry.accounts.authorization import require_own
from tagferry.accounts.model import Caller
from tagferry.errors import NotFound
from tagferry.names import RegionId
from tagferry.web.iam.context import IamContext, RequestContext
from tagferry.web.iam.model import Links, SelfLink
from tagferry.web.response_models import ResponseModel

router = APIRouter()


class DomainName(ResponseModel):
    """A domain, in other resources."""

    id: str = Field(validation_alias="domain_id")
    name: str = Field(validation_alias="domain_name")


class Domain(DomainName):
    """A domain."""

    enabled: bool = True
    description: str = ""
    links: SelfLink = SelfLink()


class ShownIamDomain(ResponseModel):
    """The response of KeystoneShowDomain."""

    domain: Domain


class DomainList(ResponseModel):
    """A list of domains."""

    links: Links = Links()
    domains: list[Domain]


class Project(ResponseModel):
    """A project."""

    id: str
    name: str
    domain_id: str
    parent_id: str
    is_domain: bool = False
    enabled: bool = True
    description: str = ""
    links: SelfLink = SelfLink()

    @classmethod
    def of(cls, region: RegionId, domain_id: str) -> Self:
        """Return the project of a region in a domain."""
        return cls(id=_id(region, domain_id), name=region, domain_id=domain_id, parent_id=domain_id)


class ShownProject(ResponseModel):
    """The response of KeystoneShowProject."""

    project: Project


class ProjectList(ResponseModel):
    """A list of projects."""

    links: Links = Links()
    projects: list[Project]


@router.get("/v3/projects", operation_id="KeystoneListProjects")
async def list_projects(
    context: RequestContext, name: str | None = None, domain_id: str | None = None, enabled: bool | None = None
) -> ProjectList:
    """List the projects, one for each region, optionally filtered by name. All projects are enabled."""
    mine = domain_id in (None, "", context.caller.domain_id) and enabled is not False
    regions = [region for region in _regions(context) if mine and name in (None, "", region)]
    return ProjectList(projects=[Project.of(region, context.caller.domain_id) for region in regions])


@router.get("/v3/auth/projects", operation_id="KeystoneListAuthProjects")
async def list_auth_projects(context: RequestContext) -> ProjectList:
    """List the projects that the caller can use: all of its domain."""
    return await list_projects(context)


@router.get("/v3/users/{user_id}/projects", operation_id="KeystoneListProjectsForUser")
async def list_projects_of_user(user_id: str, context: RequestContext) -> ProjectList:
    """List the projects that a user can use: all of its domain."""
    require_own(user_id, context.caller)
    user = await context.services.users.show(user_id)
    return ProjectList(projects=[Project.of(region, user.domain_id) for region in _regions(context)])


@router.get("/v3/projects/{project_id}", operation_id="KeystoneShowProject")
async def show_project(project_id: str, context: RequestContext) -> ShownProject:
    """Show a project of the caller's domain."""
    region = find_project(context, project_id=project_id)
    return ShownProject(project=Project.of(region, context.caller.domain_id))


@router.get("/v3/auth/domains", operation_id="KeystoneListAuthDomains")
async def list_domains(context: RequestContext) -> DomainList:
    """List the domains that the caller can use: its own."""
    return DomainList(domains=[Domain.model_validate(context.caller)])


@router.get("/v3/domains", operation_id="KeystoneListDomains")
async def list_all_domains(context: RequestContext, name: str = "", enabled: bool | None = None) -> DomainList:
    """List all domains for administrators, else the caller's own. All domains are enabled."""
    visible = await _visible_domains(context)
    return DomainList(domains=[one for one in visible if name in ("", one.name) and enabled is not False])


@router.get("/v3/domains/{domain_id}", operation_id="KeystoneShowDomain")
async def show_domain(domain_id: str, context: RequestContext) -> ShownIamDomain:
    """Show a domain: any for administrators, else the caller's own."""
    for one in await _visible_domains(context):
        if one.id == domain_id:
            return ShownIamDomain(domain=one)
    raise NotFound("domain", domain_id, "list them by GET /v3/domains")


async def _visible_domains(context: IamContext) -> list[Domain]:
    if not context.caller.is_admin:
        return [Domain.model_validate(context.caller)]
    return [Domain(id=one.domain_id, name=one.name) for one in await context.services.users.domains()]


def find_project(
    context: IamContext, *, name: str | None = None, project_id: str | None = None, caller: Caller | None = None
) -> RegionId:
    """Return the region of the project with this name and id, either of which may be missing; raises NotFound."""
    caller = caller or context.caller
    for region in _regions(context):
        if name in (None, "", region) and project_id in (None, "", id_of_project(region, caller)):
            return region
    raise NotFound("project", name or project_id or "", "its name is a region's id")


def id_of_project(region: RegionId, caller: Caller) -> str:
    """Return the id of a region's project, which is stable and different in each domain."""
    return _id(region, caller.domain_id)


def _id(region: RegionId, domain_id: str) -> str:
    return hashlib.sha256(f"{domain_id}\0{region}".encode()).hexdigest()[:32]


def _regions(context: IamContext) -> list[RegionId]:
    return [region.id for region in context.services.regions]
