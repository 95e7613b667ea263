"""A description of the machine, without its name."""

import os
import platform
import re
import subprocess
from pathlib import Path

from bench.registries import PROGRAM


def facts() -> dict[str, str | int | float]:
    """Return processor, memory, kernel, Python and the registry's version."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(memory / 1024**3, 1),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "docker_registry": _registry_version(),
    }


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _registry_version() -> str:
    answer = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=False, timeout=60)
    return (answer.stdout or answer.stderr).strip().rpartition(" ")[2]
