"""The names that a user may read are remembered until they change, on both databases."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event

from tagferry.accounts.access import AccessControl, today
from tagferry.accounts.grants import Grant, Grants
from tagferry.accounts.model import Permission
from tagferry.accounts.organizations import Organizations
from tagferry.accounts.repositories import Repositories, RepositoryMetadata
from tagferry.accounts.shares import Shares
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.db.tables import OrganizationPermissionRow
from tagferry.errors import Denied, NotFound, Unauthenticated
from tagferry.names import Namespace, RepositoryName
from tests.unit.accounts.conftest import NORTH, PASSWORD

APP, WEB = RepositoryName("team/app"), RepositoryName("team/web")


async def test_the_list_of_readable_repositories_follows_every_change(
    either: Database, database_url: str, vault: Vault
):
    other = Database(database_url)
    users, organizations, repositories, shares = (
        Users(other, vault),
        Organizations(other),
        Repositories(other),
        Shares(other),
    )
    owner = await users.create("owner", PASSWORD, domain="owners")
    carol = await users.create("carol", PASSWORD, domain="acme")
    team = await organizations.create(owner, NORTH, Namespace("team"))
    app, _ = [await repositories.create(owner, NORTH, name, RepositoryMetadata(is_public=False)) for name in (APP, WEB)]
    access = AccessControl(either)

    async def readable() -> tuple[dict[str, str], dict[str, str]]:
        found = await access.readable(carol, NORTH)
        return dict(found.organizations), dict(found.repositories)

    assert await readable() == ({}, {})
    statements: list[str] = []
    event.listen(
        either._engine.sync_engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2])
    )
    assert await readable() == ({}, {})
    assert statements == []

    await shares.create(owner, app.id, "acme", deadline=None, description="")
    assert await readable() == ({}, {APP: "owners"})
    await shares.update(app.id, "acme", deadline=datetime.now(UTC) - timedelta(days=2), description=None)
    assert await readable() == ({}, {})
    await repositories.update(NORTH, WEB, RepositoryMetadata(is_public=True))
    assert await readable() == ({}, {WEB: "owners"})
    grants = Grants(other, on=OrganizationPermissionRow.organization_id)
    await grants.add(team.id, [Grant(carol.user_id, "", Permission.READ)])
    assert await readable() == ({"team": "owners"}, {WEB: "owners"})
    await organizations.delete(NORTH, Namespace("team"))
    assert await readable() == ({}, {})
    await other.close()


async def test_a_remembered_share_ends_after_its_last_day(
    either: Database, vault: Vault, monkeypatch: pytest.MonkeyPatch
):
    users, organizations, repositories = Users(either, vault), Organizations(either), Repositories(either)
    owner = await users.create("owner", PASSWORD, domain="owners")
    carol = await users.create("carol", PASSWORD, domain="acme")
    await organizations.create(owner, NORTH, Namespace("team"))
    app = await repositories.create(owner, NORTH, APP, RepositoryMetadata(is_public=False))
    last_day = today()
    await Shares(either).create(owner, app.id, "acme", deadline=last_day, description="")
    access = AccessControl(either)
    monkeypatch.setattr("tagferry.accounts.access.today", lambda: last_day)
    assert (await access.require(carol, NORTH, APP, Permission.READ)).is_guest

    monkeypatch.setattr("tagferry.accounts.access.today", lambda: last_day + timedelta(days=1))

    with pytest.raises(Denied):
        await access.require(carol, NORTH, APP, Permission.READ)


async def test_refusals_are_not_remembered_so_that_invented_names_evict_nothing(either: Database, vault: Vault):
    users, organizations = Users(either, vault), Organizations(either)
    owner = await users.create("owner", PASSWORD, domain="owners")
    carol = await users.create("carol", PASSWORD, domain="acme")
    await organizations.create(owner, NORTH, Namespace("team"))
    access = AccessControl(either)
    statements: list[str] = []
    event.listen(
        either._engine.sync_engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2])
    )

    for caller in (carol, None):
        for _ in range(2):
            with pytest.raises((Denied, Unauthenticated)):
                await access.require(caller, NORTH, APP, Permission.READ)
    for _ in range(2):
        with pytest.raises(NotFound):
            await access.require(carol, NORTH, RepositoryName("unknown/app"), Permission.READ)

    assert len(statements) == 6


@pytest.mark.parametrize("user_id", ["\0", "a\0b", "\ud800", "", "x" * 65], ids=ascii)
async def test_a_text_that_is_no_id_is_a_user_that_does_not_exist(either: Database, vault: Vault, user_id: str):
    owner = await Users(either, vault).create("owner", PASSWORD, domain="owners")
    team = await Organizations(either).create(owner, NORTH, Namespace("team"))
    grants = Grants(either, on=OrganizationPermissionRow.organization_id)

    for change in (grants.add, grants.change):
        with pytest.raises(NotFound):
            await change(team.id, [Grant(user_id, "", Permission.READ)])
    with pytest.raises(NotFound):
        await grants.remove(team.id, [user_id])
