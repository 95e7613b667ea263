"""Authenticate and authorize requests as a server does, without HTTP."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event

from tagferry import signing
from tagferry.accounts.access import AccessControl
from tagferry.accounts.authenticate import Authenticator
from tagferry.accounts.keys import AccessKeys
from tagferry.accounts.lockout import Lockout
from tagferry.accounts.model import Permission
from tagferry.accounts.temporary import TemporaryCredentials
from tagferry.accounts.tokens import Tokens
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.errors import BadSignature, Denied, NotFound, Unauthenticated
from tagferry.names import RepositoryName
from tagferry.registry.api.access import Action, Login
from tagferry.web.authorizer import AccountsAuthorizer
from tests.support.revocations import REGION, Shown

_ADDRESS = "192.0.2.1"


class AccessServer:
    """Authenticates and authorizes requests as a server does, and counts statements and calls of threads."""

    def __init__(self, database: Database, secret_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        vault = Vault([secret_key])
        users = Users(database, vault)
        self.keys = AccessKeys(database, vault)
        tokens, temporary = Tokens(database, lifetime=timedelta(hours=1)), TemporaryCredentials(users, vault)
        self._authenticator = Authenticator(users, self.keys, tokens, temporary, Lockout(attempts=1_000_000))
        self._access = AccessControl(database)
        self._registry = AccountsAuthorizer(REGION, self._authenticator, self._access, url=None, default_url="")
        self.statements = self.thread_calls = 0
        event.listen(database._engine.sync_engine, "before_cursor_execute", self._executed)
        wake = asyncio.get_running_loop().call_soon_threadsafe

        def waking(*arguments: object, **options: object) -> object:
            self.thread_calls += 1
            return wake(*arguments, **options)  # type: ignore[arg-type]

        # Every result of a thread comes back through this.
        monkeypatch.setattr(asyncio.get_running_loop(), "call_soon_threadsafe", waking)

    async def lets_in(self, shown: Shown) -> bool:
        """Return whether a request is authenticated and authorized."""
        try:
            await self._request(shown)
        except (Unauthenticated, BadSignature, Denied, NotFound):
            return False
        return True

    async def _request(self, shown: Shown) -> None:
        name = RepositoryName(shown.repository)
        if shown.key is None and not shown.token:
            login = Login(shown.authorization or None, _ADDRESS)
            await self._registry.authorize(login, frozenset({Action(shown.action)}), name)
            return
        if shown.key is None:
            caller = await self._authenticator.by_token(shown.token)
        else:
            headers = [("x-security-token", shown.security_token)] if shown.security_token else []
            request = signing.Request("GET", "/v2/manage/repos", "", [*headers, ("host", "north")], b"")
            made = signing.sign(request, *shown.key, now=datetime.now(UTC))
            signed = [*request.headers, *((header.lower(), value) for header, value in made.items())]
            request = replace(request, headers=signed)
            authorization = request.header("authorization")
            assert authorization is not None
            caller = await self._authenticator.by_signature(request, authorization, address=_ADDRESS)
        await self._access.require(caller, REGION, name, Permission.READ)

    def _executed(self, *_: object) -> None:
        self.statements += 1
