"""Directories of a registry in which operations failed, until they work again."""

import contextlib
import errno
import os
import time
import uuid
from pathlib import Path
from threading import Lock

from tagferry.registry.storage.files import replace_file
from tagferry.registry.storage.layout import Layout
from tagferry.registry.storage.threads import DISK_FAILED, DiskFailed, DiskReadOnly, error_class

_REMEMBERED = 64
_FRESH_SECONDS = 1.0
"""The time for which a result is reused, since each check writes to the disk."""
_CHECK_SECONDS = 1.0
"""The time to wait for a check in progress. A disk that hangs must not take a thread for each probe."""


class DirectoryFaults:
    """The failed directories of one registry. Its methods block."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock = Lock()
        self._checking = Lock()
        self._directories: dict[Path, None] = {}
        self._checked_at = float("-inf")

    def record(self, error: OSError) -> None:
        """Record where an operation failed, unless the disk is full, or memory or file descriptors are exhausted."""
        if error_class(error) not in (DiskFailed, DiskReadOnly):
            return
        directories = [
            self._failed_directory(name, error) for name in (error.filename, error.filename2) if isinstance(name, str)
        ]
        with self._lock:
            for directory in directories or [self._layout.temporary]:
                self._directories.pop(directory, None)
                self._directories[directory] = None
            while len(self._directories) > _REMEMBERED:
                del self._directories[next(iter(self._directories))]

    def error(self) -> str | None:
        """Return the problem while a failed directory is still unusable or no file can be written, otherwise None."""
        if not self._recorded():
            return None
        if not self._checking.acquire(timeout=_CHECK_SECONDS):
            return DISK_FAILED
        try:
            directories = self._recorded()
            if not directories:
                return None
            if time.monotonic() - self._checked_at < _FRESH_SECONDS:
                return DISK_FAILED
            failing = [directory for directory in directories if not self._is_usable(directory)]
            if not self._takes_a_file():
                failing.append(self._layout.temporary)
            self._checked_at = time.monotonic()
            with self._lock:
                for directory in directories:
                    if directory not in failing:
                        self._directories.pop(directory, None)
                self._directories.update(dict.fromkeys(failing))
            return DISK_FAILED if failing else None
        finally:
            self._checking.release()

    def _recorded(self) -> list[Path]:
        with self._lock:
            return list(self._directories)

    def _failed_directory(self, name: str, error: OSError) -> Path:
        """Return the directory that an operation needed, from the name of the file or directory at which it failed."""
        path = Path(name)
        if not path.is_relative_to(self._layout.root):
            return self._layout.temporary
        # EEXIST: the directory could not be created, since something else has its name.
        return path if error.errno == errno.EEXIST or _is_directory(path) else path.parent

    def _is_usable(self, directory: Path) -> bool:
        """Return whether a directory, or its closest existing parent, can be read and written."""
        while not os.path.lexists(directory) and directory != self._layout.root:
            directory = directory.parent
        return _is_directory(directory) and os.access(directory, os.R_OK | os.W_OK | os.X_OK)

    def _takes_a_file(self) -> bool:
        path = self._layout.temporary / f"probe-{uuid.uuid4().hex}"
        try:
            replace_file(path, b"probe", temporary=self._layout.temporary)
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        return True


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        # A parent cannot be read.
        return False
