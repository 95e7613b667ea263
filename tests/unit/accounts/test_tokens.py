"""Tokens got by tokens, on either database."""

from datetime import timedelta

import pytest
from sqlalchemy import delete, func, select

from tagferry.accounts.model import Caller
from tagferry.accounts.tokens import Tokens
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.db.tables import TokenRow
from tagferry.errors import Unauthenticated
from tests.support.clock import Calendar
from tests.unit.accounts.conftest import PASSWORD


async def owner(tokens: Tokens, value: str) -> Caller:
    found = await tokens.owner(value)
    assert found is not None
    return found


async def test_a_revoked_token_ends_all_that_was_got_by_it_and_nothing_else(either: Database, vault: Vault):
    users, tokens = Users(either, vault), Tokens(either, lifetime=timedelta(hours=1))
    carol = await users.create("carol", PASSWORD, domain="acme")
    first, other = await tokens.issue(carol), await tokens.issue(carol)
    second = await tokens.issue(await owner(tokens, first.value), methods=("token",))
    sibling = await tokens.issue(await owner(tokens, first.value), methods=("token",))
    third = await tokens.issue(await owner(tokens, second.value), methods=("token",), is_scoped=False)
    seen = await tokens.find(second.value)
    assert seen is not None
    shown = await owner(tokens, third.value)

    assert seen.methods == ("password", "token")
    assert third.record.expires_at == first.record.expires_at
    await tokens.revoke(seen)

    kept = [await tokens.owner(token.value) is not None for token in (first, second, third, sibling, other)]
    assert kept == [True, False, False, True, True]
    with pytest.raises(Unauthenticated, match="was revoked or has expired"):
        await tokens.issue(shown, methods=("token",))
    await tokens.revoke(seen)
    assert await users.by_credential(carol.user_id, None, shown.credential.token) is None
    assert await users.by_credential(carol.user_id, None, (await owner(tokens, first.value)).credential.token) == carol


async def test_a_clock_that_goes_back_revives_no_token_that_had_expired(either: Database, vault: Vault):
    calendar = Calendar()
    users = Users(either, vault)
    tokens = Tokens(either, lifetime=timedelta(hours=1), clock=calendar)
    token = await tokens.issue(await users.create("carol", PASSWORD, domain="acme"))

    calendar.ahead = timedelta(hours=2)
    assert await tokens.find(token.value) is None
    calendar.ahead = timedelta(days=-365)
    assert await tokens.find(token.value) is None
    calendar.ahead = timedelta(minutes=-4)
    assert await tokens.find(token.value) is not None


async def test_expired_tokens_are_deleted_some_time_later_and_new_ones_keep_what_is_remembered(
    either: Database, vault: Vault
):
    calendar = Calendar()
    users = Users(either, vault)
    tokens = Tokens(either, lifetime=timedelta(minutes=10), clock=calendar)
    carol = await users.create("carol", PASSWORD, domain="acme")

    async def stored() -> int:
        async with either.read() as session:
            return await session.scalar(select(func.count()).select_from(TokenRow)) or 0

    await tokens.issue(carol)
    before = await either.generation.current()
    calendar.ahead += timedelta(minutes=11)
    await tokens.issue(carol)
    assert (await stored(), await either.generation.current()) == (2, before)

    calendar.ahead += timedelta(minutes=61)
    await tokens.issue(carol)
    assert await stored() == 1
    assert await either.generation.current() != before


async def test_a_remembered_token_ends_when_it_expires(either: Database, vault: Vault):
    calendar = Calendar()
    tokens = Tokens(either, lifetime=timedelta(minutes=10), clock=calendar)
    token = await tokens.issue(await Users(either, vault).create("carol", PASSWORD, domain="acme"))
    assert await tokens.owner(token.value) is not None

    calendar.ahead += timedelta(minutes=10)

    assert await tokens.owner(token.value) is None


async def test_the_revocation_of_a_token_that_the_database_has_lost_ends_what_is_remembered_of_it(
    either: Database, vault: Vault
):
    tokens = Tokens(either, lifetime=timedelta(minutes=10))
    token = await tokens.issue(await Users(either, vault).create("carol", PASSWORD, domain="acme"))
    found = await tokens.find(token.value)
    assert found is not None
    async with either.write() as session:
        await session.execute(delete(TokenRow))
    before = await either.generation.current()

    await tokens.revoke(found)

    assert await either.generation.current() != before
    assert await tokens.find(token.value) is None
