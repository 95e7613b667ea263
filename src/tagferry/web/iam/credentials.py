"""Access keys: temporary ones with a security token, and the caller's own permanent ones."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from pydantic import BeforeValidator

from tagferry.accounts.model import Caller, KeyRecord
from tagferry.accounts.temporary import SHORTEST, lifetime_of
from tagferry.errors import Denied, Invalid, NotFound, Unauthenticated
from tagferry.web import audit
from tagferry.web.context import Context, RequestContext
from tagferry.web.iam.model import Strict, Text
from tagferry.web.swr.formats import date
from tagferry.web.swr.synchronization import require_json

router = APIRouter()
_CREDENTIALS = "/v3.0/OS-CREDENTIAL/credentials"
_KEYS_OF_A_USER = 20


def _number(value: Any) -> Any:
    """IAM's own examples write the seconds as text."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value


class IdentityToken(Strict):
    """The token method's data; `id` is the token, where it is not in a header."""

    id: str | None = None
    duration_seconds: Annotated[int, BeforeValidator(_number)] | None = None


class TokenIdentity(Strict):
    """How the user is identified."""

    methods: list[str]
    token: IdentityToken | None = None
    policy: dict[str, Any] | None = None


class TokenAuth(Strict):
    """The `auth` object."""

    identity: TokenIdentity


class TemporaryKeyBody(Strict):
    """The body of CreateTemporaryAccessKeyByToken."""

    auth: TokenAuth


class CreateCredential(Strict):
    """Whose key it is to be, and what it is for."""

    user_id: str
    description: Text = ""


class CredentialBody(Strict):
    """The body of CreatePermanentAccessKey."""

    credential: CreateCredential


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
    lifetime: timedelta = SHORTEST if seconds is None else lifetime_of("auth.identity.token.duration_seconds", seconds)
    caller = await _caller(identity, context)
    made = await context.services.temporary.create_key(caller, lifetime)
    document = {
        "access": made.access_key,
        "secret": made.secret_key,
        "securitytoken": made.security_token,
        "expires_at": date(made.expires_at),
    }
    return JSONResponse({"credential": document}, status_code=201)


@router.post(
    _CREDENTIALS, operation_id="CreatePermanentAccessKey", status_code=201, dependencies=[Depends(require_json)]
)
async def create_key(body: CredentialBody, context: RequestContext) -> Response:
    """Make an access key for the caller; its secret is shown this once."""
    wanted = body.credential
    _require_own(wanted.user_id, context.caller)
    _require_lasting(context.caller)
    keys, user_id = context.services.keys, context.caller.user_id
    made = await keys.create(user_id, description=wanted.description, limit=_KEYS_OF_A_USER)
    (record,) = [key for key in await keys.list_of(user_id) if key.access_key == made.access_key]
    document = _document(record, context.caller) | {"secret": made.secret_key}
    return JSONResponse({"credential": document}, status_code=201)


@router.get(_CREDENTIALS, operation_id="ListPermanentAccessKeys")
async def list_keys(context: RequestContext, user_id: str = "") -> dict[str, Any]:
    """List the caller's access keys, without their secrets."""
    if user_id:
        _require_own(user_id, context.caller)
    keys = await context.services.keys.list_of(context.caller.user_id)
    return {"credentials": [_document(key, context.caller) for key in keys]}


@router.delete(f"{_CREDENTIALS}/{{access_key}}", operation_id="DeletePermanentAccessKey", status_code=204)
async def delete_key(access_key: str, context: RequestContext) -> Response:
    """Delete one of the caller's access keys, and all that goes back to it."""
    _require_lasting(context.caller)
    key = await context.services.keys.show(access_key)
    if key.user_id != context.caller.user_id:
        raise NotFound("access key", access_key)
    await context.services.keys.delete(access_key)
    return Response(status_code=204)


async def _caller(identity: TokenIdentity, context: Context) -> Caller:
    """Whoever a header tells, and otherwise whoever the token in the body is of."""
    known: Caller | None = getattr(context.request.state, "caller", None)
    if known is not None:
        return known
    if identity.token is None or not identity.token.id:
        raise Unauthenticated("the request has neither a signature (Authorization), nor an X-Auth-Token, nor a token")
    caller = await context.services.authenticator.by_token(identity.token.id)
    audit.known_as(caller.name)
    return caller


def _require_own(user_id: str, caller: Caller) -> None:
    if user_id != caller.user_id:
        raise Denied("the API has a user's own access keys only; administrators have others' by: tagferry key")


def _require_lasting(caller: Caller) -> None:
    if caller.proof.is_temporary_key:
        raise Denied("a temporary access key neither makes nor deletes permanent ones; sign with one of those")


def _document(key: KeyRecord, owner: Caller) -> dict[str, Any]:
    return {
        "access": key.access_key,
        "user_id": owner.user_id,
        "description": key.description,
        "status": "active",
        "create_time": date(key.created_at),
    }
