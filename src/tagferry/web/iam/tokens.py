"""Tokens: got by password or by access key, and validated."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Response
from fastapi.responses import JSONResponse

from tagferry.accounts.model import Caller, TokenRecord
from tagferry.errors import Invalid, MissingField, NotFound, Unauthenticated
from tagferry.names import RegionId
from tagferry.web import audit
from tagferry.web.authentication import client_address
from tagferry.web.context import Context, RequestContext
from tagferry.web.iam.authorize import require_own
from tagferry.web.iam.model import Strict, Text
from tagferry.web.iam.projects import domain_of, find_project, id_of_project
from tagferry.web.swr.formats import date
from tagferry.web.swr.synchronization import require_json

router = APIRouter()
_BY_PASSWORD, _BY_KEY = "password", "hw_ak_sk"


class NameOrId(Strict):
    """A domain or a project; what is empty is taken for left out."""

    name: Text | None = None
    id: Text | None = None


class PasswordUser(Strict):
    """A user who proves who it is by its password."""

    name: Text
    password: Text
    domain: NameOrId | None = None


class PasswordMethod(Strict):
    """The password method's data."""

    user: PasswordUser


class Access(Strict):
    """An access key's id."""

    key: Text


class Secret(Strict):
    """An access key's secret."""

    key: Text


class KeyMethod(Strict):
    """The access key method's data."""

    access: Access
    secret: Secret


class Identity(Strict):
    """How the user is identified."""

    methods: list[str]
    password: PasswordMethod | None = None
    hw_ak_sk: KeyMethod | None = None


class Scope(Strict):
    """What the token is for."""

    project: NameOrId | None = None
    domain: NameOrId | None = None


class Auth(Strict):
    """The `auth` object."""

    identity: Identity
    scope: Scope | None = None


class TokenBody(Strict):
    """The body of POST /v3/auth/tokens."""

    auth: Auth


@router.post(
    "/v3/auth/tokens",
    operation_id="KeystoneCreateUserTokenByPassword",
    status_code=201,
    dependencies=[Depends(require_json)],
)
async def create_token(body: TokenBody, context: RequestContext) -> Response:
    """Get a token by a user's password or access key; it comes in the header `X-Subject-Token`."""
    method, caller = await _identify(body.auth.identity, context)
    audit.known_as(caller.name)
    project = _scope(body.auth.scope, caller, context)
    token = await context.services.tokens.issue(caller, method=method, project=project)
    return _answer(token.value, token.record, status=201)


@router.get("/v3/auth/tokens", operation_id="KeystoneValidateToken")
async def validate_token(
    context: RequestContext, x_subject_token: Annotated[str, Header()] = "", nocatalog: str = ""
) -> Response:
    """Tell what a token is good for: its owner's own, or for administrators any."""
    if not x_subject_token:
        raise MissingField("X-Subject-Token")
    found = await context.services.tokens.find(x_subject_token)
    if found is None:
        raise NotFound("token", "in X-Subject-Token", "it is unknown or has expired")
    require_own(found.owner.user_id, context.caller)
    return _answer(x_subject_token, found, with_catalog=not nocatalog)


async def _identify(identity: Identity, context: Context) -> tuple[str, Caller]:
    address = client_address(context.request.scope)
    authenticator = context.services.authenticator
    match identity.methods:
        case ["password"]:
            if identity.password is None:
                raise MissingField("auth.identity.password")
            user = identity.password.user
            caller = await authenticator.by_password(user.name, user.password, address=address)
            if user.domain is not None and not _is_domain(user.domain, caller):
                raise Unauthenticated("the user name, the domain or the password is wrong")
            return _BY_PASSWORD, caller
        case ["hw_ak_sk"]:
            if identity.hw_ak_sk is None:
                raise MissingField("auth.identity.hw_ak_sk")
            access_key, secret_key = identity.hw_ak_sk.access.key, identity.hw_ak_sk.secret.key
            return _BY_KEY, await authenticator.by_secret_key(access_key, secret_key, address=address)
        case _:
            raise Invalid("auth.identity.methods", 'must be ["password"] or ["hw_ak_sk"]', identity.methods)


def _answer(token: str, record: TokenRecord, *, status: int = 200, with_catalog: bool = True) -> Response:
    owner = record.owner
    document: dict[str, Any] = {
        "expires_at": date(record.expires_at),
        "issued_at": date(record.issued_at),
        "methods": [record.method],
        "user": {"id": owner.user_id, "name": owner.name, "domain": domain_of(owner), "password_expires_at": ""},
        **_scope_document(record.project, owner),
        "roles": [{"id": "0", "name": "te_admin" if owner.is_admin else "te_user"}],
    }
    if with_catalog:
        document["catalog"] = []
    return JSONResponse({"token": document}, status_code=status, headers={"X-Subject-Token": token})


def _scope_document(project: RegionId | None, owner: Caller) -> dict[str, Any]:
    if project is None:
        return {"domain": domain_of(owner)}
    return {"project": {"id": id_of_project(project, owner), "name": project, "domain": domain_of(owner)}}


def _is_domain(wanted: NameOrId, caller: Caller) -> bool:
    return wanted.name in (None, "", caller.domain_name) and wanted.id in (None, "", caller.domain_id)


def _scope(scope: Scope | None, caller: Caller, context: Context) -> RegionId | None:
    """The region whose project is asked for, or None for the domain; raises NotFound where there is none such."""
    if scope is not None and scope.project is not None:
        if not (scope.project.name or scope.project.id):
            raise MissingField("auth.scope.project.name")
        return find_project(context, name=scope.project.name, project_id=scope.project.id, caller=caller)
    if scope is not None and scope.domain is not None and not _is_domain(scope.domain, caller):
        raise NotFound("domain", repr(scope.domain.name or scope.domain.id))
    return None
