"""tagferry's programs with a configuration of the harness, to be killed and started again."""

import asyncio
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tagferry.cli.accounts import FIRST_ADMIN_FILE
from tagferry.cli.client import ManagementClient
from tagferry.errors import TagferryError
from tagferry.names import Namespace, Repository
from tests.acceptance.served import PROGRAM, Secrets, clean_environment

SOURCE, TARGET, EMBEDDED = "cn-north-4", "cn-south-1", "cn-east-3"
START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_ACCEPT_SECONDS = 120.0


@dataclass
class Program:
    """A running `tagferry serve` or `tagferry worker`."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def id(self) -> int:
        return self.process.pid

    @property
    def is_working(self) -> bool:
        """Return whether it has logged that it accepts jobs."""
        return b"started the worker" in self.log.read_bytes()

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait(_STOP_SECONDS)


@dataclass
class Cluster:
    """The programs of one installation.

    Args:
        folder: for the configuration, the data and the logs; it must exist.
        config: the configuration's text.
        url: where `serve` listens.
        database_url: empty for SQLite.
    """

    folder: Path
    config: str
    url: str
    database_url: str = ""
    secrets: Secrets | None = None
    programs: list[Program] = field(default_factory=list)
    refused: int = 0
    _numbers: int = 0

    def start(self, *arguments: str, prefix: Sequence[str] = (), **more: Any) -> Program:
        """Start a command."""
        self._numbers += 1
        config, log = self.folder / "tagferry.toml", self.folder / f"{self._numbers:04}-{arguments[0]}.log"
        config.write_text(self.config)
        environment = {"TAGFERRY_DATABASE_URL": self.database_url} if self.database_url else {}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*prefix, str(PROGRAM), *arguments],
                cwd=self.folder,
                env=clean_environment(environment),
                stdout=output,
                stderr=subprocess.STDOUT,
                **{"stdin": subprocess.DEVNULL, **more},
            )
        program = Program(process, log)
        self.programs.append(program)
        return program

    def serve(self, *arguments: str) -> Program:
        """Start `serve`, and wait until it answers."""
        program = self.start("serve", *arguments)
        deadline = time.monotonic() + START_SECONDS
        while not self._is_healthy():
            if program.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"tagferry serve did not come up: {program.log.read_text()[-2000:]}")
            time.sleep(0.03)
        if self.secrets is None:
            self.secrets = Secrets.read((self.folder / "data" / FIRST_ADMIN_FILE).read_text())
        return program

    def kill(self, program: Program) -> None:
        """Kill a program."""
        program.kill()
        self.programs.remove(program)

    def request(self, organization: str, repository: str, body: Mapping[str, Any]) -> list[int]:
        """Request a sync until it is accepted; returns the ids of its jobs."""
        deadline = time.monotonic() + _ACCEPT_SECONDS
        while True:
            try:
                return asyncio.run(self._request(organization, repository, body))
            except (TagferryError, TimeoutError) as error:
                self.refused += 1
                if time.monotonic() > deadline:
                    raise RuntimeError(f"no request was accepted for {_ACCEPT_SECONDS:g} s: {error}") from None
                time.sleep(0.1)

    def errors(self) -> Iterator[str]:
        """Return the errors in the programs' logs."""
        for log in sorted(self.folder.glob("*.log")):
            for line in log.read_text(errors="replace").splitlines():
                if '"level": "error"' in line:
                    yield f"{log.stem}: {line}"

    async def _request(self, organization: str, repository: str, body: Mapping[str, Any]) -> list[int]:
        assert self.secrets is not None
        client = ManagementClient(self.url, self.secrets.access_key, self.secrets.secret_key)
        async with asyncio.timeout(20), client:
            started = await client.start_sync(Namespace(organization), Repository(repository), dict(body))
        return list(started.tags)

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def cluster(folder: Path, config: str, url: str, database_url: str = "") -> Iterator[Cluster]:
    """An installation, whose programs are ended with the context."""
    folder.mkdir(parents=True, exist_ok=True)
    running = Cluster(folder, config, url, database_url)
    try:
        yield running
    finally:
        for program in running.programs:
            if program.process.poll() is None:
                program.process.send_signal(signal.SIGCONT)
                program.process.terminate()
        for program in running.programs:
            try:
                program.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                program.kill()


def configuration(
    *, url: str, source: str, target: str, bytes_per_second: int, embedded: str | None = None, places: int = 8
) -> str:
    """A configuration: two remote registries, the second at a limited rate, and perhaps an embedded one."""
    lines = [
        'data_dir = "data"',
        'log_format = "json"',
        "[sync]",
        "max_concurrent_requests_per_user = 1000",
        "drain_timeout_seconds = 0",
        f"max_concurrent_tags = {places}",
        f"[regions.{SOURCE}]",
        f'listen = "{url.partition("://")[2]}"',
        f'registry = "{source}"',
        'organizations = "open"',
        f"[regions.{TARGET}]",
        f'registry = "{target}"',
        'organizations = "open"',
        f"max_bytes_per_second = {bytes_per_second}",
    ]
    if embedded:
        lines += [f"[regions.{EMBEDDED}]", f'listen = "{embedded.partition("://")[2]}"', 'organizations = "open"']
    return "\n".join(lines) + "\n"
