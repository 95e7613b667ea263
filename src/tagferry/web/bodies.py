"""Limits on requests to the management API, checked before parsing."""

import re
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope

from tagferry import bounds
from tagferry.errors import Invalid, TooLarge, Unavailable, WrongType
from tagferry.metrics import BOUND_REACHED

_NESTING = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[{\]}]', re.DOTALL)
_OPENING, _CLOSING = (b"[", b"{"), (b"]", b"}")


async def require_json(request: Request) -> None:
    """Raise Invalid for a body of another type than JSON. A missing type means JSON."""
    declared = request.headers.get("content-type", "application/json")
    if not re.fullmatch(r'application/json\s*(;\s*charset="?utf-8"?\s*)?', declared.strip(), re.IGNORECASE):
        raise Invalid("Content-Type", "must be application/json or application/json;charset=utf-8", declared)


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
