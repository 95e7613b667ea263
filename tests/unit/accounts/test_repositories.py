import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tagferry.accounts.model import Caller
from tagferry.accounts.organizations import Organizations
from tagferry.accounts.repositories import Repositories, RepositoryMetadata
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.errors import Conflict, Invalid, NotFound
from tagferry.names import Namespace, RepositoryName
from tests.unit.accounts.conftest import NORTH, OPEN, PASSWORD, SOUTH

TEAM, SHOP, WEB = Namespace("team"), RepositoryName("team/shop/app"), RepositoryName("team/web")


@pytest.fixture
def repositories(database: Database) -> Repositories:
    return Repositories(database)


@pytest.fixture
async def alice(users: Users, organizations: Organizations) -> Caller:
    caller = await users.create("alice", PASSWORD, domain="acme")
    await organizations.create(caller, NORTH, TEAM)
    return caller


@pytest.fixture
async def bob(users: Users) -> Caller:
    return await users.create("bob", PASSWORD, domain="acme")


async def test_a_created_repository_is_found_as_it_was_described(
    repositories: Repositories, alice: Caller, bob: Caller
):
    said = RepositoryMetadata(is_public=True, category="linux", description="the shop")
    created = await repositories.create(bob, NORTH, SHOP, said)

    assert (created.region, created.name, created.creator_id, created.creator_name) == (
        NORTH,
        SHOP,
        bob.user_id,
        "bob",
    )
    assert (created.is_public, created.category, created.description) == (True, "linux", "the shop")
    assert datetime.now(UTC) - created.created_at < timedelta(minutes=1)
    assert await repositories.find(NORTH, SHOP) == created
    assert await repositories.find(SOUTH, SHOP) is None
    assert await repositories.find(NORTH, WEB) is None


async def test_a_repository_can_be_had_once_in_each_region(repositories: Repositories, alice: Caller):
    await repositories.create(alice, NORTH, SHOP, RepositoryMetadata())

    with pytest.raises(Conflict, match='the repository "team/shop/app" already exists in cn-north-4'):
        await repositories.create(alice, NORTH, SHOP, RepositoryMetadata(is_public=True))
    assert (await repositories.create(alice, SOUTH, SHOP, RepositoryMetadata())).region == SOUTH


async def test_one_that_only_the_registry_knew_is_private_and_its_organizations(
    repositories: Repositories, alice: Caller, bob: Caller
):
    since = datetime(2024, 5, 6, tzinfo=UTC)
    made = await repositories.find_or_create(bob, NORTH, WEB, since=since)

    assert (made.category, made.description, made.is_public) == ("other", "", False)
    assert (made.creator_name, made.created_at) == ("alice", since)
    assert await repositories.find_or_create(alice, NORTH, WEB) == made
    assert (await repositories.find_or_create(bob, OPEN, WEB)).creator_name == "bob"


async def test_what_is_not_said_anew_stays(repositories: Repositories, alice: Caller):
    created = await repositories.create(alice, NORTH, WEB, RepositoryMetadata(category="lang", description="before"))

    updated = await repositories.update(NORTH, WEB, RepositoryMetadata(is_public=True, description=""))

    assert (updated.is_public, updated.category, updated.description) == (True, "lang", "")
    assert updated.updated_at > created.updated_at
    assert updated.created_at == created.created_at
    assert await repositories.find(NORTH, WEB) == updated
    with pytest.raises(NotFound, match='repository "team/shop/app" in cn-north-4 does not exist'):
        await repositories.update(NORTH, SHOP, RepositoryMetadata())


async def test_records_are_listed_by_organization(repositories: Repositories, alice: Caller):
    for name in (WEB, SHOP, RepositoryName("release/app")):
        await repositories.create(alice, NORTH, name, RepositoryMetadata())

    assert [record.name for record in await repositories.list_in(NORTH, [TEAM])] == [SHOP, WEB]
    assert await repositories.list_in(NORTH, []) == []
    assert await repositories.list_in(SOUTH, [TEAM]) == []


async def test_a_record_ends_by_itself_or_with_its_organization(
    repositories: Repositories, organizations: Organizations, alice: Caller
):
    await repositories.create(alice, NORTH, SHOP, RepositoryMetadata())
    await repositories.create(alice, NORTH, WEB, RepositoryMetadata())

    await repositories.delete(NORTH, SHOP)
    await repositories.delete(NORTH, SHOP)
    assert await repositories.find(NORTH, SHOP) is None
    assert await repositories.find(NORTH, WEB)

    await organizations.delete(NORTH, TEAM)
    assert await repositories.find(NORTH, WEB) is None


def test_a_category_is_one_of_those_that_there_are():
    with pytest.raises(Invalid, match=r'category must be one of app_server, linux, .*: got "games"'):
        RepositoryMetadata(category="games")


async def test_many_who_speak_of_a_repository_at_once_make_one_record(either: Database, vault: Vault):
    alice = await Users(either, vault).create("alice", PASSWORD, domain="acme")
    organizations, repositories = Organizations(either), Repositories(either)
    await organizations.create(alice, NORTH, TEAM)

    made = await asyncio.gather(*(repositories.find_or_create(alice, NORTH, SHOP) for _ in range(8)))

    assert len({record.id for record in made}) == 1
    with pytest.raises(Conflict):
        await repositories.create(alice, NORTH, SHOP, RepositoryMetadata())
    await repositories.update(NORTH, SHOP, RepositoryMetadata(category="lang"))
    assert [record.category for record in await repositories.list_in(NORTH, [TEAM])] == ["lang"]
    await organizations.delete(NORTH, TEAM)
    assert await repositories.list_in(NORTH, [TEAM]) == []


async def test_names_and_some_records_are_read_without_the_others(repositories: Repositories, alice: Caller):
    for name in (SHOP, WEB):
        await repositories.create(alice, NORTH, name, RepositoryMetadata(description=f"the {name}"))
    await repositories.create(alice, OPEN, RepositoryName("other/app"), RepositoryMetadata())

    assert await repositories.names_in(NORTH, None) == {SHOP, WEB}
    assert await repositories.names_in(NORTH, [Namespace("other")]) == frozenset()
    assert await repositories.names_in(NORTH, [TEAM, Namespace("other")]) == {SHOP, WEB}
    assert await repositories.names_in(OPEN, None) == {"other/app"}
    missing = RepositoryName("team/missing")
    assert [one.description for one in await repositories.some(NORTH, [WEB, missing])] == ["the team/web"]
    assert await repositories.some(NORTH, []) == []

    # What is remembered is as new as the request.
    await repositories.delete(NORTH, SHOP)
    assert await repositories.names_in(NORTH, None) == await repositories.names_in(NORTH, [TEAM]) == {WEB}


async def test_some_records_are_those_of_these_organizations(repositories: Repositories, alice: Caller):
    organizations = [f"org{number}" for number in range(15)]
    everything = [RepositoryName(f"{one}/{name}") for one in organizations for name in organizations]
    for name in everything:
        await repositories.create(alice, OPEN, name, RepositoryMetadata(description=name))
    # More than one statement selects, of which each also finds others.
    wanted = [RepositoryName(f"{one}/{two}") for one in organizations for two in organizations if one < two]

    assert sorted(one.description for one in await repositories.some(OPEN, wanted)) == sorted(wanted)
