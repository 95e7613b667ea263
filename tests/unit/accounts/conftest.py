"""Accounts on a database of their own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from tagferry.accounts.organizations import Organizations
from tagferry.accounts.temporary import TemporaryCredentials
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.names import RegionId
from tests.support.clock import Calendar, Clock
from tests.support.schemas import sqlite_in

NORTH, SOUTH, OPEN = RegionId("cn-north-4"), RegionId("cn-south-1"), RegionId("harbor")
PASSWORD = "correct horse"


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
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def temporary(users: Users, vault: Vault, calendar: Calendar) -> TemporaryCredentials:
    return TemporaryCredentials(users, vault, clock=calendar)


@pytest.fixture
def organizations(database: Database) -> Organizations:
    return Organizations(database, open_regions=[OPEN])
