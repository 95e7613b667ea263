import asyncio
from collections.abc import Awaitable
from datetime import timedelta

import pytest

from tagferry.accounts.authenticate import Authenticator
from tagferry.accounts.keys import AccessKeys
from tagferry.accounts.model import AccessKey, Caller
from tagferry.accounts.temporary import TemporaryCredentials
from tagferry.accounts.tokens import Tokens
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.errors import BadSignature, Throttled, Unauthenticated
from tagferry.signing import Request, login_password
from tests.support.clock import Clock
from tests.unit.accounts.conftest import NORTH, PASSWORD, TOKEN_LIFETIME

HOME, AWAY = "192.0.2.1", "198.51.100.7"


async def test_a_token_is_its_owners_until_it_expires(database: Database, tokens: Tokens, carol: Caller):
    token = await tokens.issue(carol)

    assert token.record.expires_at - token.record.issued_at == TOKEN_LIFETIME
    assert await tokens.owner(token.value) == carol
    assert await tokens.owner(token.value[:-1]) is None
    assert await tokens.owner("") is None
    for lifetime in (timedelta(0), timedelta(seconds=-1)):
        expired = await Tokens(database, lifetime=lifetime).issue(carol)
        assert await tokens.owner(expired.value) is None
    assert await tokens.owner(token.value) == carol


async def test_a_token_ends_with_its_user(tokens: Tokens, users: Users, carol: Caller):
    token = await tokens.issue(carol)

    await users.delete(carol.user_id)

    assert await tokens.owner(token.value) is None


async def test_a_token_lets_in_and_an_unknown_one_tells_how_to_get_one(
    authenticator: Authenticator, tokens: Tokens, carol: Caller
):
    assert await authenticator.by_token((await tokens.issue(carol)).value) == carol

    with pytest.raises(Unauthenticated, match="get a new one by POST /v3/auth/tokens"):
        await authenticator.by_token("unknown")


async def test_a_user_logs_in_by_password(authenticator: Authenticator, carol: Caller):
    assert await authenticator.by_login("carol", PASSWORD, address=HOME) == carol
    assert await authenticator.by_password("carol", PASSWORD, address=HOME) == carol


async def test_a_key_logs_in_by_the_password_derived_from_it(
    authenticator: Authenticator, carol: Caller, key: AccessKey
):
    password = login_password(key.access_key, key.secret_key)

    assert await authenticator.by_login(f"{NORTH}@{key.access_key}", password, address=HOME) == carol


async def test_wrong_logins_are_all_told_the_same(authenticator: Authenticator, carol: Caller, key: AccessKey):
    derived = login_password(key.access_key, key.secret_key)
    wrong = [("carol", "wrong"), ("nobody", PASSWORD), ("carol", ""), ("", ""), ("\ud800", PASSWORD)]
    told = set()
    for number, (name, password) in enumerate(wrong):
        with pytest.raises(Unauthenticated) as refused:
            await authenticator.by_login(name, password, address=f"host {number}")
        told.add(refused.value.message)
    assert told == {"the user name or the password is wrong"}

    wrong = [
        (f"{NORTH}@{key.access_key}", key.secret_key),
        (f"{NORTH}@{key.access_key}", PASSWORD),
        (f"{NORTH}@{key.access_key}", "\ud800"),
        (f"{NORTH}@{key.access_key.lower()}", derived),
        (f"{NORTH}@", derived),
        (f"{NORTH}@\ud800", derived),
        ("carol@acme", PASSWORD),
    ]
    told = set()
    for number, (name, password) in enumerate(wrong):
        with pytest.raises(Unauthenticated) as refused:
            await authenticator.by_login(name, password, address=f"host {number}")
        told.add(refused.value.message)
    assert told == {"the access key or its login password is wrong"}


async def test_a_right_password_is_not_verified_again_for_a_minute_and_others_are(
    authenticator: Authenticator, carol: Caller, vault: Vault, monkeypatch: pytest.MonkeyPatch
):
    time, verified, verify = Clock(), [], vault.password_matches

    async def counting(password: str, hashed: str) -> bool:
        verified.append(password)
        return await verify(password, hashed)

    monkeypatch.setattr("tagferry.accounts.authenticate.time.monotonic", time)
    monkeypatch.setattr(vault, "password_matches", counting)
    for _ in range(3):
        assert await authenticator.by_login("carol", PASSWORD, address=HOME) == carol
    with pytest.raises(Unauthenticated):
        await authenticator.by_login("carol", "other password", address=HOME)
    assert verified == [PASSWORD, "other password"]

    time.now += 61
    assert await authenticator.by_login("carol", PASSWORD, address=HOME) == carol
    assert len(verified) == 3


async def test_a_remembered_login_ends_at_once_with_the_password_the_name_or_the_key(
    authenticator: Authenticator, users: Users, keys: AccessKeys, carol: Caller, key: AccessKey
):
    by_key = f"{NORTH}@{key.access_key}", login_password(key.access_key, key.secret_key)
    for login in (("carol", PASSWORD), by_key):
        await authenticator.by_login(*login, address=HOME)

    await users.update(carol.user_id, is_admin=True)
    assert (await authenticator.by_login("carol", PASSWORD, address=HOME)).is_admin
    await users.update(carol.user_id, name="carola")
    with pytest.raises(Unauthenticated):
        await authenticator.by_login("carol", PASSWORD, address=HOME)
    assert (await authenticator.by_login("carola", PASSWORD, address=HOME)).name == "carola"
    await users.update(carol.user_id, password="battery staple")
    with pytest.raises(Unauthenticated):
        await authenticator.by_login("carola", PASSWORD, address=HOME)
    await keys.update(key.access_key, enabled=False)
    with pytest.raises(Unauthenticated):
        await authenticator.by_login(*by_key, address=HOME)


@pytest.mark.parametrize("what", ["user", "key"])
async def test_nobody_is_let_in_by_what_is_disabled_until_it_is_enabled(
    authenticator: Authenticator,
    users: Users,
    keys: AccessKeys,
    tokens: Tokens,
    temporary: TemporaryCredentials,
    carol: Caller,
    key: AccessKey,
    what: str,
):
    async def enable(enabled: bool) -> None:
        if what == "user":
            await users.update(carol.user_id, enabled=enabled)
        else:
            await keys.update(key.access_key, enabled=enabled)

    owner = await authenticator.by_secret_key(key.access_key, key.secret_key, address=HOME)
    token = (await tokens.issue(owner)).value
    secret = await temporary.create_login(owner, timedelta(hours=1))
    made = await temporary.create_key(owner, timedelta(hours=1))
    derived = login_password(key.access_key, key.secret_key)

    def ways() -> list[Awaitable[Caller]]:
        return [
            authenticator.by_secret_key(key.access_key, key.secret_key, address=HOME),
            authenticator.by_token(token),
            authenticator.by_login(f"{NORTH}@{key.access_key}", derived, address=HOME),
            authenticator.by_login(f"{NORTH}@{secret.access_key}", secret.password, address=HOME),
        ]

    for way in ways():
        assert await way == carol
    await enable(False)
    for way in ways():
        with pytest.raises(Unauthenticated):
            await way
    assert await temporary.by_key(made.access_key, made.security_token) is None
    with pytest.raises(Unauthenticated, match="deleted or disabled"):
        await temporary.create_login(owner, timedelta(hours=1))
    await enable(True)
    for way in ways():
        assert await way == carol
    assert await temporary.by_key(made.access_key, made.security_token) == (carol, made.secret_key)


async def test_a_wrong_login_is_not_remembered(authenticator: Authenticator, users: Users, carol: Caller):
    with pytest.raises(Unauthenticated):
        await authenticator.by_login("carol", "battery staple", address=HOME)
    await users.update(carol.user_id, password="battery staple")

    assert await authenticator.by_login("carol", "battery staple", address=HOME) == carol


async def test_name_and_password_are_not_confused_with_another_pair(authenticator: Authenticator, users: Users):
    await users.create("ab", "cdefghijkl", domain="acme")
    await authenticator.by_login("ab", "cdefghijkl", address=HOME)

    with pytest.raises(Unauthenticated):
        await authenticator.by_login("abc", "defghijkl", address=HOME)


async def test_only_so_many_logins_are_remembered(
    authenticator: Authenticator, users: Users, carol: Caller, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.accounts.authenticate._REMEMBER_LIMIT", 1)
    await users.create("dave", PASSWORD, domain="acme")
    await authenticator.by_login("carol", PASSWORD, address=HOME)
    await authenticator.by_login("dave", PASSWORD, address=HOME)
    await users.update(carol.user_id, password="battery staple")

    with pytest.raises(Unauthenticated):
        await authenticator.by_login("carol", PASSWORD, address=HOME)


async def test_too_many_wrong_passwords_lock_the_name_for_that_address(
    authenticator: Authenticator, carol: Caller, clock: Clock
):
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await authenticator.by_login("carol", "wrong", address=HOME)

    with pytest.raises(Throttled):
        await authenticator.by_login("carol", PASSWORD, address=HOME)
    assert await authenticator.by_password("carol", PASSWORD, address=AWAY) == carol
    clock.now += 60
    assert await authenticator.by_login("carol", PASSWORD, address=HOME) == carol


async def test_wrong_passwords_that_come_all_at_once_lock_the_name_too(authenticator: Authenticator, carol: Caller):
    guesses = [authenticator.by_password(carol.name, "wrong", address=HOME) for _ in range(8)]

    results = await asyncio.gather(*guesses, return_exceptions=True)

    assert sorted(type(result).__name__ for result in results) == ["LoginThrottled"] * 5 + ["Unauthenticated"] * 3


async def test_too_many_wrong_derived_passwords_lock_the_key(
    authenticator: Authenticator, carol: Caller, key: AccessKey
):
    login = f"{NORTH}@{key.access_key}"
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await authenticator.by_login(login, "wrong", address=HOME)

    password = login_password(key.access_key, key.secret_key)
    with pytest.raises(Throttled):
        await authenticator.by_login(login, password, address=HOME)
    assert await authenticator.by_login(login, password, address=AWAY) == carol


async def test_a_key_of_any_bytes_is_unknown_and_told_as_text(authenticator: Authenticator):
    request = Request(method="GET", path="/", query="", headers=(), body=b"")
    authorization = "SDK-HMAC-SHA256 Access=\udcff\0, SignedHeaders=host, Signature=0"

    with pytest.raises(BadSignature) as refused:
        await authenticator.by_signature(request, authorization, address=HOME)

    assert refused.value.message.encode() == b"the access key \\udcff\\x00 is unknown or disabled"


async def test_an_unknown_key_or_an_unreadable_signature_lets_nobody_in(authenticator: Authenticator):
    request = Request(method="GET", path="/v2/manage/namespaces", query="", headers=(), body=b"")
    authorization = f"SDK-HMAC-SHA256 Access=UNKNOWN, SignedHeaders=x-sdk-date, Signature={'0' * 64}"

    with pytest.raises(Unauthenticated):
        await authenticator.by_signature(request, "nonsense", address=HOME)
    for _ in range(3):
        with pytest.raises(BadSignature, match="the access key UNKNOWN is unknown"):
            await authenticator.by_signature(request, authorization, address=HOME)
    with pytest.raises(Throttled):
        await authenticator.by_signature(request, authorization, address=HOME)
