"""Floods of wrong passwords neither delay nor lock out other users, and are audited by their number."""

import asyncio
import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pytest
from sqlalchemy import func, select

from tagferry.accounts.vault import HASHING_THREADS, Vault
from tagferry.db.tables import AuditRecordRow
from tests.support.browser import Browser
from tests.support.deployment import NORTH, Deployment, eventually
from tests.support.raw_client import connected

pytestmark = pytest.mark.long

FORM, API = "127.0.0.2", "127.0.0.3"
"""The addresses that try passwords in the form for signing in, and at the API."""
GUESSES = 40
ATTEMPTS = 5
"""Failures that lock a name."""


def guess_in_form(name: str) -> bytes:
    body = urlencode({"name": name, "password": "a wrong guess"}).encode()
    head = b"POST /console/sign-in HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: same-origin\r\nConnection: close\r\n"
    kind = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + kind + body


def guess_at_api(name: str) -> bytes:
    user = {"name": name, "password": "a wrong guess"}
    body = json.dumps({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}).encode()
    head = b"POST /v3/auth/tokens HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    kind = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + kind + body


async def guess(ferry: Deployment, address: str) -> int:
    """Try a wrong password; returns the status of the answer, or 0 if the connection was refused."""
    send = guess_in_form if address == FORM else guess_at_api
    with suppress(OSError, asyncio.IncompleteReadError):
        async with connected(ferry.urls[NORTH], source=address) as client:
            await client.send(send(ferry.admin.name))
            return (await client.answer()).status
    return 0


async def test_wrong_passwords_from_elsewhere_neither_delay_nor_lock_out_the_user(
    ferry: Deployment, browser: Browser, monkeypatch: pytest.MonkeyPatch
):
    verified: list[str] = []
    password_matches = Vault.password_matches

    async def counted(self: Vault, password: str, hashed: str) -> bool:
        verified.append(password)
        return await password_matches(self, password, hashed)

    monkeypatch.setattr(Vault, "password_matches", counted)
    guesses = [asyncio.create_task(guess(ferry, address)) for address in (FORM, API) for _ in range(GUESSES)]

    signed_in = await browser.sign_in(ferry.admin.name, ferry.admin.password, follow=False)
    statuses = set(await asyncio.gather(*guesses))

    assert (signed_in.status, signed_in.location) == (303, "/console/")
    assert {401, 429} <= statuses <= {0, 401, 429, 503}
    # Guesses that were already being verified together when the name was locked are the only further ones.
    assert verified.count("a wrong guess") < 2 * (ATTEMPTS + HASHING_THREADS)
    # The user is not locked afterwards either, also in the other way to sign in; those addresses are.
    assert await ferry.token()
    assert {await guess(ferry, FORM), await guess(ferry, API)} <= {0, 429, 503}


async def test_wrong_passwords_are_not_recorded_one_by_one(ferry: Deployment):
    trail, database = ferry.app.services.trail, ferry.app.accounts.database
    assert trail is not None
    for _ in range(GUESSES):
        await guess(ferry, FORM)
        await guess(ferry, API)

    async def is_written() -> bool:
        return not trail._unwritten

    assert await eventually(is_written)
    async with database.read() as session:
        counted = select(func.count()).where(AuditRecordRow.address.in_((FORM, API)))
        records = await session.scalar(counted) or 0
    # One for each address and status, and the sum of the others each minute.
    assert 2 <= records < GUESSES


@pytest.fixture
def sheds_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One refused login is enough to refuse further connections from its address, for a long time."""
    monkeypatch.setattr("tagferry.web.server.connections.SHED_PER_ADDRESS", 1)
    monkeypatch.setattr("tagferry.web.server.connections.SHED_SECONDS", 1000)


async def is_shed(ferry: Deployment) -> bool:
    async with connected(ferry.urls[NORTH]) as client:
        return (await client.rest()).startswith(b"HTTP/1.1 503 ")


@pytest.mark.usefixtures("sheds_at_once")
async def test_signing_in_while_the_name_is_locked_is_slowed_down_as_at_the_apis(ferry: Deployment, browser: Browser):
    for _ in range(ATTEMPTS):
        assert (await browser.sign_in(ferry.admin.name, "a wrong guess")).status == 401
    refused = await browser.sign_in(ferry.admin.name, "a wrong guess")

    assert refused.status == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 300
    assert await is_shed(ferry)


@pytest.mark.usefixtures("sheds_at_once")
async def test_so_is_changing_a_password_by_a_wrong_one(ferry: Deployment, administrator: Browser):
    fields: dict[str, Any] = {
        "current": "a wrong guess",
        "password": "another long one",
        "repeated": "another long one",
    }
    for _ in range(ATTEMPTS):
        assert (await administrator.post("/console/account/password", fields)).status == 400
    refused = await administrator.post("/console/account/password", fields)

    assert refused.status == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 300
    assert await is_shed(ferry)
