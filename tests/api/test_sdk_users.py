"""The unmodified IAM SDK creates, shows, changes and deletes users, and makes administrators of them."""

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException
from huaweicloudsdkiam import v3 as iam

from tagferry.accounts.model import AccessKey
from tests.support.deployment import Deployment, calling, deployed
from tests.support.sdk_calls import ask_iam, refused_by_iam

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORBIDDEN, MISSING, CONFLICT = (403, "SVCSTG.SWR.4039002"), (404, "IAM.0004"), (409, "IAM.0005")
BAD, ABSENT, WRONG_TYPE = (400, "SVCSTG.SWR.4000014"), (400, "SVCSTG.SWR.4001014"), (400, "SVCSTG.SWR.4001018")
PASSWORD = "correct horse"
_numbers = itertools.count()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path_factory.mktemp("users")) as deployment:
        yield deployment


def fresh() -> str:
    return f"user-{next(_numbers)}"


@pytest_asyncio.fixture(loop_scope="module")
async def somebody(ferry: Deployment) -> tuple[str, AccessKey]:
    """An ordinary user's id and key."""
    name = fresh()
    _, key = await ferry.user(name)
    return (await ferry.app.accounts.users.find(name)).user_id, key


def keystone_create(**fields: Any) -> tuple[str, Any]:
    body = iam.KeystoneCreateUserRequestBody(user=iam.KeystoneCreateUserOption(**fields))
    return "keystone_create_user", iam.KeystoneCreateUserRequest(body=body)


def create(**fields: Any) -> tuple[str, Any]:
    return "create_user", iam.CreateUserRequest(body=iam.CreateUserRequestBody(user=iam.CreateUserOption(**fields)))


def update(user_id: str, **fields: Any) -> tuple[str, Any]:
    body = iam.UpdateUserRequestBody(user=iam.UpdateUserOption(**fields))
    return "update_user", iam.UpdateUserRequest(user_id=user_id, body=body)


def keystone_update(user_id: str, **fields: Any) -> tuple[str, Any]:
    body = iam.KeystoneUpdateUserByAdminRequestBody(user=iam.KeystoneUpdateUserOption(**fields))
    return "keystone_update_user_by_admin", iam.KeystoneUpdateUserByAdminRequest(user_id=user_id, body=body)


def new_password(user_id: str, original: str, password: str) -> tuple[str, Any]:
    option = iam.KeystoneUpdatePasswordOption(password=password, original_password=original)
    body = iam.KeystoneUpdateUserPasswordRequestBody(user=option)
    return "keystone_update_user_password", iam.KeystoneUpdateUserPasswordRequest(user_id=user_id, body=body)


async def group_id(ferry: Deployment) -> str:
    (group,) = (await ask_iam(ferry, "keystone_list_groups", iam.KeystoneListGroupsRequest())).groups
    found: str = group.id
    return found


@pytest.mark.parametrize("make", [keystone_create, create])
async def test_a_user_is_created_and_logs_in(ferry: Deployment, make: Any) -> None:
    name = fresh()
    admin = await ferry.app.accounts.users.find(ferry.admin.name)
    made = (await ask_iam(ferry, *make(name=name, password=PASSWORD, description="the build"))).user
    assert (made.name, made.domain_id, made.enabled, made.description) == (name, admin.domain_id, True, "the build")
    assert (made.pwd_status, made.password_expires_at) == (False, "")
    assert await ferry.token(user=name, password=PASSWORD)
    shown = (await ask_iam(ferry, "keystone_show_user", iam.KeystoneShowUserRequest(user_id=made.id))).user
    detailed = (await ask_iam(ferry, "show_user", iam.ShowUserRequest(user_id=made.id))).user
    for user in (shown, detailed):
        assert (user.id, user.name, user.domain_id, user.enabled) == (made.id, name, made.domain_id, True)
        assert (user.description, user.access_mode, user.pwd_status) == ("the build", "default", False)
    assert detailed.create_time
    assert detailed.is_domain_owner is False


async def test_a_user_is_created_in_another_domain_disabled_or_without_a_password(ferry: Deployment) -> None:
    other = await ferry.app.accounts.users.create(fresh(), PASSWORD, domain="partners")
    made = (await ask_iam(ferry, *create(name=fresh(), domain_id=other.domain_id, enabled=False))).user
    assert (made.domain_id, made.enabled) == (other.domain_id, False)
    code, message = await refused_by_iam(ferry, *create(name=fresh(), domain_id="nowhere"))
    assert code == MISSING
    assert 'domain "nowhere" does not exist' in message


@pytest.mark.parametrize("make", [keystone_create, create])
@pytest.mark.parametrize(
    ("fields", "code", "names"),
    [
        ({"password": PASSWORD}, ABSENT, "user.name is mandatory"),
        ({"name": "a b"}, BAD, "user name must be"),
        ({"name": "x" * 65}, BAD, "user name must be"),
        ({"name": "short", "password": "short"}, BAD, "password must be at least 8"),
        ({"name": "empty", "password": ""}, BAD, "password must be at least 8"),
        ({"name": "long", "description": "x" * 256}, BAD, "description must be at most 255"),
        ({"name": "number", "description": 1}, WRONG_TYPE, "user.description must be a string"),
        ({"name": "maybe", "enabled": "perhaps"}, WRONG_TYPE, "user.enabled must be true or false"),
        ({"name": "secret", "password": 12345678}, WRONG_TYPE, "user.password must be a string"),
        ({"name": "admin", "password": PASSWORD}, CONFLICT, 'the user "admin" already exists'),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_user_that_cannot_be_is_refused_by_the_fields_name(
    ferry: Deployment, make: Any, fields: dict[str, Any], code: tuple[int, str], names: str
) -> None:
    before = len(await ferry.app.accounts.users.list_users())
    told, message = await refused_by_iam(ferry, *make(**fields))
    assert told == code
    assert message.startswith(names)
    assert "12345678" not in message
    assert len(await ferry.app.accounts.users.list_users()) == before


async def test_a_mode_of_access_that_would_not_hold_is_refused(ferry: Deployment) -> None:
    code, message = await refused_by_iam(ferry, *create(name=fresh(), access_mode="programmatic"))
    assert code == BAD
    assert message.startswith("user.access_mode must be 'default'")
    assert (await ask_iam(ferry, *create(name=fresh(), access_mode="default", pwd_status=True, email="a@b"))).user.id


async def test_users_are_listed_and_picked(ferry: Deployment) -> None:
    name, other = fresh(), await ferry.app.accounts.users.create(fresh(), PASSWORD, domain="listed")
    made = (await ask_iam(ferry, *create(name=name, enabled=False))).user

    async def listed(**fields: Any) -> list[str]:
        found = await ask_iam(ferry, "keystone_list_users", iam.KeystoneListUsersRequest(**fields))
        return [user.id for user in found.users]

    everybody = await listed()
    assert {made.id, other.user_id} <= set(everybody)
    assert await listed(name=name) == [made.id]
    assert await listed(domain_id=other.domain_id) == [other.user_id]
    assert made.id in await listed(enabled=False)
    assert made.id not in await listed(enabled=True)
    assert await listed(name="nobody", enabled=True) == await listed(domain_id="\0") == []
    code, message = await refused_by_iam(ferry, "keystone_list_users", iam.KeystoneListUsersRequest(enabled="perhaps"))
    assert code == BAD
    assert message.startswith("enabled ")


@pytest.mark.parametrize("change", [update, keystone_update])
async def test_a_user_is_changed(ferry: Deployment, somebody: tuple[str, AccessKey], change: Any) -> None:
    (user_id, _), name = somebody, fresh()
    changed = (await ask_iam(ferry, *change(user_id, name=name, password=PASSWORD, description="new"))).user
    assert (changed.id, changed.name, changed.description, changed.enabled) == (user_id, name, "new", True)
    assert await ferry.token(user=name, password=PASSWORD)
    assert (await ask_iam(ferry, *change(user_id, enabled=False))).user.enabled is False
    assert (await ask_iam(ferry, *change(user_id, enabled=True))).user.name == name
    for fields, code in (
        ({"name": ferry.admin.name}, CONFLICT),
        ({"name": ""}, BAD),
        ({"password": "short"}, BAD),
        ({"enabled": 1}, WRONG_TYPE),
    ):
        assert (await refused_by_iam(ferry, *change(user_id, **fields)))[0] == code
    assert (await refused_by_iam(ferry, *change("0" * 32, enabled=False)))[0] == MISSING


async def test_a_user_stays_in_its_domain(ferry: Deployment, somebody: tuple[str, AccessKey]) -> None:
    code, message = await refused_by_iam(ferry, *keystone_update(somebody[0], domain_id="other"))
    assert code == BAD
    assert message.startswith("user.domain_id must be the user's domain")


async def test_a_user_is_deleted(ferry: Deployment, somebody: tuple[str, AccessKey]) -> None:
    user_id, key = somebody
    await ask_iam(ferry, "keystone_delete_user", iam.KeystoneDeleteUserRequest(user_id=user_id))
    code, message = await refused_by_iam(ferry, "keystone_delete_user", iam.KeystoneDeleteUserRequest(user_id=user_id))
    assert (code, message) == (MISSING, f'user "{user_id}" does not exist')
    assert (await refused_by_iam(ferry, "show_user", iam.ShowUserRequest(user_id=user_id), key=key))[0][0] == 401


async def test_a_user_changes_its_own_password_by_the_old_one(ferry: Deployment) -> None:
    name = fresh()
    password, key = await ferry.user(name)
    user_id = (await ferry.app.accounts.users.find(name)).user_id
    token = await ferry.token(user=name, password=password)
    code, message = await refused_by_iam(ferry, *new_password(user_id, "wrong one", PASSWORD), key=key)
    assert code == (401, "SVCSTG.SWR.4010000")
    assert "password is wrong" in message
    for new, names in (
        (password, "user.password must differ from the current password"),
        ("short", "password must be at least 8"),
    ):
        code, message = await refused_by_iam(ferry, *new_password(user_id, password, new), key=key)
        assert (code, message[: len(names)]) == (BAD, names)

    await ask_iam(ferry, *new_password(user_id, password, PASSWORD), key=key)

    assert await ferry.token(user=name, password=PASSWORD)
    assert (await ferry.http("GET", "/v2/manage/regions", headers={"X-Auth-Token": token})).status == 401
    admins = (await ferry.app.accounts.users.find(ferry.admin.name)).user_id
    assert (await refused_by_iam(ferry, *new_password(user_id, PASSWORD, password)))[0] == FORBIDDEN
    assert (await refused_by_iam(ferry, *new_password(admins, ferry.admin.password, PASSWORD), key=key))[0] == FORBIDDEN


async def test_wrong_old_passwords_lock_the_name(ferry: Deployment, somebody: tuple[str, AccessKey]) -> None:
    user_id, key = somebody
    codes = [
        (await refused_by_iam(ferry, *new_password(user_id, "wrong one", PASSWORD), key=key))[0][0] for _ in range(6)
    ]
    assert codes == [401] * 5 + [429]


async def test_the_group_admin_makes_administrators(ferry: Deployment, somebody: tuple[str, AccessKey]) -> None:
    (user_id, key), group = somebody, await group_id(ferry)
    member = {"group_id": group, "user_id": user_id}

    async def names(**asked: Any) -> list[str]:
        found = await ask_iam(
            ferry, "keystone_list_groups_for_user", iam.KeystoneListGroupsForUserRequest(user_id), **asked
        )
        return [one.name for one in found.groups]

    assert await names(key=key) == []
    check = "keystone_check_user_in_group", iam.KeystoneCheckUserInGroupRequest(**member)
    assert (await refused_by_iam(ferry, *check))[0][0] == 404
    remove = "keystone_remove_user_from_group", iam.KeystoneRemoveUserFromGroupRequest(**member)
    assert (await refused_by_iam(ferry, *remove))[0] == MISSING

    for _ in range(2):
        await ask_iam(ferry, "keystone_add_user_to_group", iam.KeystoneAddUserToGroupRequest(**member))
    assert await names() == await names(key=key) == ["admin"]
    await ask_iam(ferry, *check)
    await ask_iam(ferry, *check, key=key)
    listing = iam.KeystoneListUsersForGroupByAdminRequest(group)
    listed = (await ask_iam(ferry, "keystone_list_users_for_group_by_admin", listing, key=key)).users
    assert {ferry.admin.name} < {user.name for user in listed}
    assert user_id in [user.id for user in listed]

    await ask_iam(ferry, *remove)
    assert (await refused_by_iam(ferry, "keystone_list_users", iam.KeystoneListUsersRequest(), key=key))[0] == FORBIDDEN


async def test_the_group_is_shown_and_picked_and_there_is_no_other(
    ferry: Deployment, somebody: tuple[str, AccessKey]
) -> None:
    group = await group_id(ferry)
    shown = (await ask_iam(ferry, "keystone_show_group", iam.KeystoneShowGroupRequest(group))).group
    admin = await ferry.app.accounts.users.find(ferry.admin.name)
    assert (shown.id, shown.name, shown.domain_id) == (group, "admin", admin.domain_id)
    for fields, found in (({"name": "admin"}, 1), ({"domain_id": admin.domain_id}, 1), ({"name": "other"}, 0)):
        listed = await ask_iam(ferry, "keystone_list_groups", iam.KeystoneListGroupsRequest(**fields))
        assert len(listed.groups) == found
    other = {"group_id": "other", "user_id": somebody[0]}
    for method, request in (
        ("keystone_show_group", iam.KeystoneShowGroupRequest("other")),
        ("keystone_add_user_to_group", iam.KeystoneAddUserToGroupRequest(**other)),
        ("keystone_remove_user_from_group", iam.KeystoneRemoveUserFromGroupRequest(**other)),
        ("keystone_list_users_for_group_by_admin", iam.KeystoneListUsersForGroupByAdminRequest("other")),
    ):
        code, message = await refused_by_iam(ferry, method, request)
        assert code == MISSING
        assert message.startswith('group "other" does not exist')
    nobody = iam.KeystoneAddUserToGroupRequest(group_id=group, user_id="nobody")
    assert (await refused_by_iam(ferry, "keystone_add_user_to_group", nobody))[0] == MISSING


async def test_the_last_administrator_stays_one(ferry: Deployment) -> None:
    admin = (await ferry.app.accounts.users.find(ferry.admin.name)).user_id
    removal = iam.KeystoneRemoveUserFromGroupRequest(group_id=await group_id(ferry), user_id=admin)
    for method, request in (
        ("keystone_delete_user", iam.KeystoneDeleteUserRequest(admin)),
        ("keystone_remove_user_from_group", removal),
        update(admin, enabled=False),
    ):
        code, message = await refused_by_iam(ferry, method, request)
        assert code == CONFLICT
        assert "last administrator" in message


@pytest.mark.parametrize("domain", ["tagferry", "elsewhere"])
async def test_an_ordinary_user_sees_and_changes_itself_only(
    ferry: Deployment, somebody: tuple[str, AccessKey], domain: str
) -> None:
    (other, _), name, group = somebody, fresh(), await group_id(ferry)
    _, key = await ferry.user(name, domain=domain)
    own = (await ferry.app.accounts.users.find(name)).user_id
    assert (await ask_iam(ferry, "keystone_show_user", iam.KeystoneShowUserRequest(own), key=key)).user.name == name
    assert (await ask_iam(ferry, "show_user", iam.ShowUserRequest(own), key=key)).user.name == name
    for method, request in (
        keystone_create(name=fresh()),
        create(name=fresh()),
        ("keystone_list_users", iam.KeystoneListUsersRequest()),
        ("keystone_show_user", iam.KeystoneShowUserRequest(other)),
        ("keystone_show_user", iam.KeystoneShowUserRequest("nobody")),
        ("show_user", iam.ShowUserRequest(other)),
        update(own, description="mine"),
        update(other, enabled=False),
        keystone_update(own, enabled=True),
        ("keystone_delete_user", iam.KeystoneDeleteUserRequest(own)),
        ("keystone_list_groups", iam.KeystoneListGroupsRequest()),
        ("keystone_show_group", iam.KeystoneShowGroupRequest(group)),
        ("keystone_list_groups_for_user", iam.KeystoneListGroupsForUserRequest(other)),
        ("keystone_list_users_for_group_by_admin", iam.KeystoneListUsersForGroupByAdminRequest(group)),
        ("keystone_add_user_to_group", iam.KeystoneAddUserToGroupRequest(group, own)),
        ("keystone_remove_user_from_group", iam.KeystoneRemoveUserFromGroupRequest(group, other)),
    ):
        assert (await refused_by_iam(ferry, method, request, key=key))[0] == FORBIDDEN, method
    check = iam.KeystoneCheckUserInGroupRequest(group, other)
    assert (await refused_by_iam(ferry, "keystone_check_user_in_group", check, key=key))[0][0] == 403


async def test_an_administrators_temporary_key_changes_no_users(
    ferry: Deployment, somebody: tuple[str, AccessKey]
) -> None:
    admin, group = await ferry.app.accounts.users.find(ferry.admin.name), await group_id(ferry)
    token = iam.IdentityToken(id=await ferry.token(), duration_seconds=900)
    auth = iam.TokenAuth(identity=iam.TokenAuthIdentity(methods=["token"], token=token))
    asked = iam.CreateTemporaryAccessKeyByTokenRequest(body=iam.CreateTemporaryAccessKeyByTokenRequestBody(auth=auth))
    made = (await ask_iam(ferry, "create_temporary_access_key_by_token", asked)).credential
    sdk = ferry.iam(AccessKey(made.access, made.secret), security_token=made.securitytoken)
    assert (await calling(sdk.keystone_list_users, iam.KeystoneListUsersRequest())).users
    for method, request in (
        create(name=fresh()),
        update(somebody[0], enabled=False),
        new_password(admin.user_id, ferry.admin.password, PASSWORD),
        ("keystone_delete_user", iam.KeystoneDeleteUserRequest(somebody[0])),
        ("keystone_add_user_to_group", iam.KeystoneAddUserToGroupRequest(group, somebody[0])),
        ("create_permanent_access_key", key_for(somebody[0])),
    ):
        with pytest.raises(ServiceResponseException, match="temporary access key"):
            await calling(getattr(sdk, method), request)


def key_for(user_id: str) -> Any:
    option = iam.CreateCredentialOption(user_id=user_id)
    body = iam.CreatePermanentAccessKeyRequestBody(credential=option)
    return iam.CreatePermanentAccessKeyRequest(body=body)
