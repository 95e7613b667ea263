"""Error responses of the registry API: the table of statuses and codes, and the serializer.

The codes are those of the OCI distribution-spec 1.1, "Error Codes"; PAGINATION_NUMBER_INVALID, UNAVAILABLE and
UNKNOWN are widely used in addition.
"""

import json
from typing import Any

from tagferry.errors import (
    Conflict,
    Corrupt,
    Denied,
    Invalid,
    InvalidName,
    NotFound,
    Stalled,
    TagferryError,
    Throttled,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from tagferry.registry.api.access import InvalidTokenRequest
from tagferry.registry.errors import (
    ClientStalled,
    Damaged,
    InvalidPage,
    InvalidUpload,
    MissingReference,
    NotAllowed,
    OutOfOrder,
    RangeNotSatisfiable,
    SizeMismatch,
    TooManyTags,
    UploadBusy,
)
from tagferry.registry.storage.threads import DiskFull

# The first matching row applies, so specific errors precede general ones.
_TABLE: tuple[tuple[type[TagferryError], str | None, int, str], ...] = (
    (Unauthenticated, None, 401, "UNAUTHORIZED"),
    (Denied, None, 403, "DENIED"),
    (MissingReference, None, 404, "MANIFEST_BLOB_UNKNOWN"),
    (NotFound, "organization", 404, "NAME_UNKNOWN"),
    (NotFound, "repository", 404, "NAME_UNKNOWN"),
    (NotFound, "manifest", 404, "MANIFEST_UNKNOWN"),
    (NotFound, "tag", 404, "MANIFEST_UNKNOWN"),
    (NotFound, "blob", 404, "BLOB_UNKNOWN"),
    (NotFound, "upload", 404, "BLOB_UPLOAD_UNKNOWN"),
    (NotFound, None, 404, "NAME_UNKNOWN"),
    (Damaged, None, 404, "MANIFEST_UNKNOWN"),
    (NotAllowed, None, 405, "UNSUPPORTED"),
    (ClientStalled, "manifest", 408, "MANIFEST_INVALID"),
    (ClientStalled, None, 408, "BLOB_UPLOAD_INVALID"),
    (OutOfOrder, None, 416, "BLOB_UPLOAD_INVALID"),
    (RangeNotSatisfiable, None, 416, "SIZE_INVALID"),
    (SizeMismatch, None, 400, "SIZE_INVALID"),
    (InvalidUpload, None, 400, "BLOB_UPLOAD_INVALID"),
    (InvalidTokenRequest, None, 400, "UNSUPPORTED"),
    (TooManyTags, None, 414, "MANIFEST_INVALID"),
    (InvalidPage, None, 400, "PAGINATION_NUMBER_INVALID"),
    (TooLarge, "form", 413, "UNSUPPORTED"),
    (TooLarge, "path", 414, "UNSUPPORTED"),
    (TooLarge, "query", 414, "UNSUPPORTED"),
    (TooLarge, None, 413, "MANIFEST_INVALID"),
    (InvalidName, "name", 400, "NAME_INVALID"),
    (InvalidName, "namespace", 400, "NAME_INVALID"),
    (InvalidName, "repository", 400, "NAME_INVALID"),
    (InvalidName, "digest", 400, "DIGEST_INVALID"),
    (Invalid, None, 400, "MANIFEST_INVALID"),
    (Corrupt, None, 400, "DIGEST_INVALID"),
    (UploadBusy, None, 409, "BLOB_UPLOAD_INVALID"),
    (Conflict, None, 409, "DENIED"),
    (Unsupported, None, 415, "UNSUPPORTED"),
    (Throttled, None, 429, "TOOMANYREQUESTS"),
    (Stalled, None, 408, "UNSUPPORTED"),
    (DiskFull, None, 507, "UNAVAILABLE"),
    (Unavailable, None, 503, "UNAVAILABLE"),
    (TagferryError, None, 500, "UNKNOWN"),
)


def status_and_code(error: TagferryError) -> tuple[int, str]:
    """Return the HTTP status and the distribution-spec's code of an error."""
    subject = error.kind if isinstance(error, NotFound) else getattr(error, "field", None)
    return next(
        (status, code) for kind, wanted, status, code in _TABLE if isinstance(error, kind) and wanted in (None, subject)
    )


def error_headers(error: TagferryError) -> dict[str, str]:
    """Return the response headers that an error adds."""
    if isinstance(error, NotAllowed):
        return {"Allow": ", ".join(error.allowed)}
    if isinstance(error, ClientStalled):
        return {"Connection": "close"}
    if isinstance(error, OutOfOrder):
        return {"Range": uploaded_range(error.received)}
    if isinstance(error, RangeNotSatisfiable):
        return {"Content-Range": f"bytes */{error.size}"}
    if isinstance(error, Throttled | Unavailable) and error.retry_after is not None:
        return {"Retry-After": str(max(1, round(error.retry_after)))}
    return {}


def error_document(code: str, message: str, detail: Any = None) -> bytes:
    """Return the body of an error response (distribution-spec 1.1, "Error Codes")."""
    return json.dumps({"errors": [{"code": code, "message": message, "detail": detail}]}).encode()


def error_detail(error: TagferryError) -> Any:
    """Return the machine-readable detail of an error."""
    if isinstance(error, NotFound):
        return {error.kind: error.name}
    if isinstance(error, Invalid):
        return {"field": error.field, "rule": error.rule}
    return None


def uploaded_range(received: int) -> str:
    """Return the Range header of an upload; `0-0` for an empty one, as in other registries."""
    return f"0-{max(received - 1, 0)}"
