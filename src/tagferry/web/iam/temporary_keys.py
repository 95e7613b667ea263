"""Temporary access keys, with the security token that each of them needs."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import BeforeValidator

from tagferry.accounts.model import Caller
from tagferry.accounts.temporary import MIN_LIFETIME, parse_lifetime
from tagferry.errors import Invalid, Unauthenticated
from tagferry.web import audit
from tagferry.web.bodies import require_json
from tagferry.web.context import Context, RequestContext
from tagferry.web.formats import date
from tagferry.web.iam.model import Strict
from tagferry.web.items import Items
from tagferry.web.json_response import JSONResponse

router = APIRouter()


def _number(value: Any) -> Any:
    """IAM's own examples write the seconds as text."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value


class IdentityToken(Strict):
    """The token method's data; `id` is the token, where it is not in a header."""

    id: str | None = None
    duration_seconds: Annotated[int, BeforeValidator(_number)] | None = None


class TokenIdentity(Strict):
    """How the user is identified."""

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
    """Get an access key that expires, with the security token that it needs."""
    identity = body.auth.identity
    if identity.methods != ["token"]:
        raise Invalid("auth.identity.methods", 'must be ["token"], the one method supported', identity.methods)
    if identity.policy is not None:
        raise Invalid("auth.identity.policy", "must be left out; a temporary access key may do what its user may")
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


async def _caller(identity: TokenIdentity, context: Context) -> Caller:
    """Whoever a header tells, and otherwise whoever the token in the body is of."""
    if context.optional_caller is not None:
        return context.optional_caller
    if identity.token is None or not identity.token.id:
        raise Unauthenticated("the request has neither a signature (Authorization), nor an X-Auth-Token, nor a token")
    caller = await context.services.authenticator.by_token(identity.token.id)
    audit.bind_caller(caller.name)
    return caller
