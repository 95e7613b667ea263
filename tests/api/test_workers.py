"""The list of processes, over the API and the command line."""

import asyncio
import json
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from typer.testing import CliRunner

from tagferry import __version__
from tagferry.accounts.model import Permission
from tagferry.app import open_backend
from tagferry.cli.commands import app
from tagferry.settings import Settings
from tests.support.deployment import NORTH, SOUTH, Deployment, deployed, eventually
from tests.support.postgres import PostgresServer
from tests.support.processes import free_port

WORKERS = "/v2/manage/workers"


async def test_this_process_is_listed(ferry: Deployment):
    headers = {"X-Auth-Token": await ferry.token()}

    async def listed() -> object:
        return (await ferry.http("GET", WORKERS, headers=headers)).document

    await eventually(listed)
    environment = {
        "TAGFERRY_ENDPOINT": ferry.urls[NORTH],
        "CLOUD_SDK_AK": ferry.admin.key.access_key,
        "CLOUD_SDK_SK": ferry.admin.key.secret_key,
        "COLUMNS": "200",
    }
    shown = await asyncio.to_thread(CliRunner().invoke, app, ["worker", "list", "--json"], env=environment)
    table = await asyncio.to_thread(CliRunner().invoke, app, ["worker", "list"], env=environment)

    (one,) = json.loads(shown.stdout)
    assert (one["version"], one["regions"], one["slots"], one["running"]) == (__version__, [NORTH, SOUTH], 32, 0)
    assert (one["leader"], one["lost"]) == (True, False)
    assert one["name"] in table.stdout


async def test_only_administrators_list_workers(ferry: Deployment):
    password, _ = await ferry.user("carol", team=Permission.MANAGE)
    headers = {"X-Auth-Token": await ferry.token(user="carol", password=password)}

    assert (await ferry.http("GET", WORKERS, headers=headers)).status == 403


async def test_processes_of_one_database_are_listed_and_one_checks_the_regions(
    tmp_path: Path, postgres: PostgresServer, postgres_template: str
):
    port = free_port()
    shared: dict[str, Any] = {
        "database_url": postgres.url(postgres.new_database(like=postgres_template)),
        "secret_key": Fernet.generate_key().decode(),
        "health": {"check_interval_seconds": 0.2},
    }
    elsewhere = {
        NORTH: {"registry": f"http://127.0.0.1:{port}"},
        SOUTH: {"registry": f"http://127.0.0.1:{free_port()}"},
    }
    other = Settings.parse({"data_dir": tmp_path / "other", "regions": elsewhere, **shared})
    regions: dict[str, dict[str, Any]] = {NORTH: {"listen": f"127.0.0.1:{port}"}, SOUTH: elsewhere[SOUTH]}
    async with (
        deployed(tmp_path / "data", regions=regions, **shared) as ferry,
        open_backend(other, slots=3),
    ):
        headers = {"X-Auth-Token": await ferry.token()}

        async def listed() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = (await ferry.http("GET", WORKERS, headers=headers)).document
            return found if len(found) == 2 else []

        async def checked() -> dict[str, Any]:
            found = (await ferry.http("GET", "/v2/manage/regions", headers=headers)).document
            return {one["regionID"]: one["health"]["state"] for one in found if "health" in one}

        newest, first = await eventually(listed)

        async def are_checked() -> bool:
            return await checked() == {NORTH: "ok", SOUTH: "unreachable"}

        await eventually(are_checked)

    assert (newest["slots"], newest["regions"], newest["leader"]) == (3, [], False)
    assert (first["slots"], first["regions"], first["leader"]) == (32, [NORTH], True)
