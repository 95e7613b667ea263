"""A description of the machine, without its name, and of the moment and the version of a measurement."""

import mmap
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.registries import PROGRAM

_CHECKOUT = Path(__file__).parents[1]
_MEASURED = ("src", ":(glob)bench/**/*.py", ":(glob)bench/**/*.go", ":(glob)**/go.mod")
"""Not the results, which earlier parts of a measurement may have written already."""

_DISTRIBUTED = " of the distribution"
"""After Python's version: distributions optimize Python by a profile; other builds often do not."""


def facts() -> dict[str, str | int | float]:
    """Return date, commit, processor, memory, kernel, Python and the registry's version, before a measurement."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(_CHECKOUT),
        "cpu": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(memory / 1024**3, 1),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": f"{platform.python_version()}{_DISTRIBUTED if sys.base_prefix == '/usr' else ''}",
        "docker_registry": _registry_version(),
    }


def touch_memory(size: int) -> None:
    """Use this many bytes of memory, and free them.

    A virtual machine may return free pages to its host. The first use of such a page takes up to ten times as long as
    that of another one, and which program gets them would be chance.
    """
    with mmap.mmap(-1, size) as memory:
        for position in range(0, size, mmap.PAGESIZE):
            memory[position] = 1


def sentence(about: Mapping[str, Any]) -> str:
    """Return when, at which commit and on which machine something was measured, by its facts."""
    # Earlier files have neither date nor commit.
    when = f"{about['date']} at commit {about['commit']}; " if "commit" in about else ""
    return (
        f"{when}{about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB, {about['kernel']}, "
        f"Python {about['python']}."
    )


def commit(checkout: Path) -> str:
    """Return the abbreviated commit of a checkout, and whether the measured files differ from it."""
    abbreviated = _git(checkout, "rev-parse", "--short", "HEAD")
    changed = _git(checkout, "status", "--porcelain", "--untracked-files=no", "--", *_MEASURED)
    return f"{abbreviated or 'unknown'}{' with changes' if changed else ''}"


def _git(checkout: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    answer = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, timeout=60)
    return answer.stdout.strip()


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _registry_version() -> str:
    answer = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=False, timeout=60)
    return (answer.stdout or answer.stderr).strip().rpartition(" ")[2]
