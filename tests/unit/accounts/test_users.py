import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select

from tagferry.accounts.keys import AccessKeys
from tagferry.accounts.organizations import Organizations
from tagferry.accounts.user_rules import random_password
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.db.tables import AccessKeyRow, OrganizationPermissionRow, UserRow
from tagferry.errors import Conflict, Invalid, NotFound, TagferryError
from tagferry.names import Namespace
from tests.unit.accounts.conftest import NORTH, PASSWORD


async def test_a_user_is_found_by_its_name_and_listed_among_all(users: Users):
    carol = await users.create("carol", PASSWORD, domain="acme")
    admin = await users.create("admin", PASSWORD, domain="acme", is_admin=True)
    other = await users.create("bob", PASSWORD, domain="other")

    assert await users.find("carol") == carol
    assert [user.name for user in await users.list_users()] == ["admin", "bob", "carol"]
    assert [user.name for user in await users.list_users(domain_id=carol.domain_id)] == ["admin", "carol"]
    assert [user.user_id for user in await users.list_users(name="bob")] == [other.user_id]
    assert [user.name for user in await users.administrators()] == ["admin"]
    assert await users.list_users(name="\0") == await users.list_users(domain_id="\ud800") == []
    assert (carol.name, carol.domain_name, carol.is_admin) == ("carol", "acme", False)
    assert admin.is_admin
    assert carol.domain_id == admin.domain_id != other.domain_id


@pytest.mark.parametrize("name", ["a", "A-b_c.9", "x" * 64])
async def test_names_of_letters_digits_and_a_few_signs_are_taken(users: Users, name: str):
    assert (await users.create(name, PASSWORD, domain="acme")).name == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a@b", "é", "²", "a/b", "a\n", "a\0", "\ud800"])
async def test_other_names_are_refused_and_belong_to_nobody(users: Users, name: str):
    with pytest.raises(Invalid, match="user name must be 1 to 64 letters"):
        await users.create(name, PASSWORD, domain="acme")
    with pytest.raises(NotFound):
        await users.find(name)
    assert await users.by_password(name, PASSWORD) is None


async def test_a_name_can_be_had_once(users: Users):
    await users.create("carol", PASSWORD, domain="acme")

    with pytest.raises(Conflict, match='the user "carol" already exists'):
        await users.create("carol", PASSWORD, domain="other")
    results = await asyncio.gather(
        *(users.create("dave", PASSWORD, domain="third") for _ in range(3)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["Caller", "Conflict", "Conflict"]


async def test_a_short_password_is_refused_without_being_told(users: Users):
    with pytest.raises(Invalid) as refused:
        await users.create("carol", "shorty7", domain="acme")
    assert refused.value.message == "password must be at least 8 characters long"

    carol = await users.create("carol", "8 signs.", domain="acme")
    with pytest.raises(Invalid, match="at least 8 characters"):
        await users.update(carol.user_id, password="shorty7")
    assert await users.by_password("carol", "8 signs.") is not None


async def test_only_the_right_password_of_the_right_user_is_right(users: Users):
    carol = await users.create("carol", PASSWORD, domain="acme")
    await users.create("dave", "another one", domain="acme")

    assert await users.by_password("carol", PASSWORD) == carol
    for name, password in (("carol", "another one"), ("carol", ""), ("nobody", PASSWORD), ("carol", "\ud800")):
        assert await users.by_password(name, password) is None


async def test_a_new_password_replaces_the_old_one(users: Users):
    carol = await users.create("carol", PASSWORD, domain="acme")

    await users.update(carol.user_id, password="battery staple")

    assert await users.by_password("carol", PASSWORD) is None
    assert await users.by_password("carol", "battery staple") is not None
    with pytest.raises(NotFound, match='user "nobody" does not exist'):
        await users.update("nobody", password="battery staple")


async def test_passwords_and_secret_keys_are_not_kept_as_they_are(users: Users, keys: AccessKeys, database: Database):
    carol = await users.create("carol", PASSWORD, domain="acme")
    key = await keys.create(carol.user_id)

    async with database.read() as session:
        (user,) = await session.scalars(select(UserRow))
        (row,) = await session.scalars(select(AccessKeyRow))
    assert user.password_hash.startswith("$argon2id$")
    assert key.secret_key not in row.secret_encrypted


async def test_a_user_is_deleted_with_its_keys_and_permissions(
    users: Users, keys: AccessKeys, organizations: Organizations, database: Database
):
    carol = await users.create("carol", PASSWORD, domain="acme")
    key = await keys.create(carol.user_id)
    await organizations.create(carol, NORTH, Namespace("team"))

    await users.delete(carol.user_id)

    assert await users.list_users() == []
    assert await keys.by_key(key.access_key) is None
    async with database.read() as session:
        assert (await session.scalars(select(OrganizationPermissionRow))).all() == []
    assert [found.name for found in await organizations.list_all(NORTH)] == ["team"]
    with pytest.raises(NotFound):
        await users.delete(carol.user_id)


async def test_the_last_administrator_is_kept(users: Users):
    admin = await users.create("admin", PASSWORD, domain="acme", is_admin=True)
    carol = await users.create("carol", PASSWORD, domain="acme")
    disabled = await users.create("disabled", PASSWORD, domain="acme", is_admin=True, enabled=False)

    for refused in (
        users.delete(admin.user_id),
        users.update(admin.user_id, enabled=False),
        users.update(admin.user_id, is_admin=False, description="demoted"),
    ):
        with pytest.raises(Conflict, match='user "admin" is the last administrator; make another one first'):
            await refused
    assert (await users.show(admin.user_id)).description == ""
    await users.update(admin.user_id, enabled=True, is_admin=True)
    await users.delete(disabled.user_id)

    await users.update(carol.user_id, is_admin=True)
    await users.update(admin.user_id, is_admin=False)
    assert [user.name for user in await users.administrators()] == ["carol"]


@pytest.mark.parametrize("way", ["delete", "disable", "demote"])
async def test_two_administrators_who_go_at_once_leave_one(either: Database, vault: Vault, way: str):
    users = Users(either, vault)
    ways: dict[str, Callable[[str], Awaitable[object]]] = {
        "delete": users.delete,
        "disable": partial(users.update, enabled=False),
        "demote": partial(users.update, is_admin=False),
    }
    both = [await users.create(name, PASSWORD, domain="acme", is_admin=True) for name in ("first", "second")]

    results = await asyncio.gather(*(ways[way](user.user_id) for user in both), return_exceptions=True)

    assert sum(isinstance(result, Conflict) for result in results) == 1
    assert sum(user.enabled for user in await users.administrators()) == 1


async def test_a_user_is_changed_all_at_once_or_not_at_all(users: Users):
    carol = await users.create("carol", PASSWORD, domain="acme", description="of the build")
    await users.create("dave", PASSWORD, domain="acme")

    changes: list[tuple[dict[str, Any], type[TagferryError]]] = [
        ({"name": "dave", "description": "other"}, Conflict),
        ({"name": "a b"}, Invalid),
        ({"description": "x" * 256, "name": "carola"}, Invalid),
        ({"description": "\0"}, Invalid),
        ({"password": "shorty7", "name": "carola"}, Invalid),
    ]
    for refused, kind in changes:
        with pytest.raises(kind):
            await users.update(carol.user_id, **refused)
    assert (await users.show(carol.user_id)).description == "of the build"

    changed = await users.update(carol.user_id, name="carola", description="", password="battery staple")
    assert changed == await users.show(carol.user_id)
    assert (changed.name, changed.description) == ("carola", "")
    assert await users.by_password("carola", "battery staple") is not None
    for unknown in ("", "nobody", "\0", "\ud800", "x" * 1000):
        with pytest.raises(NotFound):
            await users.update(unknown, enabled=False)


async def test_a_user_without_a_password_logs_in_by_none(users: Users):
    robot = await users.create("robot", None, domain="acme")

    assert await users.by_password("robot", "") is None
    await users.update(robot.user_id, password=PASSWORD)
    assert await users.by_password("robot", PASSWORD) == robot


async def test_a_disabled_user_is_known_and_let_in_by_nothing(users: Users, keys: AccessKeys):
    carol = await users.create("carol", PASSWORD, domain="acme")
    key = await keys.create(carol.user_id)

    disabled = await users.update(carol.user_id, enabled=False)

    assert await users.list_users(enabled=False) == [disabled]
    assert await users.list_users(enabled=True) == []
    assert await users.by_password("carol", PASSWORD) is None
    assert await users.by_id(carol.user_id) is None
    assert await users.by_credential(carol.user_id, None) is None
    assert await users.by_credential(carol.user_id, key.access_key) is None
    assert await keys.by_key(key.access_key) is None
    await users.update(carol.user_id, enabled=True)
    assert await users.by_password("carol", PASSWORD) == carol
    assert await keys.by_key(key.access_key) == (carol, key.secret_key)


async def test_domains_are_known_by_id_and_have_names_as_users_do(users: Users):
    carol = await users.create("carol", PASSWORD, domain="acme")

    assert await users.domain_name(carol.domain_id) == "acme"
    for unknown in ("", "acme", "\0"):
        with pytest.raises(NotFound, match="domain"):
            await users.domain_name(unknown)
    for name in ("", "a b", "x" * 65):
        with pytest.raises(Invalid, match="domain must be 1 to 64 letters"):
            await users.create("dave", PASSWORD, domain=name)


def test_random_passwords_are_long_and_differ():
    made = {random_password() for _ in range(100)}

    assert len(made) == 100
    assert min(map(len, made)) >= 20
