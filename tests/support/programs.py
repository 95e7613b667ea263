"""Programs that some tests run: skopeo, a registry, apt.

On a machine of a contributor a missing program skips the test and says what to install. Where
TAGFERRY_REQUIRE_PROGRAMS=1 is set, as in CI, it fails it, so that nothing is left out unnoticed.
"""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest


def require_program(name: str) -> str:
    """Return the path of a program, or skip the test that needs it."""
    path = shutil.which(name)
    return path or missing(f"the program {name} is not on the PATH")


def skopeo_environment(folder: Path) -> dict[str, str]:
    """An environment in which skopeo knows of no blob but those that it saw with this folder.

    It remembers which repository of which host and port has a blob, and asks for mounts from there; a port is used
    again by another test. For root it names no folder but this way.
    """
    return {**os.environ, "_CONTAINERS_ROOTLESS_UID": "1000", "XDG_DATA_HOME": str(folder)}


def missing(what: str) -> NoReturn:
    """Skip the test for want of something outside this repository, or fail it where nothing may be left out."""
    if os.environ.get("TAGFERRY_REQUIRE_PROGRAMS") == "1":
        pytest.fail(f"{what}, and TAGFERRY_REQUIRE_PROGRAMS=1 allows no skip")
    pytest.skip(what)
