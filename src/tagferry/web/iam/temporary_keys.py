"""Temporary access keys, each with its security token."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import BeforeValidator

from tagferry.accounts.model import Caller
from tagferry.accounts.temporary import MIN_LIFETIME, parse_lifetime
from tagferry.errors import Invalid, Unauthenticated
from tagferry.web import audit
from tagferry.web.bodies import require_json
from tagferry.web.formats import date
from tagferry.web.iam.context import IamContext, RequestContext
from tagferry.web.iam.model import Strict
from tagferry.web.items import Items
from tagferry.web.json_response import JSONResponse

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


@router.post(
    "/v3.0/OS-CREDENTIAL/securitytokens",
    operation_id="CreateTemporaryAccessKeyByToken",
    status_code=201,
    dependencies=[Depends(require_json)],
)
async def create_temporary_key(body: TemporaryKeyBody, context: RequestContext) -> Response:
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
    document = {
        "access": made.access_key,
        "secret": made.secret_key,
        "securitytoken": made.security_token,
        "expires_at": date(made.expires_at),
    }
    return JSONResponse({"credential": document}, status_code=201)


async def _caller(identity: TokenIdentity, context: IamContext) -> Caller:
    """Return the caller that the headers authenticate, else the owner of the token in the body."""
    if context.optional_caller is not None:
        return context.optional_caller
    if identity.token is None or not identity.token.id:
        raise Unauthenticated("missing credentials; sign the request with AK/SK, or send an X-Auth-Token or a token")
    caller = await context.services.authenticator.by_token(identity.token.id)
    audit.bind_caller(caller.name, caller.credential.access_key)
    return caller
