"""The regions of a server with their health, over the API and the command line."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tagferry.accounts.model import Permission
from tagferry.cli.commands import app
from tests.support.deployment import NORTH, SOUTH, Deployment, deployed, eventually
from tests.support.processes import free_port

REGIONS = "/v2/manage/regions"


async def listed(ferry: Deployment, headers: dict[str, str]) -> list[dict[str, Any]]:
    """Return the regions once each has been checked."""

    async def checked() -> list[dict[str, Any]]:
        regions: list[dict[str, Any]] = (await ferry.http("GET", REGIONS, headers=headers)).document
        return regions if all("health" in one for one in regions) else []

    return await eventually(checked)


async def test_regions_are_listed_with_their_health(tmp_path: Path):
    regions: dict[str, dict[str, Any]] = {
        NORTH: {"listen": ""},
        SOUTH: {"registry": f"http://127.0.0.1:{free_port()}"},
    }
    async with deployed(tmp_path / "data", regions=regions, health={"check_interval_seconds": 0.2}) as ferry:
        headers = {"X-Auth-Token": await ferry.token()}
        north, south = await listed(ferry, headers)

    assert (north["regionID"], north["health"]["state"]) == (NORTH, "ok")
    assert 0 < north["health"]["diskFreeBytes"] <= north["health"]["diskTotalBytes"]
    assert "reason" not in north["health"]
    assert (south["regionID"], south["health"]["state"]) == (SOUTH, "unreachable")
    assert "could not be reached" in south["health"]["reason"]


async def test_a_region_is_checked_on_request(tmp_path: Path):
    async with deployed(tmp_path / "data", health={"check_interval_seconds": 0}) as ferry:
        headers = {"X-Auth-Token": await ferry.token()}
        before = (await ferry.http("GET", f"{REGIONS}/{NORTH}", headers=headers)).document
        checked = (await ferry.http("POST", f"{REGIONS}/{NORTH}/check", headers=headers)).document
        after = (await ferry.http("GET", f"{REGIONS}/{NORTH}", headers=headers)).document

    assert before == {"regionID": NORTH, "url": ferry.urls[NORTH], "embedded": True}
    assert checked["health"]["state"] == "ok"
    assert after == checked


async def test_a_remote_region_is_shown_with_what_is_known_of_its_registry(tmp_path: Path):
    port = free_port()
    regions: dict[str, dict[str, Any]] = {
        NORTH: {"listen": f"127.0.0.1:{port}"},
        SOUTH: {"registry": f"http://127.0.0.1:{port}"},
    }
    async with deployed(tmp_path / "data", regions=regions) as ferry:
        headers = {"X-Auth-Token": await ferry.token()}
        shown = (await ferry.http("POST", f"{REGIONS}/{SOUTH}/check", headers=headers)).document

    assert shown["embedded"] is False
    assert shown["load"] == {"requests": 0, "maxRequests": 64}
    assert shown["capabilities"] == {}
    assert shown["health"]["latencySeconds"] > 0


async def test_others_see_the_state_and_not_its_reason(tmp_path: Path):
    regions: dict[str, dict[str, Any]] = {
        NORTH: {"listen": ""},
        SOUTH: {"registry": f"http://127.0.0.1:{free_port()}"},
    }
    async with deployed(tmp_path / "data", regions=regions, health={"check_interval_seconds": 0.2}) as ferry:
        password, _ = await ferry.user("carol", team=Permission.READ)
        headers = {"X-Auth-Token": await ferry.token(user="carol", password=password)}
        north, south = await listed(ferry, headers)
        shown = (await ferry.http("GET", f"{REGIONS}/{SOUTH}", headers=headers)).document
        refused = await ferry.http("POST", f"{REGIONS}/{SOUTH}/check", headers=headers)
        missing = await ferry.http("GET", f"{REGIONS}/west", headers=headers)

    assert set(north["health"]) & {"reason", "diskFreeBytes", "diskTotalBytes"} == set()
    assert (south["health"]["state"], "reason" in south["health"]) == ("unreachable", False)
    assert set(shown) & {"load", "capabilities"} == set()
    assert refused.status == 403
    assert missing.status == 404


async def invoke(ferry: Deployment, *arguments: str) -> str:
    environment = {
        "TAGFERRY_ENDPOINT": ferry.urls[NORTH],
        "CLOUD_SDK_AK": ferry.admin.key.access_key,
        "CLOUD_SDK_SK": ferry.admin.key.secret_key,
        "COLUMNS": "200",
    }
    result = await asyncio.to_thread(CliRunner().invoke, app, ["region", *arguments], env=environment)
    assert result.exit_code == 0, (result.exception, result.output)
    return result.stdout


async def test_the_command_shows_the_regions_of_a_server(ferry: Deployment):
    shown = await invoke(ferry, "show", NORTH, "--check")
    table = await invoke(ferry, "list")
    as_json = json.loads(await invoke(ferry, "list", "--json"))

    assert "disk" in shown
    assert "free of" in shown
    assert NORTH in table
    assert [one["regionID"] for one in as_json] == [NORTH, SOUTH]


def test_a_check_by_a_server_needs_its_address(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TAGFERRY_ENDPOINT", raising=False)

    result = CliRunner().invoke(app, ["region", "show", "north", "--check"])

    assert "requires --endpoint" in str(result.exception)
