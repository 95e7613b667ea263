from datetime import UTC, datetime, timedelta

import pytest

from tagferry.accounts.access import AccessControl
from tagferry.accounts.model import Caller, Permission
from tagferry.accounts.organizations import Organizations
from tagferry.accounts.users import Users
from tagferry.errors import Conflict, Denied, InvalidName, NotFound
from tagferry.names import Namespace, RegionId, RepositoryName
from tests.unit.accounts.conftest import NORTH, OPEN, PASSWORD, SOUTH

TAKE_IN = "an administrator can let users into it with: tagferry org create harbor/team"
TEAM, RELEASE = Namespace("team"), Namespace("release")


@pytest.fixture
async def admin(users: Users) -> Caller:
    return await users.create("admin", PASSWORD, domain="acme", is_admin=True)


async def may(access: AccessControl, caller: Caller, permission: Permission) -> bool:
    try:
        await access.require_organization(caller, NORTH, TEAM, permission)
    except Denied:
        return False
    return True


async def test_whoever_creates_an_organization_manages_it(
    organizations: Organizations, access: AccessControl, carol: Caller
):
    created = await organizations.create(carol, NORTH, TEAM)

    assert (created.region, created.name, created.permission) == (NORTH, TEAM, Permission.MANAGE)
    assert (created.creator_id, created.creator_name) == (carol.user_id, "carol")
    assert abs(datetime.now(UTC) - created.created_at) < timedelta(minutes=1)
    assert await access.require_organization(carol, NORTH, TEAM, Permission.MANAGE) == created
    assert await organizations.list_for(carol, NORTH) == [created]


async def test_a_name_can_be_had_once_in_each_region(organizations: Organizations, admin: Caller, carol: Caller):
    await organizations.create(carol, NORTH, TEAM)

    with pytest.raises(Conflict, match='the organization "team" already exists in cn-north-4'):
        await organizations.create(admin, NORTH, TEAM)
    assert (await organizations.create(admin, SOUTH, TEAM)).region == SOUTH


async def test_a_name_that_the_api_uses_itself_is_refused(organizations: Organizations, admin: Caller):
    with pytest.raises(InvalidName, match='namespace must not be a name that the API uses itself: got "manage"'):
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
    organizations: Organizations,
    access: AccessControl,
    admin: Caller,
    carol: Caller,
    held: Permission | None,
    expected: list[bool],
):
    await organizations.create(admin, NORTH, TEAM)
    if held:
        await organizations.grant(NORTH, TEAM, "carol", held)

    assert [await may(access, carol, permission) for permission in Permission] == expected
    assert [await may(access, admin, permission) for permission in Permission] == [True] * 3


async def test_a_new_grant_replaces_the_old_one(
    organizations: Organizations, access: AccessControl, admin: Caller, carol: Caller
):
    await organizations.create(admin, NORTH, TEAM)
    await organizations.grant(NORTH, TEAM, "carol", Permission.MANAGE)
    await organizations.grant(NORTH, TEAM, "carol", Permission.READ)

    with pytest.raises(
        Denied, match='user "carol" needs the permission to edit in the organization "team" of cn-north-4'
    ):
        await access.require_organization(carol, NORTH, TEAM, Permission.EDIT)


async def test_permissions_are_granted_to_users_in_organizations_only(
    organizations: Organizations, admin: Caller, carol: Caller
):
    await organizations.create(admin, NORTH, TEAM)

    with pytest.raises(NotFound, match='user "nobody" does not exist'):
        await organizations.grant(NORTH, TEAM, "nobody", Permission.READ)
    with pytest.raises(NotFound, match='organization "team" in cn-south-1 does not exist'):
        await organizations.grant(SOUTH, TEAM, "carol", Permission.READ)


@pytest.mark.parametrize(
    ("region", "hint"),
    [
        (NORTH, "create it first, or check its name"),
        (OPEN, f"if the region's registry has it, {TAKE_IN}"),
    ],
)
async def test_an_organization_that_nobody_created_does_not_exist_for_users(
    access: AccessControl, carol: Caller, region: RegionId, hint: str
):
    told = f'organization "team" in {region} does not exist; {hint}'
    with pytest.raises(NotFound) as missing:
        await access.require_organization(carol, region, TEAM, Permission.READ)
    assert (missing.value.kind, missing.value.message) == ("organization", told)
    with pytest.raises(NotFound) as missing:
        await access.require(carol, region, RepositoryName("team/app"), Permission.READ)
    assert (missing.value.kind, missing.value.message) == ("organization", told)


async def test_in_an_open_region_administrators_may_use_what_only_the_registry_knows(
    organizations: Organizations, access: AccessControl, admin: Caller, carol: Caller
):
    assert await access.require_organization(admin, OPEN, TEAM, Permission.MANAGE) is None
    assert (await access.require(admin, OPEN, RepositoryName("team/app"), Permission.MANAGE)).owner is None
    assert RepositoryName("team/app") in await access.readable(admin, OPEN)
    assert RepositoryName("team/app") not in await access.readable(carol, OPEN)
    assert RepositoryName("team/app") not in await access.readable(admin, NORTH)
    with pytest.raises(NotFound):
        await access.require_organization(admin, NORTH, TEAM, Permission.READ)

    await organizations.create(admin, OPEN, TEAM)
    await organizations.grant(OPEN, TEAM, "carol", Permission.READ)
    assert await access.require_organization(admin, OPEN, TEAM, Permission.MANAGE) is not None
    assert await access.require_organization(carol, OPEN, TEAM, Permission.READ) is not None


async def test_in_an_open_region_only_administrators_put_organizations_on_record(
    access: AccessControl, admin: Caller, carol: Caller
):
    access.require_creation(carol, NORTH, TEAM)
    access.require_creation(admin, OPEN, TEAM)
    with pytest.raises(Denied, match=f"the registry of harbor governs its organizations; {TAKE_IN}"):
        access.require_creation(carol, OPEN, TEAM)


async def test_a_deleted_organization_is_gone_with_its_permissions(
    organizations: Organizations, access: AccessControl, admin: Caller, carol: Caller
):
    await organizations.create(carol, NORTH, TEAM)
    await organizations.create(carol, SOUTH, TEAM)

    await organizations.delete(NORTH, TEAM)

    with pytest.raises(NotFound):
        await access.require_organization(carol, NORTH, TEAM, Permission.READ)
    with pytest.raises(NotFound, match='organization "team" in cn-north-4'):
        await organizations.delete(NORTH, TEAM)
    assert [found.name for found in await organizations.list_for(carol, SOUTH)] == [TEAM]
    await organizations.create(admin, NORTH, TEAM)
    with pytest.raises(Denied):
        await access.require_organization(carol, NORTH, TEAM, Permission.READ)
