"""Accounts on a database of their own."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from tagferry.accounts.access import AccessControl
from tagferry.accounts.authenticate import Authenticator
from tagferry.accounts.keys import AccessKeys
from tagferry.accounts.lockout import Lockout
from tagferry.accounts.model import AccessKey, Caller
from tagferry.accounts.organizations import Organizations
from tagferry.accounts.temporary import TemporaryCredentials
from tagferry.accounts.tokens import Tokens
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.names import RegionId
from tests.support.clock import Calendar, Clock
from tests.support.schemas import sqlite_in

NORTH, SOUTH, OPEN = RegionId("cn-north-4"), RegionId("cn-south-1"), RegionId("harbor")
PASSWORD = "correct horse"
TOKEN_LIFETIME = timedelta(hours=3)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(sqlite_in(tmp_path))
    yield opened
    await opened.close()


@pytest.fixture
def vault() -> Vault:
    return Vault([Fernet.generate_key().decode()])


@pytest.fixture
def users(database: Database, vault: Vault) -> Users:
    return Users(database, vault)


@pytest.fixture
async def keys(database: Database, vault: Vault) -> AsyncIterator[AccessKeys]:
    opened = AccessKeys(database, vault)
    yield opened
    await opened.close()


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def temporary(users: Users, vault: Vault, calendar: Calendar) -> TemporaryCredentials:
    return TemporaryCredentials(users, vault, clock=calendar)


@pytest.fixture
def organizations(database: Database) -> Organizations:
    return Organizations(database)


@pytest.fixture
def access(database: Database) -> AccessControl:
    return AccessControl(database, open_regions=frozenset({OPEN}))


@pytest.fixture
def tokens(database: Database, calendar: Calendar) -> Tokens:
    return Tokens(database, lifetime=TOKEN_LIFETIME, clock=calendar)


@pytest.fixture
def authenticator(
    users: Users, keys: AccessKeys, tokens: Tokens, temporary: TemporaryCredentials, clock: Clock
) -> Authenticator:
    """Three failures lock for a minute."""
    return Authenticator(users, keys, tokens, temporary, Lockout(attempts=3, seconds=60, clock=clock))


@pytest.fixture
async def carol(users: Users) -> Caller:
    return await users.create("carol", PASSWORD, domain="acme")


@pytest.fixture
async def key(keys: AccessKeys, carol: Caller) -> AccessKey:
    """A permanent access key of carol's."""
    return await keys.create(carol.user_id)


@pytest.fixture
async def either(database_url: str) -> AsyncIterator[Database]:
    """A database of each kind, where the two may differ."""
    opened = Database(database_url)
    yield opened
    await opened.close()
