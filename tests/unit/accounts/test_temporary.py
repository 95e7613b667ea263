"""Credentials that expire, and end with what they go back to."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select

from tagferry.accounts.authenticate import Authenticator
from tagferry.accounts.keys import AccessKeys
from tagferry.accounts.model import AccessKey, Caller, Credential, TemporaryKey
from tagferry.accounts.temporary import TemporaryCredentials, parse_lifetime
from tagferry.accounts.tokens import Tokens
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.db.tables import AccessKeyRow
from tagferry.errors import BadSignature, Invalid, Throttled, Unauthenticated
from tagferry.signing import Request, sign
from tests.support.clock import Calendar
from tests.unit.accounts.conftest import PASSWORD

HOME = "192.0.2.1"
HOUR = timedelta(hours=1)


async def by_key(keys: AccessKeys, key: AccessKey) -> Caller:
    """The caller that a permanent access key makes."""
    found = await keys.by_key(key.access_key)
    assert found is not None
    return found[0]


async def test_a_login_secret_lets_its_user_in_until_it_expires_however_lately_it_was_right(
    authenticator: Authenticator, temporary: TemporaryCredentials, calendar: Calendar, carol: Caller
):
    secret = await temporary.create_login(carol, HOUR)
    login = (f"cn-north-4@{secret.access_key}", secret.password)

    assert await authenticator.by_login(*login, address=HOME) == carol
    calendar.ahead = HOUR - timedelta(seconds=5)
    assert await authenticator.by_login(*login, address=HOME) == carol
    calendar.ahead = HOUR
    for _ in range(4):
        with pytest.raises(Unauthenticated, match=r"has expired; get a new one by POST /v2/manage/utils/secret"):
            await authenticator.by_login(*login, address=HOME)


async def test_a_login_secret_is_good_with_its_own_name_only_and_wrong_ones_lock(
    authenticator: Authenticator, temporary: TemporaryCredentials, carol: Caller
):
    first, second = await temporary.create_login(carol, HOUR), await temporary.create_login(carol, HOUR)

    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await authenticator.by_login(f"x@{first.access_key}", second.password, address=HOME)
    with pytest.raises(Throttled):
        await authenticator.by_login(f"x@{first.access_key}", first.password, address=HOME)
    assert await authenticator.by_login(f"x@{second.access_key}", second.password, address=HOME) == carol


async def test_what_a_key_made_ends_with_the_key_and_not_with_the_password(
    users: Users, keys: AccessKeys, temporary: TemporaryCredentials, carol: Caller, key: AccessKey
):
    caller = await by_key(keys, key)
    login, made = await temporary.create_login(caller, HOUR), await temporary.create_key(caller, HOUR)

    await users.update(carol.user_id, password="battery staple")
    assert await temporary.by_login(login.access_key, login.password) == carol
    assert await temporary.by_key(made.access_key, made.security_token) == (carol, made.secret_key)
    await keys.delete(key.access_key)
    assert await temporary.by_login(login.access_key, login.password) is None
    assert await temporary.by_key(made.access_key, made.security_token) is None


async def test_what_a_password_made_ends_with_the_password_and_not_with_a_key(
    users: Users, keys: AccessKeys, temporary: TemporaryCredentials, carol: Caller, key: AccessKey
):
    login = await temporary.create_login(carol, HOUR)

    await keys.delete(key.access_key)
    assert await temporary.by_login(login.access_key, login.password) == carol
    await users.update(carol.user_id, password=PASSWORD)
    assert await temporary.by_login(login.access_key, login.password) is None


async def test_all_ends_with_the_user(
    users: Users, keys: AccessKeys, temporary: TemporaryCredentials, carol: Caller, key: AccessKey
):
    made = [await temporary.create_login(caller, HOUR) for caller in (carol, await by_key(keys, key))]

    await users.delete(carol.user_id)

    assert [await temporary.by_login(one.access_key, one.password) for one in made] == [None, None]
    with pytest.raises(Unauthenticated, match="deleted or disabled"):
        await temporary.create_login(carol, HOUR)


async def test_nothing_outlives_what_it_was_got_by(
    temporary: TemporaryCredentials, tokens: Tokens, calendar: Calendar, carol: Caller
):
    token = await tokens.issue(carol)
    owner = await tokens.owner(token.value)
    assert owner is not None
    made = await temporary.create_key(owner, 24 * HOUR)
    assert made.expires_at == token.record.expires_at

    calendar.ahead = 2 * HOUR
    found = await temporary.by_key(made.access_key, made.security_token)
    assert found is not None
    again = await temporary.create_key(found[0], 24 * HOUR)

    assert again.expires_at == made.expires_at
    assert found[0].credential.is_temporary_key


async def test_the_kinds_are_not_taken_for_each_other(
    temporary: TemporaryCredentials, vault: Vault, database: Database, carol: Caller, key: AccessKey
):
    login, made = await temporary.create_login(carol, HOUR), await temporary.create_key(carol, HOUR)
    async with database.read() as session:
        (kept,) = await session.scalars(select(AccessKeyRow.secret_encrypted))

    assert await temporary.by_key(login.access_key, login.password) is None
    assert await temporary.by_login(made.access_key, made.security_token) is None
    other = TemporaryCredentials(temporary._users, Vault([Fernet.generate_key().decode()]))
    assert await other.by_login(login.access_key, login.password) is None
    for text in ("", "x", "é", "\ud800", "\udcff", kept, login.password[:-8], vault.encrypt("[]"), vault.encrypt("{}")):
        assert await temporary.by_login(login.access_key, text) is None
        assert await temporary.by_key(made.access_key, text) is None


async def test_secrets_outlive_a_rotation_of_the_vaults_key(users: Users, carol: Caller):
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    secret = await TemporaryCredentials(users, Vault([old])).create_login(carol, HOUR)

    rotated = TemporaryCredentials(users, Vault([new, old]))

    assert await rotated.by_login(secret.access_key, secret.password) == carol


def signed(made: TemporaryKey, token: str | None) -> tuple[Request, str]:
    """A signed request, and its Authorization."""
    headers = [("Host", "localhost")] + ([] if token is None else [("X-Security-Token", token)])
    request = Request(method="GET", path="/v2/manage/namespaces", query="", headers=headers, body=b"")
    added = sign(request, made.access_key, made.secret_key, now=datetime.now(UTC))
    return replace(request, headers=[*headers, *added.items()]), added["Authorization"]


async def test_a_temporary_key_signs_with_its_own_token_until_it_expires(
    authenticator: Authenticator, temporary: TemporaryCredentials, calendar: Calendar, carol: Caller
):
    made, other = await temporary.create_key(carol, HOUR), await temporary.create_key(carol, HOUR)

    assert await authenticator.by_signature(*signed(made, made.security_token), address=HOME) == carol
    with pytest.raises(BadSignature, match="a temporary one needs its X-Security-Token"):
        await authenticator.by_signature(*signed(made, None), address="a")
    for wrong in (other.security_token, "", "\udcff"):
        with pytest.raises(BadSignature, match="X-Security-Token does not match"):
            await authenticator.by_signature(*signed(made, wrong), address="b")
    forged = replace(made, secret_key="x" * 40)
    with pytest.raises(BadSignature, match="does not match"):
        await authenticator.by_signature(*signed(forged, made.security_token), address="c")
    with pytest.raises(Throttled):
        await authenticator.by_signature(*signed(made, made.security_token), address="b")
    calendar.ahead = HOUR
    with pytest.raises(Unauthenticated, match=r"has expired; get a new one by POST /v3\.0/OS-CREDENTIAL/securitytok"):
        await authenticator.by_signature(*signed(made, made.security_token), address=HOME)


async def test_a_permanent_key_needs_no_token_and_takes_none(
    authenticator: Authenticator, temporary: TemporaryCredentials, carol: Caller, key: AccessKey
):
    lasting = TemporaryKey(key.access_key, key.secret_key, "", datetime.now(UTC))
    made = await temporary.create_key(carol, HOUR)

    assert await authenticator.by_signature(*signed(lasting, None), address=HOME) == carol
    with pytest.raises(BadSignature, match="X-Security-Token does not match"):
        await authenticator.by_signature(*signed(lasting, made.security_token), address=HOME)


async def test_a_token_got_by_a_key_ends_with_it_and_others_with_the_password(
    users: Users, keys: AccessKeys, tokens: Tokens, authenticator: Authenticator, carol: Caller, key: AccessKey
):
    caller = await authenticator.by_secret_key(key.access_key, key.secret_key, address=HOME)
    assert caller.credential == Credential(access_key=key.access_key, version=key.access_key)
    by_secret, by_password = await tokens.issue(caller, methods=("hw_ak_sk",)), await tokens.issue(carol)

    await users.update(carol.user_id, password="battery staple")
    assert await tokens.owner(by_password.value) is None
    assert await tokens.owner(by_secret.value) == carol
    await keys.delete(key.access_key)
    assert await tokens.owner(by_secret.value) is None


async def test_nothing_is_made_from_a_password_that_was_changed_meanwhile(
    users: Users, tokens: Tokens, temporary: TemporaryCredentials, authenticator: Authenticator, carol: Caller
):
    by_password = await authenticator.by_password("carol", PASSWORD, address=HOME)
    by_token = await tokens.owner((await tokens.issue(by_password)).value)
    assert by_token is not None
    await temporary.create_login(by_token, HOUR)

    await users.update(carol.user_id, password="battery staple")

    with pytest.raises(Unauthenticated, match="deleted or disabled"):
        await tokens.issue(by_password)
    with pytest.raises(Unauthenticated, match="deleted or disabled"):
        await temporary.create_login(by_token, HOUR)
    await users.delete(carol.user_id)
    with pytest.raises(Unauthenticated, match="deleted or disabled"):
        await tokens.issue(carol)


@pytest.mark.parametrize("secret", ["", "x" * 40, "\ud800"])
async def test_a_wrong_secret_key_is_refused_and_locks(
    authenticator: Authenticator, carol: Caller, key: AccessKey, secret: str
):
    for _ in range(3):
        with pytest.raises(Unauthenticated, match="the access key or its secret is wrong"):
            await authenticator.by_secret_key(key.access_key, secret, address=HOME)
    with pytest.raises(Throttled):
        await authenticator.by_secret_key(key.access_key, key.secret_key, address=HOME)


def test_a_lifetime_is_from_a_quarter_of_an_hour_to_a_day():
    assert parse_lifetime("duration_seconds", 900) == timedelta(minutes=15)
    assert parse_lifetime("duration_seconds", 86400) == timedelta(days=1)
    for wrong in (899, 86401, 0, -1):
        with pytest.raises(Invalid, match="duration_seconds must be 900 to 86400 seconds"):
            parse_lifetime("duration_seconds", wrong)


async def test_a_clock_that_goes_back_revives_no_credential_that_had_expired(
    authenticator: Authenticator, temporary: TemporaryCredentials, calendar: Calendar, carol: Caller
):
    secret = await temporary.create_login(carol, HOUR)
    calendar.ahead = timedelta(days=-365)

    with pytest.raises(Unauthenticated, match="issued in the future by this server's clock"):
        await authenticator.by_login(f"x@{secret.access_key}", secret.password, address=HOME)
