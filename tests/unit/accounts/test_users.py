import asyncio

import pytest
from sqlalchemy import select

from tagferry.accounts.keys import AccessKeys
from tagferry.accounts.organizations import Organizations
from tagferry.accounts.users import Users, random_password
from tagferry.db.engine import Database
from tagferry.db.tables import AccessKeyRow, OrganizationPermissionRow, UserRow
from tagferry.errors import Conflict, Invalid, NotFound
from tagferry.names import Namespace
from tests.unit.accounts.conftest import NORTH, PASSWORD


async def test_a_user_is_found_by_its_name_and_listed_among_all(users: Users):
    carol = await users.create("carol", PASSWORD, domain="acme")
    admin = await users.create("admin", PASSWORD, domain="acme", is_admin=True)
    other = await users.create("bob", PASSWORD, domain="other")

    assert await users.find("carol") == carol
    assert await users.list_users() == [admin, other, carol]
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

    with pytest.raises(Conflict, match="the user carol exists already"):
        await users.create("carol", PASSWORD, domain="other")
    results = await asyncio.gather(
        *(users.create("dave", PASSWORD, domain="third") for _ in range(3)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["Caller", "Conflict", "Conflict"]


async def test_a_short_password_is_refused_without_being_told(users: Users):
    with pytest.raises(Invalid) as refused:
        await users.create("carol", "shorty7", domain="acme")
    assert refused.value.message == "password must be at least 8 characters long"

    await users.create("carol", "8 signs.", domain="acme")
    with pytest.raises(Invalid, match="at least 8 characters"):
        await users.set_password("carol", "shorty7")
    assert await users.by_password("carol", "8 signs.") is not None


async def test_only_the_right_password_of_the_right_user_is_right(users: Users):
    carol = await users.create("carol", PASSWORD, domain="acme")
    await users.create("dave", "another one", domain="acme")

    assert await users.by_password("carol", PASSWORD) == carol
    for name, password in (("carol", "another one"), ("carol", ""), ("nobody", PASSWORD), ("carol", "\ud800")):
        assert await users.by_password(name, password) is None


async def test_a_new_password_replaces_the_old_one(users: Users):
    await users.create("carol", PASSWORD, domain="acme")

    await users.set_password("carol", "battery staple")

    assert await users.by_password("carol", PASSWORD) is None
    assert await users.by_password("carol", "battery staple") is not None
    with pytest.raises(NotFound, match="user nobody does not exist"):
        await users.set_password("nobody", "battery staple")


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

    await users.delete("carol")

    assert await users.list_users() == []
    assert await keys.by_key(key.access_key) is None
    async with database.read() as session:
        assert (await session.scalars(select(OrganizationPermissionRow))).all() == []
    assert [found.name for found in await organizations.list_all(NORTH)] == ["team"]
    with pytest.raises(NotFound):
        await users.delete("carol")


async def test_the_last_administrator_is_kept(users: Users):
    await users.create("admin", PASSWORD, domain="acme", is_admin=True)
    await users.create("carol", PASSWORD, domain="acme")

    with pytest.raises(Conflict, match="admin is the last administrator; make another one first"):
        await users.delete("admin")

    await users.create("second", PASSWORD, domain="acme", is_admin=True)
    results = await asyncio.gather(users.delete("admin"), users.delete("second"), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Conflict", "NoneType"]
    assert sum(user.is_admin for user in await users.list_users()) == 1


def test_random_passwords_are_long_and_differ():
    made = {random_password() for _ in range(100)}

    assert len(made) == 100
    assert min(map(len, made)) >= 20
