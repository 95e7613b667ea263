"""The installed `tagferry` program, run as by a user."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tagferry.cli.client import ManagementClient

PROGRAM = Path(sys.executable).with_name("tagferry")
START_LIMIT = 30.0
STOP_LIMIT = 20.0


@dataclass(frozen=True)
class Secrets:
    """The secrets that `init`, or a first `serve`, shows once."""

    password: str
    access_key: str
    secret_key: str

    @classmethod
    def read(cls, shown: str) -> "Secrets":
        """Find the secrets in the program's output, or in the file that a first `serve` writes."""
        found = {}
        for name in ("password", "access key", "secret key"):
            (found[name],) = re.findall(rf"^ *{name} +(\S+)$", shown, re.MULTILINE)
        return cls(found["password"], found["access key"], found["secret key"])


@dataclass(frozen=True)
class Served:
    """A running `tagferry serve`.

    Attributes:
        log: its standard output and error.
    """

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def peak_memory(self) -> int:
        """Return the peak of resident bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait(STOP_LIMIT)


def tagferry(
    folder: Path, *arguments: str, seconds: float = 60, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [PROGRAM, *arguments],
        cwd=folder,
        env=clean_environment(environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@contextmanager
def serving(
    folder: Path,
    url: str,
    environment: Mapping[str, str] | None = None,
    *,
    files: int | None = None,
    start_limit: float = START_LIMIT,
) -> Iterator[Served]:
    """Serve a folder's installation, and wait until it answers on this URL; unless killed, it must stop when requested.

    Args:
        folder: where the configuration is.
        url: the region that has to answer.
        environment: more variables.
        files: the limit of file descriptors.
        start_limit: seconds after which it must answer.
    """
    limit = None if files is None else partial(resource.setrlimit, resource.RLIMIT_NOFILE, (files, files))
    log = folder / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [PROGRAM, "serve"],
            cwd=folder,
            env=clean_environment(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=limit,
        )
        try:
            _wait_until_healthy(process, url, log, start_limit)
            yield Served(process, log)
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(STOP_LIMIT) == 0, log.read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(STOP_LIMIT)


def client(url: str, secrets: Secrets) -> ManagementClient:
    """Return a client that signs as the administrator."""
    return ManagementClient(url, secrets.access_key, secrets.secret_key)


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without tagferry's configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TAGFERRY_", "CLOUD_SDK_"))}
    return {**kept, "NO_COLOR": "1", "COLUMNS": "200", **more}


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path, limit: float) -> None:
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=2) as answer:
                assert answer.status == 200
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    raise AssertionError(f"tagferry does not answer on {url}: {log.read_text()}")
