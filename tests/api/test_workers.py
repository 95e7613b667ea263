"""The list of processes, over the API and the command line."""

import asyncio
import json

from typer.testing import CliRunner

from tagferry import __version__
from tagferry.accounts.model import Permission
from tagferry.cli.commands import app
from tests.support.deployment import NORTH, SOUTH, Deployment, eventually

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
