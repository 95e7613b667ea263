"""Serve one tagferry region for a benchmark, and print its address and login as one line of JSON.

python -m bench.serve FOLDER LISTEN [SOURCE TARGET] [--database-url URL] [--metrics-listen ADDRESS]

With SOURCE and TARGET, the region's registry is SOURCE and there is a second region whose registry is TARGET; without
them the region's registry is the embedded one.
"""

import argparse
import asyncio
import gc
import json
from pathlib import Path
from typing import Any

import uvloop

from bench.served import ORGANIZATION, SOURCE_REGION, TARGET_REGION
from tagferry import logs
from tagferry.app import App, FirstAdmin, ensure_admin, open_app
from tagferry.memory import collect_rarely
from tagferry.names import Namespace, RegionId
from tagferry.settings import Settings
from tagferry.web.metrics_page import metrics_listeners
from tagferry.web.server.serve import listening, until_signalled


async def serve(folder: Path, listen: str, registries: list[str], database_url: str, metrics_listen: str) -> None:
    """Serve until terminated."""
    logs.configure(style="json", level="warning")
    more = {"database_url": database_url, "metrics_listen": metrics_listen}
    given = {name: value for name, value in more.items() if value}
    settings = Settings.parse({"data_dir": folder, "regions": _regions(listen, registries), **given})
    async with open_app(settings) as app, listening([*app.listeners, *metrics_listeners(settings)]):
        admin = await ensure_admin(app.accounts)
        assert admin is not None  # noqa: S101
        if not registries:
            await _make_organization(app, admin)
        secrets = {"password": admin.password, "access_key": admin.key.access_key, "secret_key": admin.key.secret_key}
        print(json.dumps({"user": admin.name, **secrets}), flush=True)
        await until_signalled()


def _regions(listen: str, registries: list[str]) -> dict[str, Any]:
    if not registries:
        return {SOURCE_REGION: {"listen": listen}}
    source, target = (f"http://{address}" for address in registries)
    return {
        SOURCE_REGION: {"listen": listen, "registry": source, "organizations": "open"},
        TARGET_REGION: {"registry": target, "organizations": "open"},
    }


async def _make_organization(app: App, admin: FirstAdmin) -> None:
    user = await app.accounts.users.find(admin.name)
    await app.accounts.organizations.create(user, RegionId(SOURCE_REGION), Namespace(ORGANIZATION))


if __name__ == "__main__":
    # As `tagferry serve` does.
    gc.freeze()
    collect_rarely()
    parser = argparse.ArgumentParser(prog="python -m bench.serve", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("listen")
    parser.add_argument("registries", nargs="*")
    parser.add_argument("--database-url", default="", help="a database instead of a file of SQLite in the folder")
    parser.add_argument("--metrics-listen", default="", help="an address for /metrics; by default it is not served")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(
            serve(options.folder, options.listen, options.registries, options.database_url, options.metrics_listen)
        )
