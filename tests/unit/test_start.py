"""A command imports only what it uses."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tagferry.cli import COMMANDS
from tagferry.cli.commands import NAMES
from tagferry.names import RepositoryName, Tag
from tagferry.remote import Endpoint, RemoteStore
from tests.support.docker_registry import DockerRegistry, docker_registry
from tests.support.images import image, push

_PROGRAM = """
import atexit, sys
atexit.register(lambda: sys.stderr.write("loaded: " + " ".join(sys.modules)))
from tagferry.cli import main
main(sys.argv[1:])
"""
_SERVER = {
    "fastapi",
    "starlette",
    "uvicorn",
    "sqlalchemy",
    "alembic",
    "cryptography",
    "prometheus_client",
    "argon2",
    "opentelemetry",
}
_CLIENT = {"aiohttp", "yarl", "multidict", "typer", "rich", "pydantic", "structlog", "yaml", "re2", "email"}
_LAYOUT = {"tagferry.layout", "tarfile", "pathlib", "shutil"}
_RARE = {
    "aiohappyeyeballs",
    "dataclasses",
    "encodings.idna",
    "random",
    "tagferry.copy.estimate",
    "tagferry.direct.lists",
    "tagferry.direct.platforms",
    "tagferry.http.lenient_heads",
    "tagferry.remote.deletions",
}
"""What only some copies need."""
_COPYING = {"asyncio", "ssl", "uvloop", "httptools", "tagferry.remote", "tagferry.copy"}


def loaded_by(*arguments: str, code: int = 0) -> set[str]:
    """Return the modules that a process has loaded at its end."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    return set(done.stderr.partition("loaded: ")[2].split())


@pytest.mark.parametrize(
    ("arguments", "unused"),
    [
        (["--version"], ["argparse", "typing", "dataclasses", "json"]),
        (["--help"], ["argparse", "typing", "dataclasses", "json"]),
        (["copy", "--help"], ["json", "hashlib"]),
        (["sync", "--help"], ["json", "hashlib"]),
    ],
    ids=" ".join,
)
def test_help_starts_nothing(arguments: list[str], unused: list[str]):
    loaded = loaded_by(*arguments)

    assert "tagferry.cli" in loaded
    assert loaded & ({*unused} | _SERVER | _CLIENT | _LAYOUT | _COPYING) == set()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


async def fill(url: str) -> None:
    store = RemoteStore(Endpoint(name="filler", url=url))
    for name in ("team/app", "copy/app"):
        await push(store, RepositoryName(name), image(), Tag("v1"))
    await store.close()


def test_a_copy_with_everything_in_place_loads_nothing_but_the_engine(
    registry: DockerRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # The logins of the user who runs the tests would be read.
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    asyncio.run(fill(registry.url))
    host = registry.url.removeprefix("http://")

    loaded = loaded_by("copy", "--plain-http", host, f"{host}/team/app:v1", f"{host}/copy/app")

    assert "tagferry.copy.engine" in loaded
    assert loaded & (_SERVER | _CLIENT | _LAYOUT | _RARE) == set()


def test_a_synchronization_is_requested_without_the_libraries_of_a_server():
    login = ("--ak", "key", "--sk", "secret", "--endpoint", "http://127.0.0.1:1")

    loaded = loaded_by("sync", "team/app:v1", "--to", "cn-north-4/team", *login, code=6)

    assert "tagferry.cli.client" in loaded
    assert loaded & (_SERVER | _CLIENT | {"tagferry.copy", "tagferry.remote"}) == set()


def test_the_help_lists_every_command():
    assert set(COMMANDS) == {"copy", "sync", *NAMES}


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["nope"], 2), (["copy", "--nope"], 2), (["help"], 0)])
def test_wrong_usage_exits_with_2(arguments: list[str], code: int):
    loaded_by(*arguments, code=code)


def test_a_server_without_traces_loads_nothing_that_records_them():
    program = "import sys, tagferry.app, tagferry.cli.serve; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    loaded = set(done.stdout.split())
    assert "tagferry.tracing" in loaded
    assert loaded & {"tagferry.tracing.recorder", "tagferry.tracing.export", "opentelemetry.sdk", "requests"} == set()
