"""Lets tagferry's accounts into the embedded registry."""

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
"""Where tokens are given; below `/v2/`, so that it is reached wherever the registry is, and no repository's name."""
SERVICE = "dockyard"
"""What SWR calls its registry in its challenges."""

_LOGIN = "this registry needs a login; try: docker login"
_NEEDED = {Action.PULL: Permission.READ, Action.PUSH: Permission.EDIT, Action.DELETE: Permission.MANAGE}


@dataclass(frozen=True, slots=True)
class _Credentials:
    """What a request comes with.

    Attributes:
        caller: None for somebody who did not say who it is.
        scopes: what its token is good for at most; None without a token, which limits nothing.
    """

    caller: Caller | None
    scopes: tuple[Scope, ...] | None = None

    def require(self, needed: Scope) -> None:
        """Raise InsufficientScope where the token was got for something else."""
        if self.scopes is not None and not any(scope.covers(needed) for scope in self.scopes):
            raise InsufficientScope(f"the registry token was not asked for {needed}; get one for that")


class AccountsAuthorizer:
    """Lets in by tokens, or by the logins that get them: of users, by login secrets or of access keys as SWR has them.

    A token tells who asks, and for what at most. What the caller may do is decided with each request, as at every
    other door.

    Args:
        region: whose registry it is.
        url: under which its clients reach it; None where that is what they say themselves.
        default_url: the same for those that do not say it.
        authenticator: tells who somebody is.
        access: tells what somebody may do.
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
        credentials = await self._authenticate(login)
        if repository is None or not actions:
            if credentials.caller is None and credentials.scopes is None:
                raise Unauthenticated(_LOGIN)
            return credentials.caller.name if credentials.caller else None
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
        """What of a scope that there is here the caller may do at this moment; None where that is nothing."""
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
        """Whoever logs in; None for somebody who shows nothing.

        Args:
            login: a Basic login, or none.

        Raises:
            Unauthenticated: the login is wrong, or none that there is.
            LoginThrottled: see `Authenticator.by_login`.
        """
        if not login.authorization:
            return None
        username, password = _parse_basic(login.authorization)
        if not username and not password:
            # What some clients send for somebody who has not logged in.
            return None
        return await self.by_password(username, password, address=login.address)

    async def by_password(self, username: str, password: str, *, address: str) -> Caller:
        """Whoever logs in so; as `caller`."""
        caller = await self._authenticator.by_login(username, password, address=address)
        audit.bind_caller(caller.name)
        return caller

    async def by_refresh_token(self, token: str) -> Caller:
        """Whoever got this token with an earlier one; raises Unauthenticated."""
        caller = await self._authenticator.by_refresh_token(token, self._region)
        audit.bind_caller(caller.name)
        return caller

    async def _authenticate(self, login: Login) -> _Credentials:
        scheme, _, token = (login.authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return _Credentials(await self.caller(login))
        bearer = await self._authenticator.by_registry_token(token.strip(), self._region)
        if bearer.caller is not None:
            audit.bind_caller(bearer.caller.name)
        return _Credentials(bearer.caller, tuple(map(Scope.parse, bearer.scopes)))


def _parse_basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise Unauthenticated(f"this registry takes Basic logins, and tokens that are got with them at {TOKEN_PATH}")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except ValueError:
        raise Unauthenticated("the Basic login cannot be read; it must be base64 of username:password") from None
    username, separator, password = decoded.partition(":")
    if not separator:
        raise Unauthenticated("the Basic login must have the form username:password")
    return username, password
