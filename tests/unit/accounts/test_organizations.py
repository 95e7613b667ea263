from datetime import UTC, datetime, timedelta

import pytest

from tagferry.accounts.model import Caller, Permission
from tagferry.accounts.organizations import Organizations
from tagferry.accounts.users import Users
from tagferry.errors import Conflict, Denied, InvalidName, NotFound
from tagferry.names import Namespace, RegionId
from tests.unit.accounts.conftest import NORTH, OPEN, PASSWORD, SOUTH

TEAM, RELEASE = Namespace("team"), Namespace("release")


@pytest.fixture
async def admin(users: Users) -> Caller:
    return await users.create("admin", PASSWORD, domain="acme", is_admin=True)


@pytest.fixture
async def carol(users: Users) -> Caller:
    return await users.create("carol", PASSWORD, domain="acme")


async def may(organizations: Organizations, caller: Caller, permission: Permission) -> bool:
    try:
        await organizations.require(caller, NORTH, TEAM, permission)
    except Denied:
        return False
    return True


async def test_whoever_creates_an_organization_manages_it(organizations: Organizations, carol: Caller):
    created = await organizations.create(carol, NORTH, TEAM)

    assert (created.region, created.name, created.permission) == (NORTH, TEAM, Permission.MANAGE)
    assert (created.creator_id, created.creator_name) == (carol.user_id, "carol")
    assert abs(datetime.now(UTC) - created.created_at) < timedelta(minutes=1)
    assert await organizations.require(carol, NORTH, TEAM, Permission.MANAGE) == created
    assert await organizations.list_for(carol, NORTH) == [created]


async def test_a_name_can_be_had_once_in_each_region(organizations: Organizations, admin: Caller, carol: Caller):
    await organizations.create(carol, NORTH, TEAM)

    with pytest.raises(Conflict, match="the organization team exists already in cn-north-4"):
        await organizations.create(admin, NORTH, TEAM)
    assert (await organizations.create(admin, SOUTH, TEAM)).region == SOUTH


async def test_a_name_that_the_api_uses_itself_is_refused(organizations: Organizations, admin: Caller):
    with pytest.raises(InvalidName, match="namespace must not be a name that the API uses itself: got 'manage'"):
        await organizations.create(admin, NORTH, Namespace("manage"))


async def test_users_see_what_they_may_read_and_administrators_see_all(
    organizations: Organizations, admin: Caller, carol: Caller
):
    await organizations.create(admin, NORTH, TEAM)
    await organizations.create(admin, NORTH, RELEASE)
    await organizations.create(carol, SOUTH, TEAM)
    await organizations.grant(NORTH, TEAM, "carol", Permission.READ)

    assert [(o.name, o.permission) for o in await organizations.list_for(carol, NORTH)] == [("team", Permission.READ)]
    everything = [(RELEASE, Permission.MANAGE), (TEAM, Permission.MANAGE)]
    assert [(o.name, o.permission) for o in await organizations.list_for(admin, NORTH)] == everything
    assert [(o.name, o.permission) for o in await organizations.list_all(NORTH)] == everything
    assert [o.name for o in await organizations.list_for(admin, OPEN)] == []


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (None, [False, False, False]),
        (Permission.READ, [True, False, False]),
        (Permission.EDIT, [True, True, False]),
        (Permission.MANAGE, [True, True, True]),
    ],
)
async def test_a_permission_includes_the_lower_ones(
    organizations: Organizations, admin: Caller, carol: Caller, held: Permission | None, expected: list[bool]
):
    await organizations.create(admin, NORTH, TEAM)
    if held:
        await organizations.grant(NORTH, TEAM, "carol", held)

    assert [await may(organizations, carol, permission) for permission in Permission] == expected
    assert [await may(organizations, admin, permission) for permission in Permission] == [True] * 3


async def test_a_new_grant_replaces_the_old_one(organizations: Organizations, admin: Caller, carol: Caller):
    await organizations.create(admin, NORTH, TEAM)
    await organizations.grant(NORTH, TEAM, "carol", Permission.MANAGE)
    await organizations.grant(NORTH, TEAM, "carol", Permission.READ)

    with pytest.raises(Denied, match="carol needs the permission to edit in the organization team of cn-north-4"):
        await organizations.require(carol, NORTH, TEAM, Permission.EDIT)


async def test_permissions_are_granted_to_users_in_organizations_only(
    organizations: Organizations, admin: Caller, carol: Caller
):
    await organizations.create(admin, NORTH, TEAM)

    with pytest.raises(NotFound, match="user nobody does not exist"):
        await organizations.grant(NORTH, TEAM, "nobody", Permission.READ)
    with pytest.raises(NotFound, match="organization team in cn-south-1 does not exist"):
        await organizations.grant(SOUTH, TEAM, "carol", Permission.READ)


@pytest.mark.parametrize("region", [NORTH, OPEN])
async def test_an_organization_that_nobody_created_does_not_exist_for_users(
    organizations: Organizations, carol: Caller, region: RegionId
):
    with pytest.raises(NotFound) as missing:
        await organizations.require(carol, region, TEAM, Permission.READ)

    assert missing.value.kind == "organization"
    assert f"organization team in {region} does not exist" in missing.value.message


async def test_in_an_open_region_administrators_may_use_what_only_the_registry_knows(
    organizations: Organizations, admin: Caller, carol: Caller
):
    assert await organizations.require(admin, OPEN, TEAM, Permission.MANAGE) is None
    with pytest.raises(NotFound):
        await organizations.require(admin, NORTH, TEAM, Permission.READ)

    await organizations.create(carol, OPEN, TEAM)
    assert await organizations.require(admin, OPEN, TEAM, Permission.MANAGE) is not None
    assert await organizations.require(carol, OPEN, TEAM, Permission.MANAGE) is not None


async def test_a_deleted_organization_is_gone_with_its_permissions(
    organizations: Organizations, admin: Caller, carol: Caller
):
    await organizations.create(carol, NORTH, TEAM)
    await organizations.create(carol, SOUTH, TEAM)

    await organizations.delete(NORTH, TEAM)

    with pytest.raises(NotFound):
        await organizations.require(carol, NORTH, TEAM, Permission.READ)
    with pytest.raises(NotFound, match="organization team in cn-north-4"):
        await organizations.delete(NORTH, TEAM)
    assert [found.name for found in await organizations.list_for(carol, SOUTH)] == [TEAM]
    await organizations.create(admin, NORTH, TEAM)
    with pytest.raises(Denied):
        await organizations.require(carol, NORTH, TEAM, Permission.READ)
