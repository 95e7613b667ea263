"""The error responses of the management API and IAM: one table of codes, one serializer.

The codes are SWR's, the API gateway's and IAM's. Where SWR publishes none, tagferry uses one in the same scheme:

- 4030001: a quota is exceeded.
- 4040000: a permission, share, domain to share with, retention policy or trigger does not exist.
- 4090000: a permission, share, retention policy or trigger exists already.
- 4090048: a tag exists already.
- 4130014: the body is too large.
- 5010001: the operation is not supported.
- 5030000: the server is overloaded or not ready, a disk is full or read-only, or the database is unavailable.
- 5040021: a wait timed out.

SWR's 5000021 means that a registry failed or refused.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from math import ceil
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from starlette.types import Scope

from tagferry import bounds, errors
from tagferry.registry.api.asgi import mark_as_shed
from tagferry.web.json_response import JSONResponse


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """An HTTP status, with the error code for the body."""

    status: int
    code: str


class ErrorDetail(BaseModel):
    """One of the errors of a request, in the form that Terraform's provider reads."""

    model_config = ConfigDict(alias_generator=to_camel)

    error_code: str
    error_message: str
    detail: str


class ErrorBody(BaseModel):
    """The body of an error response. `error_code` and `error_msg` are those of the first error."""

    error_code: str
    error_msg: str
    request_id: str
    errors: list[ErrorDetail]


class KeystoneError(BaseModel):
    """An error in the form that OpenStack's clients read."""

    code: int
    title: str
    message: str


class IamErrorBody(ErrorBody):
    """The body of an error response of IAM. OpenStack's clients read `error`, the SDKs read the other fields."""

    error: KeystoneError


def _responses(body: type[ErrorBody]) -> dict[int | str, dict[str, Any]]:
    return {
        "4XX": {"model": body, "description": "The request is invalid, not authorized or in conflict"},
        "5XX": {"model": body, "description": "The server or a registry failed"},
    }


RESPONSES = _responses(ErrorBody)
"""The error responses of every operation, for the OpenAPI document."""
IAM_RESPONSES = _responses(IamErrorBody)
"""The error responses of IAM's operations."""

_SWR = "SVCSTG.SWR."

BAD_PARAMETER = ErrorCode(400, f"{_SWR}4000014")
MISSING_PARAMETER = ErrorCode(400, f"{_SWR}4001014")
BODY_TYPE = ErrorCode(400, f"{_SWR}4001018")
INTERNAL = ErrorCode(500, f"{_SWR}5000007")
INTERNAL_MESSAGE = "internal error; see the server's log"
OVERLOADED = ErrorCode(503, f"{_SWR}5030000")
NO_SUCH_API = ErrorCode(404, "APIGW.0101")
METHOD_NOT_ALLOWED = ErrorCode(405, "APIGW.0101")

_MISSING = ErrorCode(404, f"{_SWR}4040000")
_BY_FIELD = {
    "namespace": ErrorCode(400, f"{_SWR}4001028"),
    "remoteNamespace": ErrorCode(400, f"{_SWR}4001028"),
    "repository": ErrorCode(400, f"{_SWR}4001029"),
}
_BY_KIND = {
    "API version": NO_SUCH_API,
    "organization": ErrorCode(404, f"{_SWR}4040058"),
    "repository": ErrorCode(404, f"{_SWR}4040010"),
    "tag": ErrorCode(404, f"{_SWR}4040048"),
    "rule": ErrorCode(400, f"{_SWR}4001158"),
    "retention policy to delete": ErrorCode(400, f"{_SWR}4000306"),
    **dict.fromkeys(("permission", "share", "access domain", "retention policy", "trigger"), _MISSING),
    **dict.fromkeys(("project", "domain", "token", "user", "group", "access key"), ErrorCode(404, "IAM.0004")),
    **dict.fromkeys(("IAM region", "IAM service", "IAM endpoint"), ErrorCode(404, "IAM.0004")),
}
_CONFLICTS = {
    "repository": ErrorCode(409, f"{_SWR}4090006"),
    "tag": ErrorCode(409, f"{_SWR}4090048"),
    "referrers tag": ErrorCode(409, f"{_SWR}4090048"),
    "permission": ErrorCode(409, f"{_SWR}4090000"),
    "share": ErrorCode(409, f"{_SWR}4090000"),
    "retention policy": ErrorCode(409, f"{_SWR}4090000"),
    "trigger": ErrorCode(409, f"{_SWR}4090000"),
    "organization": ErrorCode(409, f"{_SWR}4090060"),
    "organization in use": ErrorCode(409, f"{_SWR}4090023"),
    **dict.fromkeys(("user", "access key"), ErrorCode(409, "IAM.0005")),
}
_REGISTRY_FAILED = ErrorCode(500, f"{_SWR}5000021")
_TABLE: tuple[tuple[type[errors.TagferryError], ErrorCode], ...] = (
    (errors.AnswerTooLarge, _REGISTRY_FAILED),
    (errors.TooLarge, BAD_PARAMETER),
    (errors.MissingField, MISSING_PARAMETER),
    (errors.WrongType, BODY_TYPE),
    (errors.InvalidFilter, ErrorCode(400, f"{_SWR}4001035")),
    (errors.Invalid, BAD_PARAMETER),
    (errors.BadSignature, ErrorCode(401, f"{_SWR}4000031")),
    (errors.Unauthenticated, ErrorCode(401, f"{_SWR}4010000")),
    (errors.QuotaExceeded, ErrorCode(403, f"{_SWR}4030001")),
    (errors.Denied, ErrorCode(403, f"{_SWR}4039002")),
    (errors.NotFound, ErrorCode(404, f"{_SWR}4040010")),
    (errors.Conflict, ErrorCode(409, f"{_SWR}4090006")),
    (errors.Throttled, ErrorCode(429, "APIGW.0308")),
    (errors.Stalled, ErrorCode(408, f"{_SWR}4080000")),
    (errors.Unsupported, ErrorCode(501, f"{_SWR}5010001")),
    (errors.Overloaded, OVERLOADED),
    (errors.Expired, ErrorCode(504, f"{_SWR}5040021")),
    (errors.Refused, _REGISTRY_FAILED),
    (errors.Corrupt, _REGISTRY_FAILED),
    (errors.StorageUnavailable, ErrorCode(503, f"{_SWR}5030000")),
    (errors.DatabaseUnavailable, ErrorCode(503, f"{_SWR}5030000")),
    (errors.Unavailable, _REGISTRY_FAILED),
)


def code_of(error: errors.TagferryError) -> ErrorCode:
    """Return the status and code for an error."""
    if isinstance(error, errors.InvalidName) and error.field in _BY_FIELD:
        return _BY_FIELD[error.field]
    if isinstance(error, errors.Incomplete):
        return _REGISTRY_FAILED if isinstance(error.cause, errors.Incomplete | errors.Invalid) else code_of(error.cause)
    if isinstance(error, errors.TooLarge) and error.field == "body":
        return ErrorCode(413, f"{_SWR}4130014")
    if isinstance(error, errors.NotFound) and error.kind in _BY_KIND:
        return _BY_KIND[error.kind]
    if isinstance(error, errors.Conflict) and error.kind in _CONFLICTS:
        return _CONFLICTS[error.kind]
    return next((code for kind, code in _TABLE if isinstance(error, kind)), INTERNAL)


def respond(error: errors.TagferryError, scope: Scope, others: Iterable[errors.TagferryError] = ()) -> JSONResponse:
    """Return the response for an error.

    Args:
        error: the error.
        scope: the ASGI scope of the request, with the request's id in its state.
        others: further errors of the same request.
    """
    if isinstance(error, errors.LoginThrottled):
        mark_as_shed(scope)
    headers = {}
    waits = errors.Throttled | errors.Overloaded | errors.DatabaseUnavailable
    if isinstance(error, waits) and error.retry_after is not None:
        headers["Retry-After"] = str(ceil(error.retry_after))
    return serialize(code_of(error), [error.message, *(other.message for other in others)], scope, headers)


def serialize(
    code: ErrorCode, messages: list[str], scope: Scope, headers: dict[str, str] | None = None
) -> JSONResponse:
    """Return an error response. The SDKs read its top-level fields, Terraform's provider reads `errors`.

    An error of IAM also has Keystone's form, for OpenStack's clients.
    """
    body: dict[str, Any] = {
        "error_code": code.code,
        "error_msg": messages[0],
        "request_id": scope["state"]["request_id"],
        "errors": [{"errorCode": code.code, "errorMessage": message, "detail": ""} for message in messages],
    }
    if is_iam_path(scope["path"]):
        title = HTTPStatus(code.status).phrase
        body["error"] = {"code": code.status, "title": title, "message": "; ".join(messages)}
    return JSONResponse(body, status_code=code.status, headers=headers)


def is_iam_path(path: str) -> bool:
    """Return whether a path belongs to IAM: `/v3` and `/v3.0`, except `/v3/manage`, which is SWR's."""
    version, _, rest = path.removeprefix("/").partition("/")
    return version in ("v3", "v3.0") and rest.partition("/")[0] != "manage"


def from_validation(validation: RequestValidationError) -> list[errors.TagferryError]:
    """Translate the framework's validation errors, in their order, up to `ERRORS_REPORTED`."""
    return [_translate(error) for error in validation.errors()[: bounds.ERRORS_REPORTED]]


def _translate(error: dict[str, Any]) -> errors.TagferryError:
    where, *path = error["loc"] or ("body",)
    field = _field_name(where, path)
    value = None if _is_secret(path) else error["input"]
    match error["type"]:
        case "json_invalid":
            return errors.WrongType("body", f"must be JSON ({error.get('ctx', {}).get('error', 'invalid')})")
        case "missing":
            return errors.MissingField(field)
        case kind if where == "body" and kind.endswith(("_type", "_parsing")):
            return errors.WrongType(field, f"must be {_TYPES.get(kind, error['msg'])}", value)
        case kind:
            rule = f"must be {_TYPES[kind]}" if kind in _TYPES else _rule(error["msg"])
            return errors.Invalid(field, rule, value)


def _is_secret(path: list[str | int]) -> bool:
    """Return whether the field at this path is or contains a secret, which must not be quoted."""
    return not _SECRETS.isdisjoint(path) or path[-2:] == ["token", "id"]


_SECRETS = frozenset({"password", "original_password", "hw_ak_sk", "secret"})
_TYPES = {
    "string_type": "a string",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "an array",
    "int_type": "a number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "dict_type": "a JSON object",
    "model_type": "a JSON object",
    "model_attributes_type": "a JSON object",
}


def _field_name(where: str | int, path: list[str | int]) -> str:
    if not path or isinstance(path[0], int):
        name, parts = str(where), path
    else:
        name, parts = path[0], path[1:]
    for part in parts:
        name += f"[{part}]" if isinstance(part, int) else f".{part}"
    return name


def _rule(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should be ", "must be ", 1).strip() or "is not valid"
