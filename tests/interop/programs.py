"""Third-party programs, built from their modules, which `go/go.mod` pins."""

import asyncio
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.support.processes import free_port, outcome, stop, wait_until_it_listens
from tests.support.programs import require_program, skopeo_environment

BUILD_SECONDS = 900
_RUN_SECONDS = 120
_RETRY_PAUSE_SECONDS = 10
MODULE = Path(__file__).parent / "go"
_BUILD = Path(__file__).parent.parent.parent / "build" / "interop"

INTEROP = [pytest.mark.interop, pytest.mark.timeout(BUILD_SECONDS + 100)]
"""The marks of tests that run these programs."""

CONFORMANCE = "conformance"
"""The OCI's conformance tests."""
CRANE, REGCTL, REGSYNC = "crane", "regctl", "regsync"
CRANE_MODULE, REGCTL_MODULE = "github.com/google/go-containerregistry", "github.com/regclient/regclient"
DISTRIBUTION = "registry"
"""CNCF distribution 3, the successor of Debian's docker-registry."""


@cache
def built(name: str) -> str:
    """Return the path of a program; skips the test if Go is not installed."""
    require_program("go")
    _BUILD.mkdir(parents=True, exist_ok=True)
    # The modules are downloaded, so a first failure may be the network's.
    for pause in (_RETRY_PAUSE_SECONDS, 0):
        done = subprocess.run(
            ["go", "build", "-buildvcs=false", "-o", f"{_BUILD}/", "tool"],
            cwd=MODULE,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS / 2,
            check=False,
        )
        if done.returncode == 0:
            return str(_BUILD / name)
        time.sleep(pause)
    pytest.fail(f"go ended with {done.returncode}: {done.stderr}")


@contextmanager
def crane_registry() -> Iterator[str]:
    """Run the registry of go-containerregistry, which keeps everything in memory; yields its URL."""
    address = f"127.0.0.1:{free_port()}"
    command = [built(CRANE), "registry", "serve", "--address", address]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_it_listens(process, address)
        yield f"http://{address}"
    finally:
        stop(process)


@dataclass(frozen=True)
class Client:
    """A registry client with its own home folder, so that it has only the given logins.

    Attributes:
        program: its path.
        home: a folder, in which it also runs.
    """

    program: str
    home: Path

    async def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """Run it and return its output; fails the test if it fails."""
        code, output, errors = await self.attempt(*arguments, environment=environment)
        assert code == 0, f"{arguments[0]} ended with {code}: {output}{errors}"
        return output

    async def attempt(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> tuple[int | None, str, str]:
        """Run it and return its exit code, output and error output."""
        own = {"HOME": str(self.home), "DOCKER_CONFIG": str(self.home), "REGCTL_CONFIG": f"{self.home}/regctl.json"}
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            self.program,
            *arguments,
            cwd=self.home,
            env={**skopeo_environment(self.home), **own, **(environment or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
        )
        output, errors = await outcome(process, seconds=_RUN_SECONDS)
        return process.returncode, output.decode(), errors.decode()
