"""The client's address for lockouts and the audit log, behind proxies."""

import base64
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.support.deployment import NORTH, Deployment, deployed

ATTACKER, CLIENT = "203.0.113.9", "203.0.113.10"


async def guess(ferry: Deployment, *, address: str, password: str | None = None) -> int:
    login = base64.b64encode(f"{ferry.admin.name}:{password or 'a wrong guess'}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "X-Forwarded-For": address}
    return (await ferry.http("GET", "/v2/_token", headers=headers)).status


async def test_by_default_nobody_is_believed_to_be_a_proxy(tmp_path: Path):
    async with deployed(tmp_path / "data") as ferry:
        guesses = [await guess(ferry, address=f"203.0.113.{number}") for number in range(6)]

    assert guesses == [401] * 5 + [429]


async def test_behind_a_trusted_proxy_a_lock_holds_for_the_client_that_failed(tmp_path: Path):
    async with deployed(tmp_path / "data", trusted_proxies=["127.0.0.0/8"]) as ferry:
        guesses = [await guess(ferry, address=f"{CLIENT}, {ATTACKER}") for _ in range(6)]
        right = [await guess(ferry, address=one, password=ferry.admin.password) for one in (ATTACKER, CLIENT)]

    assert guesses == [401] * 5 + [429]
    assert right == [429, 200]


@pytest.mark.parametrize(("trusted", "address"), [([], "127.0.0.1"), (["127.0.0.1"], ATTACKER)])
async def test_the_audit_log_shows_the_address_that_counts(tmp_path: Path, trusted: list[str], address: str):
    async with deployed(tmp_path / "data", trusted_proxies=trusted) as ferry:
        with structlog.testing.capture_logs() as lines:
            await guess(ferry, address=ATTACKER)

    audited: list[Any] = [line["address"] for line in lines if line["event"] == "request"]
    assert audited == [address]


@pytest.mark.parametrize("trusted", [[], ["127.0.0.1"]])
async def test_the_scheme_that_a_proxy_on_this_machine_was_reached_by_is_told_to_clients(
    tmp_path: Path, trusted: list[str]
):
    for told, scheme in (("https", "https"), ("http", "http"), ("ftp", "http")):
        async with deployed(tmp_path / told, trusted_proxies=trusted) as ferry:
            answer = await ferry.http("GET", "/v2/", headers={"X-Forwarded-Proto": told})

        assert f'realm="{scheme}://{ferry.urls[NORTH].removeprefix("http://")}' in answer.headers["WWW-Authenticate"]
