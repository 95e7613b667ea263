"""Lets tagferry's accounts into the embedded registry."""

import base64
import binascii
from collections.abc import Sequence

from tagferry.accounts.access import AccessControl
from tagferry.accounts.authenticate import Authenticator
from tagferry.accounts.model import Caller, Permission
from tagferry.errors import Unauthenticated
from tagferry.names import RegionId, RepositoryName
from tagferry.registry.access import Action, Login
from tagferry.web import audit

_NEEDED = {Action.PULL: Permission.READ, Action.PUSH: Permission.EDIT, Action.DELETE: Permission.MANAGE}


class AccountsGate:
    """Basic logins of users, by login secrets or of access keys as SWR has them; public repositories need none."""

    challenge = 'Basic realm="tagferry", charset="UTF-8"'

    def __init__(self, region: RegionId, authenticator: Authenticator, access: AccessControl) -> None:
        self._region = region
        self._authenticator = authenticator
        self._access = access

    async def check(self, login: Login, actions: frozenset[Action], repository: RepositoryName | None) -> str | None:
        if repository is None or not actions:
            return (await self._known(login)).name
        needed = max(_NEEDED[action] for action in actions)
        caller = await self._caller(login)
        await self._access.require(caller, self._region, repository, needed)
        return caller.name if caller else None

    async def visible(self, login: Login, repositories: Sequence[RepositoryName]) -> Sequence[RepositoryName]:
        readable = await self._access.readable(await self._known(login), self._region)
        return [name for name in repositories if name in readable]

    async def _known(self, login: Login) -> Caller:
        caller = await self._caller(login)
        if caller is None:
            raise Unauthenticated("this registry needs a login; try: docker login")
        return caller

    async def _caller(self, login: Login) -> Caller | None:
        """Whoever logs in; None for somebody who shows nothing."""
        if not login.authorization:
            return None
        username, password = _parse_basic(login.authorization)
        if not username and not password:
            # What skopeo and podman send for somebody who has not logged in.
            return None
        caller = await self._authenticator.by_login(username, password, address=login.address)
        audit.known_as(caller.name)
        return caller


def _parse_basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise Unauthenticated("this registry takes Basic logins only")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise Unauthenticated("the Basic login cannot be read; it must be base64 of username:password") from None
    username, separator, password = decoded.partition(":")
    if not separator:
        raise Unauthenticated("the Basic login must have the form username:password")
    return username, password
