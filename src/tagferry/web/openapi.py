"""The application of a region's management API, and its OpenAPI document.

The document describes the operations of the routes, and the token service of the region's embedded registry.
"""

from typing import Any

from fastapi import FastAPI
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from tagferry.web.authorizer import TOKEN_PATH
from tagferry.web.counts import Routed

_TEXT = {"type": "string"}
_SCOPE = "Up to 32 scopes of the form `type:name:action,action`, e.g. `repository:team/app:pull,push`."
_TOKEN = {
    "type": "object",
    "properties": {
        "token": _TEXT,
        "access_token": {"type": "string", "description": "The same as `token`."},
        "token_type": {"const": "Bearer"},
        "scope": {"type": "string", "description": "The requested scopes that the user is currently allowed."},
        "expires_in": {"type": "integer", "minimum": 1, "description": "Lifetime in seconds."},
        "issued_at": _TEXT,
        "refresh_token": {"type": "string", "description": "A token to request further tokens, if requested."},
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
        "access_type": {"type": "string", "description": "`offline` requests a refresh token."},
        "scope": {"type": "string", "description": f"{_SCOPE} Scopes are separated by spaces."},
    },
    "required": ["grant_type"],
}


_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


class Management(FastAPI):
    """A region's management API and IAM.

    Args:
        has_token_service: whether the OpenAPI document describes the token service of an embedded registry.
        settings: FastAPI's.
    """

    def __init__(self, *, has_token_service: bool, **settings: Any) -> None:
        super().__init__(**settings)
        self._has_token_service = has_token_service
        self._routed = Routed(super().__call__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request. HEAD is routed like GET; the server omits the body."""
        if scope["type"] == "http" and scope["method"] == "HEAD" and not self._takes(scope, "HEAD"):
            scope = {**scope, "method": "GET"}
        await self._routed(scope, receive, send)

    def methods_at(self, scope: Scope) -> list[str]:
        """Return the methods that the path of this request allows, or none if no API has the path."""
        methods = [method for method in _METHODS if self._takes(scope, method)]
        return sorted({*methods, "HEAD"}) if "GET" in methods else methods

    def _takes(self, scope: Scope, method: str) -> bool:
        asked = {**scope, "method": method}
        return any(route.matches(asked)[0] is Match.FULL for route in self.routes)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, which is generated once."""
        is_new = self.openapi_schema is None
        document = super().openapi()
        if is_new and self._has_token_service:
            document["paths"][TOKEN_PATH] = _token_operations()
        return document


def _token_operations() -> dict[str, Any]:
    """Return the operations of `tagferry.web.registry_tokens`."""
    scope = {
        "name": "scope",
        "in": "query",
        "description": _SCOPE,
        "schema": {"type": "array", "items": _TEXT},
    }
    answers = {
        "200": _answer("The token", _TOKEN),
        "4XX": _answer("The request is invalid or not authorized", _ERRORS),
        "5XX": _answer("The server failed", _ERRORS),
    }
    form = {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": _FORM}}}
    return {
        "get": {
            "tags": ["login"],
            "operationId": "GetRegistryToken",
            "summary": "Get a token for the embedded registry, with Basic authentication or anonymously.",
            "parameters": [scope],
            "responses": answers,
        },
        "post": {
            "tags": ["login"],
            "operationId": "CreateRegistryToken",
            "summary": "Get a token for the embedded registry with a form.",
            "requestBody": form,
            "responses": answers,
        },
    }


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
