"""An installation of tagferry in a folder, for separate processes: configured, with users who have organizations."""

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.acceptance.served import clean_environment
from tests.support.processes import free_port

NORTH, SOUTH = "cn-north-4", "cn-south-1"
_START_SECONDS = 90.0
_PREPARE_SECONDS = 120.0

_PREPARE = """
import asyncio, json, sys
from pathlib import Path
from tagferry.app import DEFAULT_DOMAIN, ensure_admin, open_app
from tagferry.names import Namespace, RegionId
from tagferry.settings import Settings

async def prepare(users):
    logins = {}
    async with open_app(Settings.load(Path("tagferry.toml"))) as app:
        admin = await ensure_admin(app.accounts)
        logins["admin"] = (admin.name, admin.password, admin.key.access_key, admin.key.secret_key)
        for name, organizations in users.items():
            await app.accounts.users.create(name, f"the password of {name}", domain=DEFAULT_DOMAIN)
            user = await app.accounts.users.find(name)
            key = await app.accounts.keys.create(user.user_id)
            logins[name] = (name, f"the password of {name}", key.access_key, key.secret_key)
            for organization in organizations:
                for region in json.loads(sys.argv[2]):
                    await app.accounts.organizations.create(user, RegionId(region), Namespace(organization))
    print(json.dumps(logins))

asyncio.run(prepare(json.loads(sys.argv[1])))
"""
"""The program that creates the accounts. It runs with the Python whose tagferry is used, which may be an older one."""


@dataclass(frozen=True)
class Login:
    """How a user authenticates."""

    name: str
    password: str
    access_key: str
    secret_key: str


@dataclass(frozen=True)
class Installation:
    """A configured folder.

    Attributes:
        python: with the tagferry that is used.
        urls: the address of each served region.
        logins: by the user's name; the administrator is `admin`.
        elsewhere: the management addresses of regions with remote registries.
    """

    folder: Path
    python: Path
    urls: Mapping[str, str]
    logins: Mapping[str, Login]
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def path(self) -> Mapping[str, str]:
        return _path_for(self.python)

    def start(self, log: Path, environment: Mapping[str, str] | None = None, **more: Any) -> subprocess.Popen[bytes]:
        """Start `tagferry serve`, and append its output to a file."""
        with log.open("ab") as output:
            return subprocess.Popen(
                [str(self.python.with_name("tagferry")), "serve"],
                cwd=self.folder,
                env=clean_environment({**self.path, **(environment or {})}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **more,
            )

    def wait_until_healthy(self, is_alive: Callable[[], bool]) -> bool:
        """Wait until all regions answer; False if the process ends before."""
        deadline = time.monotonic() + _START_SECONDS
        for url in self.urls.values():
            while not is_healthy(url):
                if not is_alive():
                    return False
                if time.monotonic() > deadline:
                    raise RuntimeError(f"tagferry does not answer on {url} after {_START_SECONDS:g} s")
                time.sleep(0.02)
        return True


def install(
    folder: Path,
    users: Mapping[str, Iterable[str]],
    *,
    more: str = "",
    elsewhere: Mapping[str, str] | None = None,
    python: Path | None = None,
) -> Installation:
    """Configure two embedded regions, and create users with organizations in all regions.

    Args:
        folder: must exist.
        users: the organizations of each user.
        more: further lines of the configuration, after those of the regions.
        elsewhere: the tables of further regions, each with its lines.
        python: the one whose tagferry is used; by default this process's.
    """
    python = python or Path(sys.executable)
    addresses = {region: f"127.0.0.1:{free_port()}" for region in (NORTH, SOUTH)}
    lines = ['data_dir = "data"', 'log_format = "json"']
    for region, address in addresses.items():
        lines += [f"[regions.{region}]", f'listen = "{address}"']
    for region, table in (elsewhere or {}).items():
        lines += [f"[regions.{region}]", table]
    (folder / "tagferry.toml").write_text("\n".join([*lines, more, ""]))
    regions = [*addresses, *(elsewhere or {})]
    prepared = subprocess.run(
        [str(python), "-c", _PREPARE, json.dumps({name: list(of) for name, of in users.items()}), json.dumps(regions)],
        cwd=folder,
        env=clean_environment(_path_for(python)),
        capture_output=True,
        text=True,
        timeout=_PREPARE_SECONDS,
        check=False,
    )
    if prepared.returncode:
        raise RuntimeError(f"the accounts could not be made: {prepared.stderr[-2000:]}")
    logins = {name: Login(*parts) for name, parts in json.loads(prepared.stdout.splitlines()[-1]).items()}
    others = {
        region: f"http://{listen[1]}"
        for region, table in (elsewhere or {}).items()
        if (listen := re.search(r'^listen = "(.*)"', table, re.MULTILINE))
    }
    return Installation(
        folder, python, {region: f"http://{address}" for region, address in addresses.items()}, logins, others
    )


def _path_for(python: Path) -> Mapping[str, str]:
    """Return the variables for a Python, so that another environment finds its own tagferry."""
    return {} if python == Path(sys.executable) else {"PYTHONPATH": ""}


def is_healthy(url: str) -> bool:
    """Return whether a region answers."""
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
