"""A PostgreSQL server on loopback, from Debian's package, with a new database for each test."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.support.processes import free_port, wait_until_it_listens
from tests.support.programs import missing

_INSTALLED = Path("/usr/lib/postgresql")
_USER = "postgres"
_OPTIONS = ("max_connections=200",)
_START_SECONDS = 30.0


@dataclass(frozen=True)
class PostgresServer:
    """A running server.

    Attributes:
        port: where it listens on 127.0.0.1.
        process_id: the server's own; each of its connections has another below it.
    """

    programs: Path
    port: int
    process_id: int
    _numbers: Any = field(default_factory=lambda: count(1))

    def new_database(self, *, like: str = "template1") -> str:
        """Create a database with the content of another one; returns its name."""
        name = f"tagferry_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {like}", database="postgres")
        return name

    def url(self, name: str, *, port: int | None = None) -> str:
        """Return the URL of a database, on this server's port or on a port that forwards to it."""
        return f"postgresql+psycopg://{_USER}@127.0.0.1:{port or self.port}/{name}"

    def version(self) -> str:
        """The version of the server, such as `15.8`."""
        return self.run("SHOW server_version", database="postgres").split()[0]

    def run(self, statement: str, *, database: str) -> str:
        """Run a statement as the server's owner; returns the selected rows, one per line."""
        command = [
            str(self.programs / "psql"),
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            _USER,
            "-Atqc",
            statement,
        ]
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [*command, database], check=True, capture_output=True, text=True, timeout=30
        )
        return done.stdout


@contextmanager
def postgres_server(
    *, durable: bool = False, addresses: Sequence[str] = ("127.0.0.1",), trusted: Sequence[str] = ()
) -> Iterator[PostgresServer]:
    """Run a server in an empty directory, and remove it at the end.

    Args:
        durable: whether it waits for the disk.
        addresses: where it listens.
        trusted: networks that can connect, in addition to the local machine.
    """
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="tagferry-postgres-"))
    as_owner: list[str] = []
    if os.geteuid() == 0:
        # The server refuses to run as root; its package has created a user for it.
        owner = pwd.getpwnam(_USER)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        as_owner = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    port, fsync = free_port(), f"fsync={'on' if durable else 'off'}"
    data = folder / "data"
    try:
        initialize = [str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", _USER, "--no-sync"]
        subprocess.run([*as_owner, *initialize], check=True, capture_output=True, timeout=60, cwd=folder)
        with (data / "pg_hba.conf").open("a") as access:
            access.writelines(f"host all all {network} trust\n" for network in trusted)
        settings = (*_OPTIONS, fsync, f"listen_addresses={','.join(addresses)}", f"port={port}")
        options = [part for option in settings for part in ("-c", option)]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [*as_owner, programs / "postgres", "-D", data, "-k", folder, *options],
                stdout=log,
                stderr=log,
                cwd=folder,
            )
        try:
            wait_until_it_listens(server, f"127.0.0.1:{port}")
            _wait_until_it_lets_in(programs, port)
            yield PostgresServer(programs, port, server.pid)
        finally:
            # SIGTERM would make it wait for its clients, and SIGINT writes everything that is about to be removed.
            server.send_signal(signal.SIGQUIT)
            server.wait(20)
    finally:
        shutil.rmtree(folder)


def is_installed() -> bool:
    """Return whether the server is installed."""
    return any(_INSTALLED.glob("*/bin"))


def _wait_until_it_lets_in(programs: Path, port: int) -> None:
    """Wait until the server accepts connections, which it refuses for a moment after it starts to listen."""
    command = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    deadline = time.monotonic() + _START_SECONDS
    while subprocess.run(command, check=False, timeout=20).returncode:
        if time.monotonic() > deadline:
            raise RuntimeError("the PostgreSQL server did not come up")
        time.sleep(0.05)


def _programs() -> Path:
    versions = sorted(_INSTALLED.glob("*/bin"), key=lambda folder: int(folder.parent.name))
    return versions[-1] if versions else missing(f"there is no PostgreSQL server in {_INSTALLED}")
