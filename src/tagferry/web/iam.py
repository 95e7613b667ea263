"""The part of IAM that SWR's clients need: tokens, projects and domains.

A region's project carries the region's id as its name, and exists for every user of the domain.
"""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict

from tagferry.accounts.model import Caller
from tagferry.errors import Invalid, MissingField, NotFound, Unauthenticated
from tagferry.names import RegionId
from tagferry.web.authentication import client_address
from tagferry.web.context import Context, RequestContext
from tagferry.web.swr.formats import date
from tagferry.web.swr.synchronization import require_json

router = APIRouter(tags=["IAM"])


def _utf8(text: str) -> str:
    """JSON can name half a character (a lone surrogate), which no text holds."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must be text that UTF-8 can hold")
    return text


_Text = Annotated[str, AfterValidator(_utf8)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class DomainName(_Strict):
    """A domain by its name or id."""

    name: str | None = None
    id: str | None = None


class PasswordUser(_Strict):
    """A user who proves who it is by its password."""

    name: _Text
    password: _Text
    domain: DomainName | None = None


class PasswordMethod(_Strict):
    """The password method's data."""

    user: PasswordUser


class Identity(_Strict):
    """How the user is identified."""

    methods: list[str]
    password: PasswordMethod | None = None


class ProjectName(_Strict):
    """A project by its name or id."""

    name: str | None = None
    id: str | None = None


class Scope(_Strict):
    """What the token is for."""

    project: ProjectName | None = None
    domain: DomainName | None = None


class Auth(_Strict):
    """The `auth` object."""

    identity: Identity
    scope: Scope | None = None


class TokenBody(_Strict):
    """The body of POST /v3/auth/tokens."""

    auth: Auth


@router.post(
    "/v3/auth/tokens",
    operation_id="KeystoneCreateUserTokenByPassword",
    status_code=201,
    dependencies=[Depends(require_json)],
)
async def create_token(body: TokenBody, context: RequestContext) -> Response:
    """Get a token by a user's password; it comes in the header `X-Subject-Token`."""
    identity = body.auth.identity
    if identity.methods != ["password"]:
        raise Invalid("auth.identity.methods", 'must be ["password"], the one method supported', identity.methods)
    if identity.password is None:
        raise MissingField("auth.identity.password")
    user = identity.password.user
    caller = await context.services.authenticator.by_password(
        user.name, user.password, address=client_address(context.request.scope)
    )
    if user.domain is not None and not _is_domain(user.domain, caller):
        raise Unauthenticated("the user name, the domain or the password is wrong")
    scoped = _scope(body.auth.scope, caller, context)
    token = await context.services.tokens.issue(caller)
    document = {
        "token": {
            "expires_at": date(token.expires_at),
            "issued_at": date(token.issued_at),
            "methods": ["password"],
            "user": {
                "id": caller.user_id,
                "name": caller.name,
                "domain": _domain(caller),
                "password_expires_at": "",
            },
            **scoped,
            "roles": [{"id": "0", "name": "te_admin" if caller.is_admin else "te_user"}],
            "catalog": [],
        }
    }
    return JSONResponse(document, status_code=201, headers={"X-Subject-Token": token.value})


@router.get("/v3/projects", operation_id="KeystoneListProjects")
async def list_projects(context: RequestContext, name: str | None = None) -> dict[str, Any]:
    """List the projects, one a region; `name` picks one."""
    regions = [region.id for region in context.services.regions if name in (None, "", region.id)]
    projects = [_project(region, context.caller) for region in regions]
    return {"links": {"next": None, "previous": None, "self": ""}, "projects": projects}


@router.get("/v3/auth/domains", operation_id="KeystoneListAuthDomains")
async def list_domains(context: RequestContext) -> dict[str, Any]:
    """List the domains that the caller may act in: its own."""
    domain = {**_domain(context.caller), "enabled": True, "description": "", "links": {"self": ""}}
    return {"links": {"next": None, "previous": None, "self": ""}, "domains": [domain]}


def project_id(region: RegionId, caller: Caller) -> str:
    """The id of a region's project: stable, and different for every domain."""
    return hashlib.sha256(f"{caller.domain_id}\0{region}".encode()).hexdigest()[:32]


def _project(region: RegionId, caller: Caller) -> dict[str, Any]:
    return {
        "id": project_id(region, caller),
        "name": region,
        "domain_id": caller.domain_id,
        "parent_id": caller.domain_id,
        "is_domain": False,
        "enabled": True,
        "description": "",
        "links": {"self": ""},
    }


def _domain(caller: Caller) -> dict[str, str]:
    return {"id": caller.domain_id, "name": caller.domain_name}


def _is_domain(wanted: DomainName, caller: Caller) -> bool:
    return wanted.name in (None, caller.domain_name) and wanted.id in (None, caller.domain_id)


def _scope(scope: Scope | None, caller: Caller, context: Context) -> dict[str, Any]:
    """The token's project or domain; raises NotFound where there is none of that name or id."""
    if scope is None or (scope.project is None and scope.domain is None):
        return {"domain": _domain(caller)}
    if scope.project is None:
        if scope.domain is None or not _is_domain(scope.domain, caller):
            raise NotFound("domain", str(scope.domain and (scope.domain.name or scope.domain.id)))
        return {"domain": _domain(caller)}
    for region in context.services.regions:
        project = {"id": project_id(region.id, caller), "name": region.id, "domain": _domain(caller)}
        if scope.project.name in (None, region.id) and scope.project.id in (None, project["id"]):
            return {"project": project}
    raise NotFound("project", str(scope.project.name or scope.project.id), "its name is a region's id")
