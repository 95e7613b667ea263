import subprocess
import sys

import pytest

PROGRAM = "import sys, tagferry.copy.engine, tagferry.remote; print(*sys.modules)"


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """Return the modules that a new process has loaded once it can copy images."""
    return set(subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True).stdout.decode().split())


@pytest.mark.parametrize(
    "module",
    ["aiohttp", "email", "fastapi", "multidict", "pathlib", "pydantic", "rich", "shutil", "sqlalchemy", "structlog"],
)
def test_a_copy_starts_without_what_it_does_not_use(loaded: set[str], module: str):
    assert "tagferry.copy.engine" in loaded
    assert module not in loaded
