"""An installation of tagferry as a user has it: a configuration file, and processes of the command line."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.registries import free_address
from bench.served import ORGANIZATION, SOURCE_REGION, TARGET_REGION
from tagferry.accounts.model import AccessKey
from tagferry.app import ADMIN, ensure_admin, open_accounts
from tagferry.names import Namespace, RegionId
from tagferry.settings import Settings
from tests.support.processes import stop, wait_until_it_listens

_PROGRAM = Path(sys.executable).with_name("tagferry")
_START_SECONDS = 30.0


@dataclass(frozen=True)
class Installation:
    """The configuration that the processes share.

    Attributes:
        address: HOST:PORT of the source's region, once a process serves it.
        key: the administrator's.
    """

    folder: Path
    address: str
    key: AccessKey

    @contextmanager
    def serve(self, *options: str) -> Iterator[int]:
        """Run `tagferry serve` in the context; yields its process id."""
        with self._process("serve", options) as (process, _):
            wait_until_it_listens(process, self.address)
            yield process.pid

    @contextmanager
    def worker(self, number: int, *options: str) -> Iterator[int]:
        """Run a `tagferry worker` in the context; yields its process id."""
        with self._process("worker", options, number) as (process, log):
            deadline = time.monotonic() + _START_SECONDS
            while b"started the worker" not in log.read_bytes():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"a worker did not start: {log.read_text()[-2000:]}")
                time.sleep(0.02)
            yield process.pid

    @contextmanager
    def _process(
        self, command: str, options: tuple[str, ...], number: int = 0
    ) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        log = self.folder / f"{command}-{number}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [_PROGRAM, command, *options],
                cwd=self.folder,
                env={name: value for name, value in os.environ.items() if not name.startswith("TAGFERRY_")},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                yield process, log
            finally:
                stop(process)


def install(folder: Path, database_url: str, *, source: str, target: str) -> Installation:
    """Write a configuration with two registries (HOST:PORT), and create the administrator and the organizations.

    Args:
        folder: does not exist yet.
        database_url: an empty database; an empty text means an SQLite file in the folder.
        source: the served region's registry.
        target: the other region's registry.
    """
    folder.mkdir(parents=True)
    address = free_address()
    config = folder / "tagferry.toml"
    config.write_text(
        f'database_url = "{database_url}"\n'
        'log_format = "json"\n'
        f'[regions.{SOURCE_REGION}]\nlisten = "{address}"\nregistry = "http://{source}"\n'
        f'[regions.{TARGET_REGION}]\nregistry = "http://{target}"\n'
    )
    return Installation(folder, address, asyncio.run(_accounts(Settings.load(config))))


async def _accounts(settings: Settings) -> AccessKey:
    async with open_accounts(settings) as accounts:
        admin = await ensure_admin(accounts)
        if admin is None:
            raise RuntimeError("the database has users already")
        user = await accounts.users.find(ADMIN)
        for region in settings.regions:
            await accounts.organizations.create(user, RegionId(region), Namespace(ORGANIZATION))
        return admin.key
