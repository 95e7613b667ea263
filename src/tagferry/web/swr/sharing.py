"""Sharing repositories with other domains (SWR: access-domains)."""

from datetime import datetime
from typing import Any, Self

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from tagferry.accounts.shares import Share
from tagferry.errors import Invalid, NotFound
from tagferry.inventory.sharing import FOREVER, parse_deadline
from tagferry.names import RepositoryName
from tagferry.web.bodies import require_json
from tagferry.web.formats import date
from tagferry.web.json_response import JSONResponse
from tagferry.web.response_models import ResponseModel
from tagferry.web.swr.context import RequestContext
from tagferry.web.swr.paths import ORGANIZATIONS
from tagferry.web.text import StoredText

router = APIRouter(tags=["sharing"])
_DOMAINS = f"{ORGANIZATIONS}/{{namespace}}/repositories/{{repository:path}}/access-domains"
_DOMAIN = f"{_DOMAINS}/{{access_domain}}"


class UpdateRepoDomainsBody(BaseModel):
    """The body of UpdateRepoDomains."""

    model_config = ConfigDict(strict=True)

    permit: str = Field(description="Must be `read`.")
    deadline: str = Field(description="`forever`, or the last day of the share as an ISO 8601 date or date and time.")
    description: StoredText | None = None

    def parse_deadline(self) -> datetime | None:
        """Return the deadline, None for `forever`; raises Invalid for a wrong deadline or permission."""
        if self.permit != "read":
            raise Invalid("permit", "must be read", self.permit)
        return parse_deadline(self.deadline)


class CreateRepoDomainsBody(UpdateRepoDomainsBody):
    """The body of CreateRepoDomains."""

    access_domain: StoredText = Field(description="The domain to share with.")


class SharedDomain(ResponseModel):
    """A domain that a repository is or was shared with."""

    namespace: str
    repository: str
    access_domain: str
    permit: str
    deadline: str
    description: str
    creator_id: str
    creator_name: str
    created: str
    updated: str
    status: bool = Field(description="True while the share is valid.")

    @classmethod
    def of(cls, name: RepositoryName, share: Share, **more: Any) -> Self:
        """Return a share of this repository, with `more` fields."""
        return cls(
            namespace=name.namespace,
            repository=name.repository,
            access_domain=share.domain_name,
            permit="read",
            deadline=date(share.deadline) if share.deadline else FOREVER,
            description=share.description,
            creator_id=share.creator_id,
            creator_name=share.creator_name,
            created=date(share.created_at),
            updated=date(share.updated_at),
            status=not share.is_expired,
            **more,
        )


class ShownDomain(SharedDomain):
    """The response of ShowAccessDomain."""

    exist: bool


@router.post(_DOMAINS, operation_id="CreateRepoDomains", status_code=201, dependencies=[Depends(require_json)])
async def create(namespace: str, repository: str, body: CreateRepoDomainsBody, context: RequestContext) -> Response:
    """Share a repository with a domain, whose users can then read it."""
    deadline = body.parse_deadline()
    await context.services.sharing.create(
        context.caller,
        context.region,
        RepositoryName.from_path(namespace, repository),
        body.access_domain,
        deadline=deadline,
        description=body.description or "",
    )
    return JSONResponse({}, status_code=201)


@router.get(_DOMAINS, operation_id="ListRepoDomains")
async def list_all(namespace: str, repository: str, context: RequestContext) -> list[SharedDomain]:
    """List the domains that a repository is or was shared with. Guests see only their own."""
    name = RepositoryName.from_path(namespace, repository)
    return [
        SharedDomain.of(name, share)
        for share in await context.services.sharing.visible(context.caller, context.region, name)
    ]


@router.get(_DOMAIN, operation_id="ShowAccessDomain")
async def show(namespace: str, repository: str, access_domain: StoredText, context: RequestContext) -> ShownDomain:
    """Show the share of a repository with a domain."""
    name = RepositoryName.from_path(namespace, repository)
    for share in await context.services.sharing.visible(context.caller, context.region, name):
        if share.domain_name == access_domain:
            return ShownDomain.of(name, share, exist=True)
    raise NotFound("share", "", where=f'of "{name}" with "{access_domain}"')


@router.patch(_DOMAIN, operation_id="UpdateRepoDomains", status_code=201, dependencies=[Depends(require_json)])
async def update(
    namespace: str, repository: str, access_domain: StoredText, body: UpdateRepoDomainsBody, context: RequestContext
) -> Response:
    """Update the deadline or the description of a share."""
    deadline = body.parse_deadline()
    name = RepositoryName.from_path(namespace, repository)
    await context.services.sharing.update(
        context.caller, context.region, name, access_domain, deadline=deadline, description=body.description
    )
    return JSONResponse({}, status_code=201)


@router.delete(_DOMAIN, operation_id="DeleteRepoDomains", status_code=204)
async def delete(namespace: str, repository: str, access_domain: StoredText, context: RequestContext) -> Response:
    """Stop sharing a repository with a domain."""
    name = RepositoryName.from_path(namespace, repository)
    await context.services.sharing.delete(context.caller, context.region, name, access_domain)
    return Response(status_code=204)
