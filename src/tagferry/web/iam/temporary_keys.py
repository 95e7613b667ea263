"""Temporary access keys, each with its security token."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BeforeValidator, Field

from tagferry.accounts.model import Caller
from tagferry.accounts.temporary import MIN_LIFETIME, parse_lifetime
from tagferry.errors import Invalid, Unauthenticated
from tagferry.web import audit
from tagferry.web.bodies import require_json
from tagferry.web.iam.context import IamContext, RequestContext
from tagferry.web.iam.model import Strict
from tagferry.web.items import Items
from tagferry.web.response_models import ResponseModel, Time

router = APIRouter()


def _number(value: Any) -> Any:
    """Convert digits to a number, since IAM's examples write the seconds as text."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value


class IdentityToken(Strict):
    """The token method's data. `id` is the token, unless a header has it."""

    id: str | None = None
    duration_seconds: Annotated[int, BeforeValidator(_number)] | None = None


class TokenIdentity(Strict):
    """The authentication methods and their data."""

    methods: Items[str]
    token: IdentityToken | None = None
    policy: dict[str, Any] | None = None


class TokenAuth(Strict):
    """The `auth` object."""

    identity: TokenIdentity


class TemporaryKeyBody(Strict):
    """The body of CreateTemporaryAccessKeyByToken."""

    auth: TokenAuth


class TemporaryCredential(ResponseModel):
    """A temporary access key and its security token."""

    access: str = Field(validation_alias="access_key")
    secret: str = Field(validation_alias="secret_key")
    securitytoken: str = Field(validation_alias="security_token")
    expires_at: Time


class CreatedTemporaryCredential(ResponseModel):
    """The response of CreateTemporaryAccessKeyByToken."""

    credential: TemporaryCredential


@router.post(
    "/v3.0/OS-CREDENTIAL/securitytokens",
    operation_id="CreateTemporaryAccessKeyByToken",
    status_code=201,
    dependencies=[Depends(require_json)],
)
async def create_temporary_key(body: TemporaryKeyBody, context: RequestContext) -> CreatedTemporaryCredential:
    """Create a temporary access key and its security token."""
    identity = body.auth.identity
    if identity.methods != ["token"]:
        raise Invalid("auth.identity.methods", 'must be ["token"], the only supported method', identity.methods)
    if identity.policy is not None:
        raise Invalid("auth.identity.policy", "is not supported; a temporary access key has its user's permissions")
    seconds = identity.token.duration_seconds if identity.token is not None else None
    lifetime: timedelta = (
        MIN_LIFETIME if seconds is None else parse_lifetime("auth.identity.token.duration_seconds", seconds)
    )
    caller = await _caller(identity, context)
    made = await context.services.temporary.create_key(caller, lifetime)
    return CreatedTemporaryCredential(credential=TemporaryCredential.model_validate(made))


async def _caller(identity: TokenIdentity, context: IamContext) -> Caller:
    """Return the caller that the headers authenticate, else the owner of the token in the body."""
    if context.optional_caller is not None:
        return context.optional_caller
    if identity.token is None or not identity.token.id:
        raise Unauthenticated("missing credentials; sign the request with AK/SK, or send an X-Auth-Token or a token")
    caller = await context.services.authenticator.by_token(identity.token.id)
    audit.bind_caller(caller.name, caller.credential.access_key)
    return caller
