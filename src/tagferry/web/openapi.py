"""The application of a region's address, and its OpenAPI document.

The document has the operations of the routes, and the token service of the region's embedded registry.
"""

from typing import Any

from fastapi import FastAPI
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from tagferry.web.authorizer import TOKEN_PATH

_TEXT = {"type": "string"}
_SCOPE = "`type:name:action,action`, as `repository:team/app:pull,push`; up to 32 of them."
_TOKEN = {
    "type": "object",
    "properties": {
        "token": _TEXT,
        "access_token": {"type": "string", "description": "The same."},
        "token_type": {"const": "Bearer"},
        "scope": {"type": "string", "description": "What of that which was asked for is allowed at this moment."},
        "expires_in": {"type": "integer", "minimum": 1, "description": "Seconds."},
        "issued_at": _TEXT,
        "refresh_token": {"type": "string", "description": "To get more tokens with, where that was asked for."},
    },
    "required": ["token", "access_token", "token_type", "scope", "expires_in", "issued_at"],
    "additionalProperties": False,
}
_ERRORS = {
    "type": "object",
    "properties": {
        "errors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {"code": _TEXT, "message": _TEXT, "detail": {}},
                "required": ["code", "message", "detail"],
            },
        }
    },
    "required": ["errors"],
}
_FORM = {
    "type": "object",
    "properties": {
        "grant_type": {"type": "string", "enum": ["password", "refresh_token"]},
        "username": _TEXT,
        "password": _TEXT,
        "refresh_token": _TEXT,
        "access_type": {"type": "string", "description": "`offline` for a refresh token in the answer."},
        "scope": {"type": "string", "description": f"{_SCOPE} Several are separated by spaces."},
    },
    "required": ["grant_type"],
}


_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


class Management(FastAPI):
    """A region's management API and IAM; its document tells of the registry's tokens too where the region has them."""

    def __init__(self, *, gives_tokens: bool, **settings: Any) -> None:
        super().__init__(**settings)
        self._gives_tokens = gives_tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; HEAD is served wherever GET is, and the server leaves out the body."""
        if scope["type"] == "http" and scope["method"] == "HEAD" and not self._takes(scope, "HEAD"):
            scope = {**scope, "method": "GET"}
        await super().__call__(scope, receive, send)

    def methods_at(self, scope: Scope) -> list[str]:
        """Return the methods that the path of this request takes; none where no API has the path."""
        methods = [method for method in _METHODS if self._takes(scope, method)]
        return sorted({*methods, "HEAD"}) if "GET" in methods else methods

    def _takes(self, scope: Scope, method: str) -> bool:
        asked = {**scope, "method": method}
        return any(route.matches(asked)[0] is Match.FULL for route in self.routes)

    def openapi(self) -> dict[str, Any]:
        """The document, which is made once."""
        is_new = self.openapi_schema is None
        document = super().openapi()
        if is_new and self._gives_tokens:
            document["paths"][TOKEN_PATH] = _token_operations()
        return document


def _token_operations() -> dict[str, Any]:
    """What `tagferry.web.registry_tokens` answers."""
    scope = {
        "name": "scope",
        "in": "query",
        "description": _SCOPE,
        "schema": {"type": "array", "items": _TEXT},
    }
    answers = {
        "200": _answer("The token", _TOKEN),
        "4XX": _answer("The request cannot be met as it is", _ERRORS),
        "5XX": _answer("It failed here", _ERRORS),
    }
    form = {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": _FORM}}}
    return {
        "get": {
            "tags": ["login"],
            "operationId": "GetRegistryToken",
            "summary": "Get a token for the embedded registry, with a Basic login or none.",
            "parameters": [scope],
            "responses": answers,
        },
        "post": {
            "tags": ["login"],
            "operationId": "CreateRegistryToken",
            "summary": "Get a token for the embedded registry by a form.",
            "requestBody": form,
            "responses": answers,
        },
    }


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
