import subprocess
import sys

import pytest


def loaded_by(module: str) -> set[str]:
    """Return the modules that a new process has loaded once it has imported this one."""
    program = f"import sys, {module}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout.decode().split())


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """Return the modules that a new process has loaded once it can copy images."""
    return loaded_by("tagferry.copy.engine, tagferry.remote")


@pytest.mark.parametrize(
    "module",
    ["aiohttp", "email", "fastapi", "multidict", "pathlib", "pydantic", "rich", "shutil", "sqlalchemy", "structlog"],
)
def test_a_copy_starts_without_what_it_does_not_use(loaded: set[str], module: str):
    assert "tagferry.copy.engine" in loaded
    assert module not in loaded


@pytest.fixture(scope="module")
def loaded_by_sync() -> set[str]:
    """Return the modules that a new process has loaded once it can request a synchronization."""
    return loaded_by("tagferry.cli.sync")


@pytest.mark.parametrize(
    "module", ["aiohttp", "cryptography", "fastapi", "pydantic", "sqlalchemy", "structlog", "uvicorn", "yarl"]
)
def test_a_synchronization_is_requested_without_the_libraries_of_a_server(loaded_by_sync: set[str], module: str):
    assert "tagferry.cli.sync" in loaded_by_sync
    assert module not in loaded_by_sync
