"""Tokens: issue, validate and revoke.

Source: IAM API reference, "Token management"; Keystone's API reference, "Authentication and token management".
"""

from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Depends, Header, Response
from pydantic import BeforeValidator, Field

from tagferry.accounts.authorization import require_own
from tagferry.accounts.model import Caller, TokenRecord
from tagferry.errors import Invalid, MissingField, NotFound
from tagferry.names import RegionId
from tagferry.web import audit
from tagferry.web.bodies import require_json
from tagferry.web.iam.catalog import CatalogService, catalog
from tagferry.web.iam.context import IamContext, RequestContext
from tagferry.web.iam.identity import Identity, NameOrId, identify, is_domain
from tagferry.web.iam.model import Strict
from tagferry.web.iam.projects import DomainName, find_project, id_of_project
from tagferry.web.response_models import ResponseModel, Time

router = APIRouter()
_TOKENS = "/v3/auth/tokens"
_UNSCOPED = "unscoped"


class ProjectScope(NameOrId):
    """A project and its domain."""

    domain: NameOrId | None = None


class Scope(Strict):
    """The scope of the token: a project, the domain, or none."""

    project: ProjectScope | None = None
    domain: NameOrId | None = None
    unscoped: dict[str, Any] | None = None
    system: Any = None
    trust: Any = Field(None, alias="OS-TRUST:trust")


def _as_object(scope: Any) -> Any:
    return {_UNSCOPED: {}} if scope == _UNSCOPED else scope


AnyScope = Annotated[
    Scope | None, BeforeValidator(_as_object, json_schema_input_type=Scope | Literal["unscoped"] | None)
]


class Auth(Strict):
    """The `auth` object."""

    identity: Identity
    scope: AnyScope = None


class TokenBody(Strict):
    """The body of POST /v3/auth/tokens."""

    auth: Auth


class TokenUser(ResponseModel):
    """The user that a token belongs to."""

    id: str
    name: str
    domain: DomainName
    password_expires_at: str = ""


class TokenProject(ResponseModel):
    """The project that a token is for."""

    id: str
    name: str
    domain: DomainName


class Role(ResponseModel):
    """The role of a token's user."""

    id: str = "0"
    name: str


class Token(ResponseModel):
    """A token. One without a scope has neither a domain nor a project, roles and a catalog."""

    expires_at: Time
    issued_at: Time
    methods: list[str]
    user: TokenUser
    domain: DomainName | None = None
    project: TokenProject | None = None
    roles: list[Role] | None = None
    catalog: list[CatalogService] | None = None

    @classmethod
    def of(cls, record: TokenRecord, context: IamContext, *, with_catalog: bool) -> Self:
        """Return a token as IAM shows it."""
        owner = record.owner
        domain = DomainName.model_validate(owner)
        token = cls(
            expires_at=record.expires_at,
            issued_at=record.issued_at,
            methods=list(record.methods),
            user=TokenUser(id=owner.user_id, name=owner.name, domain=domain),
        )
        if record.is_scoped:
            if record.project is None:
                token.domain = domain
            else:
                project_id = id_of_project(record.project, owner)
                token.project = TokenProject(id=project_id, name=record.project, domain=domain)
            token.roles = [Role(name="te_admin" if owner.is_admin else "te_user")]
            token.catalog = catalog(context) if with_catalog else None
        return token


class ShownToken(ResponseModel):
    """The response of KeystoneCreateUserTokenByPassword and KeystoneValidateToken."""

    token: Token


SubjectToken = Annotated[str, Header(alias="X-Subject-Token")]
NoCatalog = Annotated[str | None, Field(description="Omit the catalog, whatever the value is.")]


@router.post(
    _TOKENS,
    operation_id="KeystoneCreateUserTokenByPassword",
    status_code=201,
    response_model_exclude_none=True,
    dependencies=[Depends(require_json)],
)
async def create_token(body: TokenBody, context: RequestContext, nocatalog: NoCatalog = None) -> ShownToken:
    """Issue a token for a password, an access key or another token. The header `X-Subject-Token` has the token."""
    methods, caller = await identify(body.auth.identity, context)
    audit.bind_caller(caller.name, caller.credential.access_key)
    is_scoped, project = _scope(body.auth.scope, caller, context)
    token = await context.services.tokens.issue(caller, methods=methods, project=project, is_scoped=is_scoped)
    context.response.headers["X-Subject-Token"] = token.value
    return ShownToken(token=Token.of(token.record, context, with_catalog=nocatalog is None))


@router.get(_TOKENS, operation_id="KeystoneValidateToken", response_model_exclude_none=True)
async def validate_token(
    context: RequestContext, x_subject_token: SubjectToken = "", nocatalog: NoCatalog = None
) -> ShownToken:
    """Show a token: any for administrators, else the caller's own."""
    found = await _find(x_subject_token, context)
    context.response.headers["X-Subject-Token"] = x_subject_token
    return ShownToken(token=Token.of(found, context, with_catalog=nocatalog is None))


@router.head(_TOKENS, operation_id="KeystoneCheckToken", response_class=Response)
async def check_token(context: RequestContext, x_subject_token: SubjectToken = "") -> Response:
    """Check whether a token is valid. Returns 200 if so, else 404."""
    await _find(x_subject_token, context)
    return Response(headers={"X-Subject-Token": x_subject_token})


@router.delete(_TOKENS, operation_id="KeystoneRevokeToken", status_code=204)
async def revoke_token(context: RequestContext, x_subject_token: SubjectToken = "") -> Response:
    """Revoke a token and all tokens issued for it: any for administrators, else the caller's own."""
    found = await _find(x_subject_token, context, even_disabled=True)
    await context.services.tokens.revoke(found)
    return Response(status_code=204)


async def _find(value: str, context: IamContext, *, even_disabled: bool = False) -> TokenRecord:
    """Return the record of a token: any for administrators, else the caller's own."""
    if not value:
        raise MissingField("X-Subject-Token")
    found = await context.services.tokens.find(value, even_disabled=even_disabled)
    if found is None:
        raise NotFound("token", "", "it is unknown, expired or revoked", where="in X-Subject-Token")
    audit.bind_subject(user=found.owner.name)
    require_own(found.owner.user_id, context.caller)
    return found


def _scope(scope: Scope | None, caller: Caller, context: IamContext) -> tuple[bool, RegionId | None]:
    """Return whether the token has a scope, and the region of its project; None for the domain.

    Raises:
        NotFound: the caller has another domain, or its domain has no such project.
        Invalid: the kind of scope is not supported.
    """
    if scope is None:
        return True, None
    if scope.system is not None or scope.trust is not None:
        raise Invalid("auth.scope", 'must be a project, a domain or "unscoped"; other scopes are not supported')
    if scope.project is not None:
        if not (scope.project.name or scope.project.id):
            raise MissingField("auth.scope.project.name")
        _require_domain(scope.project.domain, caller)
        return True, find_project(context, name=scope.project.name, project_id=scope.project.id, caller=caller)
    _require_domain(scope.domain, caller)
    return scope.domain is not None or scope.unscoped is None, None


def _require_domain(domain: NameOrId | None, caller: Caller) -> None:
    if domain is not None and not is_domain(domain, caller):
        raise NotFound("domain", domain.name or domain.id or "", f'the user\'s is "{caller.domain_name}"')
