"""The token service of an embedded registry, for authenticated and anonymous clients.

Sources: the distribution project's "Token Authentication Specification" and "OAuth2 Token Authentication".
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from tagferry import bounds
from tagferry.accounts.model import Caller
from tagferry.accounts.temporary import TemporaryCredentials
from tagferry.errors import Unauthenticated
from tagferry.names import RegionId
from tagferry.registry.api.access import InvalidTokenRequest, Scope
from tagferry.registry.api.app import error_response
from tagferry.registry.api.asgi import ClientDisconnected, Request, Response, check_parameters, parameters_of
from tagferry.registry.errors import NotAllowed
from tagferry.web.authorizer import TOKEN_PATH, AccountsAuthorizer
from tagferry.web.formats import date

_FORM_LIMIT = 64 * 1024
_SCOPE_LIMIT = 32
"""A token contains its scopes, and must fit into a header."""
_IDLE_SECONDS = 60.0
_PASSWORD, _REFRESH = "password", "refresh_token"


@dataclass(frozen=True, slots=True)
class _TokenRequest:
    """A request for a token.

    Attributes:
        caller: None for an anonymous client.
        is_refreshable: whether a refresh token is requested, too.
    """

    caller: Caller | None
    scopes: tuple[Scope, ...]
    is_refreshable: bool


class RegistryTokens:
    """The ASGI application that issues tokens at `TOKEN_PATH` and forwards all other paths to the registry.

    Args:
        registry: the registry's application.
        region: the registry's region.
        authorizer: the registry's authorizer.
        temporary: creates the tokens.
        lifetime: the lifetime of a token.
    """

    def __init__(
        self,
        registry: ASGIApp,
        region: RegionId,
        authorizer: AccountsAuthorizer,
        temporary: TemporaryCredentials,
        *,
        lifetime: timedelta,
    ) -> None:
        self._registry = registry
        self._region = region
        self._authorizer = authorizer
        self._temporary = temporary
        self._lifetime = lifetime

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != TOKEN_PATH:
            await self._registry(scope, receive, send)
            return
        request = Request.of(scope, receive, idle_seconds=_IDLE_SECONDS)
        try:
            response = await self._issue(await self._read(request))
        except ClientDisconnected:
            return
        except Exception as error:
            response = error_response(error, scope, _challenge)
        await response.send(send, receive, method=request.method)

    async def _read(self, request: Request) -> _TokenRequest:
        request.check_head()
        if request.method == "GET":
            scopes = _Parameters(request.parameters).scopes()
            caller = await self._authorizer.caller(request.login)
            # The protocol allows ignoring `offline_token`, which docker login sends: docker would store a refresh token
            # in its config.json instead of the password, which clients such as the kubelet cannot use.
            return _TokenRequest(caller=caller, scopes=scopes, is_refreshable=False)
        if request.method == "POST":
            form = (await request.body("form", limit=_FORM_LIMIT)).decode("latin-1")
            check_parameters(form, "form")
            asked = _Parameters(parameters_of(form))
            scopes = asked.scopes()
            return _TokenRequest(
                caller=await self._by_grant(asked, address=request.address),
                scopes=scopes,
                is_refreshable=asked.get("access_type") == "offline",
            )
        raise NotAllowed(request.method, ("GET", "POST"))

    async def _by_grant(self, asked: "_Parameters", *, address: str) -> Caller:
        grant = asked.require("grant_type")
        if grant == _PASSWORD:
            username, password = asked.require("username"), asked.require("password")
            return await self._authorizer.by_password(username, password, address=address)
        if grant == _REFRESH:
            return await self._authorizer.by_refresh_token(asked.require(_REFRESH))
        raise InvalidTokenRequest("grant_type", f"must be {_PASSWORD} or {_REFRESH}", grant)

    async def _issue(self, wanted: _TokenRequest) -> Response:
        token = await self._temporary.create_registry_token(
            wanted.caller,
            self._lifetime,
            region=self._region,
            scopes=[str(scope) for scope in wanted.scopes],
            is_refreshable=wanted.is_refreshable,
        )
        granted = [await self._authorizer.granted(wanted.caller, scope) for scope in wanted.scopes]
        document = {
            "token": token.value,
            "access_token": token.value,
            "token_type": "Bearer",
            "scope": " ".join(str(scope) for scope in granted if scope is not None),
            "expires_in": int((token.expires_at - token.issued_at).total_seconds()),
            "issued_at": date(token.issued_at),
        }
        if token.refresh_token is not None:
            document["refresh_token"] = token.refresh_token
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        return Response(200, headers, json.dumps(document).encode())


@dataclass(frozen=True, slots=True)
class _Parameters:
    """The parameters of a query or a form."""

    pairs: Sequence[tuple[str, str]]

    def get(self, name: str) -> str:
        """Return a parameter's last value, or "" if it is missing."""
        return next((value for found, value in reversed(self.pairs) if found == name), "")

    def require(self, name: str) -> str:
        """Return a parameter's value; raises InvalidTokenRequest if it is missing."""
        if not (value := self.get(name)):
            raise InvalidTokenRequest(name, "is mandatory")
        return value

    def scopes(self) -> tuple[Scope, ...]:
        """Return the requested scopes that exist here, without duplicates; raises InvalidTokenRequest."""
        texts = [one for name, value in self.pairs if name == "scope" for one in value.split()]
        if len(texts) > bounds.QUERY_PARAMETERS:
            raise InvalidTokenRequest("scope", f"must name at most {bounds.QUERY_PARAMETERS}", len(texts))
        asked = (Scope.parse(one).supported() for one in texts)
        scopes = tuple(dict.fromkeys(scope for scope in asked if scope is not None))
        if len(scopes) > _SCOPE_LIMIT:
            raise InvalidTokenRequest("scope", f"must be at most {_SCOPE_LIMIT} different ones", len(scopes))
        return scopes


def _challenge(_error: Unauthenticated) -> str:
    return 'Basic realm="tagferry", charset="UTF-8"'
