"""Responses to requests that do not reach an application, in the error format of their path."""

import json
import uuid
from collections.abc import Sequence
from http import HTTPStatus

from tagferry.registry.api.errors import error_document
from tagferry.web.errors import ErrorCode, serialize

RETRY_SECONDS = 5
"""After how long a client that was refused for overload should try again."""
NOSNIFF = (b"x-content-type-options", b"nosniff")
"""Keeps browsers from taking content for something else than it is said to be; it is on every answer."""

_OVERLOAD = frozenset({429, 503})

Header = tuple[bytes, bytes]


def refusal(status: int, message: str, path: str, request_id: str | None = None) -> tuple[list[Header], bytes]:
    """Return the headers and the body of an error.

    Args:
        status: its HTTP status.
        message: what is wrong, and what to do.
        path: what the request asks for, as far as that is known: below `/v2/` clients expect a registry's errors.
        request_id: the request's id, if it has one already.
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
    """Return the same as the bytes of an answer after which the connection is closed."""
    headers, body = refusal(status, message, path, request_id)
    return _raw(status, [*more, *headers], body)


def no_slot() -> bytes:
    """Return what a connection is sent for which there is no slot; its path is unknown, so this has both forms."""
    message = f"too many connections; try again in {RETRY_SECONDS} seconds"
    headers, body = refusal(503, message, "/")
    document = json.loads(body)
    document["errors"][0] |= {"code": _registry_code(503), "message": message}
    return _raw(503, [*headers, NOSNIFF], json.dumps(document).encode())


def _registry_code(status: int) -> str:
    return "UNAVAILABLE" if status in _OVERLOAD else "UNSUPPORTED"


def _raw(status: int, headers: Sequence[Header], body: bytes) -> bytes:
    last = [(b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
    lines += [name + b": " + value for name, value in [*headers, *last]]
    return b"\r\n".join([*lines, b"", body])
