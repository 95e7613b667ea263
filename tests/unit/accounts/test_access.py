"""What a user may read is remembered until it changes, on both databases."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import event

from tagferry.accounts.access import AccessControl
from tagferry.accounts.grants import Grant, Grants
from tagferry.accounts.model import Permission
from tagferry.accounts.organizations import Organizations
from tagferry.accounts.repositories import Repositories, RepositoryMetadata
from tagferry.accounts.shares import Shares
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.db.tables import OrganizationPermissionRow
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
