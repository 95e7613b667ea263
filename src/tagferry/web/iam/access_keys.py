"""Permanent access keys: create, show, disable and delete. A secret is shown only once."""

from typing import Any, Literal, Self

from fastapi import APIRouter, Depends, Response

from tagferry.accounts.authorization import require_permanent_key
from tagferry.accounts.model import KeyRecord
from tagferry.web import audit
from tagferry.web.bodies import require_json
from tagferry.web.iam.context import IamContext, RequestContext
from tagferry.web.iam.model import Strict
from tagferry.web.response_models import OptionalTime, ResponseModel, Time
from tagferry.web.text import Text

router = APIRouter()
_KEYS = "/v3.0/OS-CREDENTIAL/credentials"


class CreateCredential(Strict):
    """The user and the purpose of the new key."""

    user_id: Text
    description: Text | None = None


class CreateCredentialBody(Strict):
    """The body of CreatePermanentAccessKey."""

    credential: CreateCredential


class UpdateCredential(Strict):
    """The changes; omitted fields keep their values."""

    status: Literal["active", "inactive"] | None = None
    description: Text | None = None


class UpdateCredentialBody(Strict):
    """The body of UpdatePermanentAccessKey."""

    credential: UpdateCredential


class Credential(ResponseModel):
    """A permanent access key, without its secret."""

    access: str
    user_id: str
    description: str
    status: str
    create_time: Time

    @classmethod
    def of(cls, key: KeyRecord, **more: Any) -> Self:
        """Return a key as IAM shows it.

        Args:
            key: the key.
            more: the fields that a subclass has in addition.
        """
        return cls(
            access=key.access_key,
            user_id=key.user_id,
            description=key.description,
            status="active" if key.enabled else "inactive",
            create_time=key.created_at,
            **more,
        )


class NewCredential(Credential):
    """A new permanent access key, with its secret."""

    secret: str


class UsedCredential(Credential):
    """A permanent access key, with the time of its last use."""

    last_use_time: OptionalTime


class CreatedCredential(ResponseModel):
    """The response of CreatePermanentAccessKey."""

    credential: NewCredential


class CredentialList(ResponseModel):
    """The response of ListPermanentAccessKeys."""

    credentials: list[Credential]


class ShownCredential(ResponseModel):
    """The response of ShowPermanentAccessKey."""

    credential: UsedCredential


class UpdatedCredential(ResponseModel):
    """The response of UpdatePermanentAccessKey."""

    credential: Credential


@router.post(_KEYS, operation_id="CreatePermanentAccessKey", status_code=201, dependencies=[Depends(require_json)])
async def create_key(body: CreateCredentialBody, context: RequestContext) -> CreatedCredential:
    """Create an access key for a user. Its secret is shown only in this response."""
    wanted, accounts = body.credential, context.services.accounts
    user = await accounts.owner_of_new_key(context.caller, wanted.user_id)
    audit.bind_subject(user=user.name)
    made = await accounts.create_key(context.caller, user.user_id, description=wanted.description or "")
    audit.bind_subject(access_key=made.access_key)
    key = await accounts.key(context.caller, made.access_key)
    return CreatedCredential(credential=NewCredential.of(key, secret=made.secret_key))


@router.get(_KEYS, operation_id="ListPermanentAccessKeys")
async def list_keys(context: RequestContext, user_id: str = "") -> CredentialList:
    """List the access keys of a user, by default the caller."""
    keys = await context.services.accounts.keys_of(context.caller, user_id or context.caller.user_id)
    return CredentialList(credentials=[Credential.of(key) for key in keys])


@router.get(f"{_KEYS}/{{access_key}}", operation_id="ShowPermanentAccessKey")
async def show_key(access_key: str, context: RequestContext) -> ShownCredential:
    """Show an access key with the time of its last use, which is recorded within five minutes."""
    key = await _find(access_key, context)
    return ShownCredential(credential=UsedCredential.of(key, last_use_time=key.last_used_at))


@router.put(f"{_KEYS}/{{access_key}}", operation_id="UpdatePermanentAccessKey", dependencies=[Depends(require_json)])
async def update_key(access_key: str, body: UpdateCredentialBody, context: RequestContext) -> UpdatedCredential:
    """Disable or enable an access key, or change its description."""
    require_permanent_key(context.caller)
    key = await _find(access_key, context)
    accounts = context.services.accounts
    status, description = body.credential.status, body.credential.description
    enabled = status == "active" if status is not None else None
    changed = await accounts.update_key(context.caller, key.access_key, enabled=enabled, description=description)
    return UpdatedCredential(credential=Credential.of(changed))


@router.delete(f"{_KEYS}/{{access_key}}", operation_id="DeletePermanentAccessKey", status_code=204)
async def delete_key(access_key: str, context: RequestContext) -> Response:
    """Delete an access key, and all tokens and temporary credentials issued for it."""
    require_permanent_key(context.caller)
    key = await _find(access_key, context)
    await context.services.accounts.delete_key(context.caller, key.access_key)
    return Response(status_code=204)


async def _find(access_key: str, context: IamContext) -> KeyRecord:
    """Return the key; raises NotFound also if the caller may not see it."""
    key = await context.services.accounts.key(context.caller, access_key)
    owner = await context.services.users.show(key.user_id)
    audit.bind_subject(user=owner.name, access_key=key.access_key)
    return key
