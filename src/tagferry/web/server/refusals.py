"""Responses to requests that are refused before they reach an application, in the error format of their path."""

import json
import uuid
from collections.abc import Sequence
from http import HTTPStatus

from tagferry.registry.api.errors import error_document
from tagferry.web.errors import ErrorCode, serialize

RETRY_SECONDS = 5
"""The `Retry-After` of responses that refuse a request because of overload."""
BROWSER_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"x-frame-options", b"DENY"))
"""Headers of every response: browsers guess no other content type, and show it in no frame of another page."""

_OVERLOAD = frozenset({429, 503})

Header = tuple[bytes, bytes]


def refusal(status: int, message: str, path: str, request_id: str | None = None) -> tuple[list[Header], bytes]:
    """Return the headers and the body of an error.

    Args:
        status: the HTTP status.
        message: the error message.
        path: the request's path, if known; below `/v2/`, clients expect a registry's errors.
        request_id: the request's id, if it already has one.
    """
    request_id = request_id or uuid.uuid4().hex
    if path.startswith("/v2/") and not path.startswith("/v2/manage/"):
        body = error_document(_registry_code(status), message)
    else:
        code = ErrorCode(status, f"SVCSTG.SWR.{status}0000")
        body = bytes(serialize(code, [message], {"path": path, "state": {"request_id": request_id}}).body)
    headers = [(b"content-type", b"application/json"), (b"x-request-id", request_id.encode())]
    if status in _OVERLOAD:
        headers.append((b"retry-after", str(RETRY_SECONDS).encode()))
    return headers, body


def raw_refusal(
    status: int, message: str, path: str, more: Sequence[Header] = (), *, request_id: str | None = None
) -> bytes:
    """Return the bytes of an error response after which the connection is closed; the arguments are `refusal`'s."""
    headers, body = refusal(status, message, path, request_id)
    return _raw(status, [*more, *headers], body)


def no_slot() -> bytes:
    """Return the response to a connection without a slot. Its path is unknown, so the body has both error formats."""
    message = f"too many connections; try again in {RETRY_SECONDS} seconds"
    headers, body = refusal(503, message, "/")
    document = json.loads(body)
    document["errors"][0] |= {"code": _registry_code(503), "message": message}
    return _raw(503, [*headers, *BROWSER_HEADERS], json.dumps(document).encode())


def _registry_code(status: int) -> str:
    return "UNAVAILABLE" if status in _OVERLOAD else "UNSUPPORTED"


def _raw(status: int, headers: Sequence[Header], body: bytes) -> bytes:
    last = [(b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
    lines += [name + b": " + value for name, value in [*headers, *last]]
    return b"\r\n".join([*lines, b"", body])
