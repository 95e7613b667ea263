"""Authentication and authorization of tagferry's accounts for an embedded registry."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from tagferry.accounts.access import AccessControl
from tagferry.accounts.authenticate import Authenticator
from tagferry.accounts.model import Caller, Permission
from tagferry.errors import Denied, NotFound, Unauthenticated
from tagferry.names import RegionId, RepositoryName
from tagferry.registry.api.access import CATALOG, Action, InsufficientScope, Login, Scope
from tagferry.web import audit

TOKEN_PATH = "/v2/_token"  # noqa: S105 - no secret
"""The path of the token service: below `/v2/` like the registry, and not a valid repository name."""
SERVICE = "dockyard"
"""The service name of SWR's registry in its challenges."""

_LOGIN = "authentication required; log in with: docker login"
_NEEDED = {Action.PULL: Permission.READ, Action.PUSH: Permission.EDIT, Action.DELETE: Permission.MANAGE}


@dataclass(frozen=True, slots=True)
class _Credentials:
    """The verified credentials of a request.

    Attributes:
        caller: None for an anonymous client.
        scopes: the scopes that the token is limited to; None without a token, for no limit.
    """

    caller: Caller | None
    scopes: tuple[Scope, ...] | None = None

    def require(self, needed: Scope) -> None:
        """Raise InsufficientScope if the token does not cover the scope."""
        if self.scopes is not None and not any(scope.covers(needed) for scope in self.scopes):
            raise InsufficientScope(f"the registry token does not cover the scope {needed}; request one that does")


class AccountsAuthorizer:
    """The authorizer of an embedded registry.

    It accepts registry tokens, and logins with a user's password, a login secret or an access key as in SWR. A token
    identifies the caller and limits the scopes; the caller's permissions are evaluated at each request, as in the other
    APIs.

    Args:
        region: the registry's region.
        authenticator: verifies credentials.
        access: evaluates permissions.
        url: the registry's public URL; None to derive it from the request.
        default_url: the URL if the request has no valid host.
    """

    def __init__(
        self,
        region: RegionId,
        authenticator: Authenticator,
        access: AccessControl,
        *,
        url: str | None,
        default_url: str,
    ) -> None:
        self._region = region
        self._url = url
        self._default_url = default_url
        self._authenticator = authenticator
        self._access = access

    def challenge(self, login: Login, scopes: Sequence[Scope], error: Unauthenticated) -> str:
        realm = f"{self._url or login.origin or self._default_url}{TOKEN_PATH}"
        parts = [f'realm="{realm}"', f'service="{SERVICE}"']
        if scopes:
            parts.append(f'scope="{" ".join(map(str, scopes))}"')
        if isinstance(error, InsufficientScope):
            parts.append('error="insufficient_scope"')
        return f"Bearer {','.join(parts)}"

    async def authorize(
        self, login: Login, actions: frozenset[Action], repository: RepositoryName | None
    ) -> str | None:
        with self._access.pinned():
            return await self._authorize(login, actions, repository)

    async def _authorize(
        self, login: Login, actions: frozenset[Action], repository: RepositoryName | None
    ) -> str | None:
        credentials = await self._authenticate(login)
        if repository is None or not actions:
            if credentials.caller is None and credentials.scopes is None:
                raise Unauthenticated(_LOGIN)
            return credentials.caller.name if credentials.caller else None
        if credentials.scopes is not None:
            for action in actions:
                credentials.require(Scope.of(repository, {action}))
        needed = max(_NEEDED[action] for action in actions)
        await self._access.require(credentials.caller, self._region, repository, needed)
        return credentials.caller.name if credentials.caller else None

    async def visible(self, login: Login, repositories: Sequence[RepositoryName]) -> Sequence[RepositoryName]:
        credentials = await self._authenticate(login)
        credentials.require(CATALOG)
        if credentials.caller is None:
            raise Unauthenticated(_LOGIN)
        readable = await self._access.readable(credentials.caller, self._region)
        return [name for name in repositories if name in readable]

    async def granted(self, caller: Caller | None, asked: Scope) -> Scope | None:
        """Return the part of an existing scope that the caller is currently allowed, or None."""
        if asked == CATALOG:
            return CATALOG if caller is not None else None
        name = RepositoryName(asked.name)
        try:
            access = await self._access.require(caller, self._region, name, Permission.READ)
        except (Unauthenticated, Denied, NotFound):
            return None
        possible = {action for action, needed in _NEEDED.items() if needed <= access.permission}
        allowed = {action for action in possible if asked.covers(Scope.of(name, {action}))}
        return Scope.of(name, allowed) if allowed else None

    async def caller(self, login: Login) -> Caller | None:
        """Return the caller of a Basic login, or None without a login.

        Args:
            login: the login, possibly empty.

        Raises:
            Unauthenticated: the login is wrong or not Basic.
            LoginThrottled: as `Authenticator.by_login` raises it.
        """
        if not login.authorization:
            return None
        username, password = _parse_basic(login.authorization)
        if not username and not password:
            # Some clients send empty credentials for an anonymous user.
            return None
        return await self.by_password(username, password, address=login.address)

    async def by_password(self, username: str, password: str, *, address: str) -> Caller:
        """Return the caller of a login; raises as `caller` does."""
        caller = await self._authenticator.by_login(username, password, address=address)
        audit.bind_caller(caller.name, caller.credential.access_key)
        return caller

    async def by_refresh_token(self, token: str) -> Caller:
        """Return the caller that a refresh token was issued to; raises Unauthenticated."""
        caller = await self._authenticator.by_refresh_token(token, self._region)
        audit.bind_caller(caller.name, caller.credential.access_key)
        return caller

    async def _authenticate(self, login: Login) -> _Credentials:
        scheme, _, token = (login.authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return _Credentials(await self.caller(login))
        bearer = await self._authenticator.by_registry_token(token.strip(), self._region)
        if bearer.caller is not None:
            audit.bind_caller(bearer.caller.name, bearer.caller.credential.access_key)
        return _Credentials(bearer.caller, tuple(map(Scope.parse, bearer.scopes)))


def _parse_basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise Unauthenticated(f"unsupported Authorization scheme; use Basic, or a Bearer token from {TOKEN_PATH}")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except ValueError:
        raise Unauthenticated("the Basic login must be base64 of username:password") from None
    username, separator, password = decoded.partition(":")
    if not separator:
        raise Unauthenticated("the Basic login must have the form username:password")
    return username, password
