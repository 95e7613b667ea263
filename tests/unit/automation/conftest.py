"""Three regions with rules between them, and a repository with triggers."""

from collections.abc import AsyncIterator

import pytest
from cryptography.fernet import Fernet

from tagferry.accounts.users import Users
from tagferry.db.engine import Database
from tests.unit.automation.circle import TEAM, Circle
from tests.unit.automation.hooked import OLD, Hooked
from tests.unit.sync.conftest import QuickVault


@pytest.fixture
async def circle(database: Database) -> AsyncIterator[Circle]:
    """Three regions with the organization `team`, without background tasks."""
    users = Users(database, QuickVault([Fernet.generate_key().decode()]))
    circle = Circle(database, users, await users.create("admin", "correct horse", domain="acme", is_admin=True))
    for region in circle.stores:
        await circle.organizations.create(circle.admin, region, TEAM)
    yield circle
    await circle.watch.close()


@pytest.fixture
async def hooked(circle: Circle) -> Hooked:
    """An image in region A, without a webhook sender."""
    hooked = Hooked(circle)
    await hooked.push(OLD)
    return hooked
