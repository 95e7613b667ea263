"""Serve one tagferry region for a benchmark, and print its address and login as one line of JSON.

python -m bench.serve FOLDER LISTEN [SOURCE TARGET]

With SOURCE and TARGET, the region's registry is SOURCE and there is a second region whose registry is TARGET; without
them the region's registry is the embedded one.
"""

import asyncio
import gc
import json
import sys
from pathlib import Path
from typing import Any

import uvloop

from bench.served import ORGANIZATION, SOURCE_REGION, TARGET_REGION
from tagferry import logs
from tagferry.app import App, FirstAdmin, ensure_admin, open_app
from tagferry.names import Namespace, RegionId
from tagferry.settings import Settings
from tagferry.web.server.serve import listening, until_signalled


async def serve(folder: Path, listen: str, registries: list[str]) -> None:
    """Serve until terminated."""
    logs.configure(style="json", level="warning")
    settings = Settings.parse({"data_dir": folder, "regions": _regions(listen, registries)})
    async with open_app(settings) as app, listening(app.listeners):
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
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
