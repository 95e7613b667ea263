"""Detect changes of a file."""

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class FileStamp(NamedTuple):
    """Metadata that changes with a file's content; symbolic links, as of mounted Kubernetes secrets, are followed."""

    inode: int
    size: int
    modified: int


def file_stamp(path: "Path") -> FileStamp | None:
    """Return the stamp of a file; None if it is missing or inaccessible."""
    try:
        found = os.stat(path)  # noqa: PTH116 - called often, and the same without pathlib
    except OSError:
        return None
    return FileStamp(found.st_ino, found.st_size, found.st_mtime_ns)
