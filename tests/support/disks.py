"""Small and read-only disks, for tests of full and failing ones."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

IS_ROOT = os.geteuid() == 0
NOBODY = 65534


@contextlib.contextmanager
def small_disk(folder: Path, size: int, *, files: int = 0) -> Iterator[None]:
    """Mount a disk of limited bytes and, optionally, files at a folder; requires root."""
    limits = f"size={size}" + (f",nr_inodes={files}" if files else "")
    subprocess.run(["mount", "-t", "tmpfs", "-o", limits, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only: by a mount for root, by modes for other users."""
    if IS_ROOT:
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
        return
    below = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in below:
        path.chmod(0o500)
    try:
        yield
    finally:
        for path in below:
            path.chmod(0o700)
