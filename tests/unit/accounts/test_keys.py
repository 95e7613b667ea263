import pytest
from cryptography.fernet import Fernet

from tagferry.accounts.keys import AccessKeys
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.errors import NotFound
from tests.unit.accounts.conftest import PASSWORD


async def test_a_key_leads_to_its_owner_and_its_secret(users: Users, keys: AccessKeys):
    carol = await users.create("carol", PASSWORD, domain="acme")
    first, second = await keys.create(carol.user_id), await keys.create(carol.user_id)

    assert await keys.by_key(first.access_key) == (carol, first.secret_key)
    assert [key.access_key for key in await keys.list_of(carol.user_id)] == [first.access_key, second.access_key]
    assert (len(first.access_key), len(first.secret_key)) == (20, 40)
    assert first.access_key.isalnum()
    assert first.access_key == first.access_key.upper()
    assert len({first.access_key, second.access_key, first.secret_key, second.secret_key}) == 4


async def test_a_deleted_key_leads_nowhere_and_leaves_the_others(users: Users, keys: AccessKeys):
    carol = await users.create("carol", PASSWORD, domain="acme")
    first, second = await keys.create(carol.user_id), await keys.create(carol.user_id)

    await keys.delete(first.access_key)

    assert await keys.by_key(first.access_key) is None
    assert await keys.by_key(second.access_key) == (carol, second.secret_key)
    with pytest.raises(NotFound, match=f"access key {first.access_key} does not exist"):
        await keys.delete(first.access_key)


async def test_keys_are_made_for_users_only(keys: AccessKeys):
    with pytest.raises(NotFound, match="user nobody"):
        await keys.create("nobody")


@pytest.mark.parametrize("access_key", ["", "a b", "²", "A" * 20, "a\0", "\ud800"])
async def test_what_is_no_key_is_nobodys(keys: AccessKeys, access_key: str):
    assert await keys.by_key(access_key) is None


async def test_keys_outlive_a_rotation_of_the_vaults_key(users: Users, database: Database):
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    carol = await users.create("carol", PASSWORD, domain="acme")
    key = await AccessKeys(database, Vault([old])).create(carol.user_id)

    assert await AccessKeys(database, Vault([new, old])).by_key(key.access_key) == (carol, key.secret_key)
