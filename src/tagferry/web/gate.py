"""Lets tagferry's accounts into the embedded registry."""

import base64
import binascii
from collections.abc import Sequence

from tagferry.accounts.authenticate import Authenticator
from tagferry.accounts.model import Caller, Permission
from tagferry.accounts.organizations import Organizations
from tagferry.errors import InvalidName, NotFound, Unauthenticated
from tagferry.names import RegionId, RepositoryName
from tagferry.registry.access import Action, Login
from tagferry.web import audit

_NEEDED = {Action.PULL: Permission.READ, Action.PUSH: Permission.EDIT, Action.DELETE: Permission.MANAGE}


class AccountsGate:
    """Basic logins of users, by login secrets or of access keys as SWR has them, and organizations' permissions."""

    challenge = 'Basic realm="tagferry", charset="UTF-8"'

    def __init__(self, region: RegionId, authenticator: Authenticator, organizations: Organizations) -> None:
        self._region = region
        self._authenticator = authenticator
        self._organizations = organizations

    async def check(self, login: Login, actions: frozenset[Action], repository: RepositoryName | None) -> None:
        caller = await self._caller(login)
        if repository is None or not actions:
            return
        needed = max(_NEEDED[action] for action in actions)
        try:
            namespace = repository.namespace
        except InvalidName:
            raise NotFound("organization", repository.partition("/")[0]) from None
        await self._organizations.require(caller, self._region, namespace, needed)

    async def visible(self, login: Login, repositories: Sequence[RepositoryName]) -> Sequence[RepositoryName]:
        caller = await self._caller(login)
        readable = {one.name for one in await self._organizations.list_for(caller, self._region)}
        return [name for name in repositories if name.partition("/")[0] in readable]

    async def _caller(self, login: Login) -> Caller:
        username, password = _parse_basic(login.authorization)
        caller = await self._authenticator.by_login(username, password, address=login.address)
        audit.known_as(caller.name)
        return caller


def _parse_basic(authorization: str | None) -> tuple[str, str]:
    if not authorization:
        raise Unauthenticated("this registry needs a login; try: docker login")
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
