import asyncio

import pytest
from cryptography.fernet import Fernet

from tagferry.accounts.keys import AccessKeys
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.errors import Conflict, Invalid, NotFound
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
    with pytest.raises(NotFound, match=f'access key "{first.access_key}" does not exist'):
        await keys.delete(first.access_key)


async def test_keys_are_made_for_users_only(keys: AccessKeys):
    with pytest.raises(NotFound, match='user "nobody"'):
        await keys.create("nobody")


@pytest.mark.parametrize("access_key", ["", "a b", "²", "A" * 20, "a\0", "\ud800"])
async def test_what_is_no_key_is_nobodys(keys: AccessKeys, access_key: str):
    assert await keys.by_key(access_key) is None


async def test_keys_outlive_a_rotation_of_the_vaults_key(users: Users, database: Database):
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    carol = await users.create("carol", PASSWORD, domain="acme")
    key = await AccessKeys(database, Vault([old])).create(carol.user_id)

    assert await AccessKeys(database, Vault([new, old])).by_key(key.access_key) == (carol, key.secret_key)


async def test_a_disabled_key_leads_nowhere_until_it_is_enabled(users: Users, keys: AccessKeys):
    carol = await users.create("carol", PASSWORD, domain="acme")
    key = await keys.create(carol.user_id, description="nightly")

    disabled = await keys.update(key.access_key, enabled=False)

    assert disabled == await keys.show(key.access_key)
    assert (disabled.enabled, disabled.description) == (False, "nightly")
    assert await keys.by_key(key.access_key) is None
    assert await users.by_credential(carol.user_id, key.access_key) is None
    await keys.update(key.access_key, enabled=True, description="")
    assert await keys.by_key(key.access_key) == (carol, key.secret_key)


async def test_what_is_no_key_is_neither_shown_nor_changed(users: Users, keys: AccessKeys):
    carol = await users.create("carol", PASSWORD, domain="acme")
    key = await keys.create(carol.user_id)

    for unknown in ("", "A" * 20, "\0", "\ud800"):
        for work in (keys.show(unknown), keys.update(unknown, enabled=False), keys.delete(unknown)):
            with pytest.raises(NotFound, match="access key"):
                await work
    with pytest.raises(Invalid, match="description"):
        await keys.update(key.access_key, enabled=False, description="x" * 256)
    assert (await keys.show(key.access_key)).enabled


async def test_no_more_keys_are_made_than_a_user_may_have(either: Database, vault: Vault):
    carol = await Users(either, vault).create("carol", PASSWORD, domain="acme")
    keys = AccessKeys(either, vault)

    results = await asyncio.gather(*(keys.create(carol.user_id, limit=2) for _ in range(4)), return_exceptions=True)

    assert sum(isinstance(result, Conflict) for result in results) == 2
    assert len(await keys.list_of(carol.user_id)) == 2


async def test_the_last_use_is_put_on_record_once_in_a_while(
    users: Users, keys: AccessKeys, database: Database, vault: Vault
):
    carol = await users.create("carol", PASSWORD, domain="acme")
    key = await keys.create(carol.user_id)
    assert (await keys.show(key.access_key)).last_used_at is None

    keys.used(key.access_key)
    keys.used(key.access_key)
    assert len(keys._writes) == 1
    await keys.close()
    first = (await keys.show(key.access_key)).last_used_at
    assert first is not None

    other = AccessKeys(database, vault)
    other.used(key.access_key)
    await other.close()
    assert (await keys.show(key.access_key)).last_used_at == first
