"""Limits on requests to the management API, checked before parsing."""

import re
from typing import Any

import structlog
from starlette.requests import Request
from starlette.types import Receive, Scope

from tagferry import bounds
from tagferry.errors import Invalid, TooLarge, Unavailable, WrongType
from tagferry.metrics import BOUND_REACHED
from tagferry.settings import Settings
from tagferry.web.unknown_fields import unknown_fields

log = structlog.get_logger(__name__)

IGNORED_FIELDS = b"x-tagferry-ignored-fields"
"""The response header that names the fields of the request's body that were ignored."""

_NESTING = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[{\]}]', re.DOTALL)
_OPENING, _CLOSING = (b"[", b"{"), (b"]", b"}")


async def require_json(request: Request) -> None:
    """Check the type and the fields of a body. Every operation with a JSON body depends on this.

    Raises:
        Invalid: the body is of another type than JSON, where a missing type means JSON; or it has fields that the
            operation does not have, and `limits.unknown_fields` is `refuse`.
    """
    declared = request.headers.get("content-type", "application/json")
    if not re.fullmatch(r'application/json\s*(;\s*charset="?utf-8"?\s*)?', declared.strip(), re.IGNORECASE):
        raise Invalid("Content-Type", "must be application/json or application/json;charset=utf-8", declared)
    settings: Settings = request.app.state.settings
    if settings.limits.unknown_fields != "ignore" and await request.body():
        await _check_fields(request, must_refuse=settings.limits.unknown_fields == "refuse")


async def _check_fields(request: Request, *, must_refuse: bool) -> None:
    # The framework has parsed the body already, and the request remembers the result.
    unknown = unknown_fields(request.scope["route"].body_field.field_info.annotation, await request.json())
    if not unknown:
        return
    if must_refuse:
        names, fields = ", ".join(f'"{name}"' for name in unknown), "fields" if len(unknown) > 1 else "field"
        raise Invalid("body", f"must not have the unknown {fields} {names}; correct their names or remove them")
    request.scope["state"]["ignored_fields"] = ", ".join(unknown)
    log.warning("ignored unknown fields of a request", fields=unknown, method=request.method, path=request.url.path)


def ignored_fields(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the header that names the ignored fields of a request; none if all its fields are known."""
    names: str = scope["state"].get("ignored_fields", "")
    return [(IGNORED_FIELDS, names.encode())] if names else []


def check_head(scope: Scope) -> None:
    """Raise TooLarge for a path or a query that is expensive to route or parse."""
    if len(scope["raw_path"]) > bounds.PATH_BYTES:
        raise _too_large("path_bytes", "path", f"must be at most {bounds.PATH_BYTES} bytes", len(scope["raw_path"]))
    if (parameters := scope["query_string"].count(b"&") + 1) > bounds.QUERY_PARAMETERS:
        raise _too_large(
            "query_parameters", "query", f"must have at most {bounds.QUERY_PARAMETERS} parameters", parameters
        )


def check_json(body: bytes) -> None:
    """Raise WrongType for a JSON body that is expensive to parse or nested too deeply."""
    opened = body.count(b"[") + body.count(b"{")
    if opened + body.count(b",") + body.count(b'"') > bounds.BODY_STRUCTURAL_CHARACTERS:
        raise _not_plain(
            "body_marks", f"that has at most {bounds.BODY_STRUCTURAL_CHARACTERS} brackets, commas and quotation marks"
        )
    if opened > bounds.JSON_DEPTH and _depth(body) > bounds.JSON_DEPTH:
        raise _not_plain("json_depth", f"that is nested at most {bounds.JSON_DEPTH} levels deep")


class Body:
    """The body of a request, read on demand, up to a limit in bytes."""

    def __init__(self, scope: Scope, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        self._content: bytes | None = None

    async def read(self) -> bytes:
        """Return the whole body; raises TooLarge, or Unavailable if the client disconnects."""
        if self._content is None:
            self._content = await self._read()
        return self._content

    async def _read(self) -> bytes:
        rule = f"must be at most {self._limit} bytes"
        if self._declared.isdigit() and (len(self._declared) > 20 or int(self._declared) > self._limit):
            raise TooLarge("body", rule, int(self._declared[:20]))
        body = bytearray()
        while True:
            message: dict[str, Any] = dict(await self._receive())
            if message["type"] == "http.disconnect":
                raise Unavailable("the client closed the connection before the request was complete")
            body += message.get("body", b"")
            if len(body) > self._limit:
                raise TooLarge("body", rule)
            if not message.get("more_body", False):
                return bytes(body)


def _depth(body: bytes) -> int:
    depth = deepest = 0
    for mark in _NESTING.findall(body):
        if mark in _OPENING:
            depth += 1
            deepest = max(deepest, depth)
        elif mark in _CLOSING:
            depth -= 1
    return deepest


def _too_large(bound: str, field: str, rule: str, value: int) -> TooLarge:
    BOUND_REACHED.labels(bound=bound).inc()
    return TooLarge(field, rule, value)


def _not_plain(bound: str, rule: str) -> WrongType:
    BOUND_REACHED.labels(bound=bound).inc()
    return WrongType("body", f"must be JSON {rule}")
