"""Detects that a file has changed since it was read."""

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class FileStamp(NamedTuple):
    """Changes with a file's content; a link, as Kubernetes mounts secrets, counts as the file that it points to."""

    inode: int
    size: int
    modified: int


def file_stamp(path: "Path") -> FileStamp | None:
    """Return a file's stamp, or None where the file cannot be looked at."""
    try:
        found = os.stat(path)  # noqa: PTH116 - called often, and the same without pathlib
    except OSError:
        return None
    return FileStamp(found.st_ino, found.st_size, found.st_mtime_ns)
