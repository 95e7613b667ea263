"""File system operations that are atomic and durable: after a crash, each is either done or not."""

import contextlib
import errno
import os
import stat
import uuid
from collections import Counter
from collections.abc import Iterator
from itertools import count, takewhile
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple

from tagferry.regular_file import open_regular

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
"""Only the registry's own user has access to its files, from their creation on."""

AnyPath = Path | str
"""A path. A text takes a tenth of the time, which counts where a request uses many paths."""
_DRAFTS = uuid.uuid4().hex
"""The beginning of the names of this process's drafts."""
_draft_numbers = count()

_failed_syncs: Counter[str] = Counter()
"""By directory; only of those that have failed."""
_failed_syncs_lock = Lock()

_OF_ALL_FILES = frozenset(
    {
        # No descriptors or memory are left.
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        # The server of a network file system has restarted or cannot be reached, or the daemon of one has ended.
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ENOTCONN,
        errno.ESHUTDOWN,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
    }
)
"""Errors that say nothing about the content of the file."""


def open_file(path: AnyPath) -> BinaryIO:
    """Open a regular file for reading; anything else fails at once, without blocking.

    Raises:
        FileNotFoundError: the file does not exist.
        OSError: the file cannot be read, or is a symbolic link, a directory, a pipe or a device.
    """
    return os.fdopen(open_regular(path, follow_links=False), "rb", buffering=0)


def read_file(path: Path, limit: int) -> bytes:
    """Read at most `limit` bytes of a regular file; raises as `open_file`."""
    with open_file(path) as file:
        return file.read(limit)


def concerns_file(error: OSError) -> bool:
    """Return whether an error is about the file, and not about exhausted resources or an absent file system."""
    return error.errno not in _OF_ALL_FILES


def replace_file(path: Path, content: bytes, *, temporary: Path) -> None:
    """Replace the content of a file atomically and durably.

    Args:
        path: the file; missing directories are created.
        content: the new content.
        temporary: a directory of the same file system for the unfinished file; created if missing.
    """
    is_new = not os.path.lexists(path)
    draft, descriptor = write_draft(content, temporary)
    try:
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        make_directory(path.parent)
        failed_before = failed_syncs(path.parent)
        rename_over(draft, path)
    except BaseException:
        remove_draft(draft)
        raise
    try:
        sync_directory(path.parent, failed_before=failed_before)
    except OSError:
        # A file that may not be durable must not be relied on later. A replaced older file cannot be restored.
        if is_new:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        raise


class Draft(NamedTuple):
    """A new file, which is not synced yet, and its open descriptor."""

    path: str
    descriptor: int


def write_draft(content: bytes, temporary: AnyPath) -> Draft:
    """Write a new file in a directory, which is created if missing. The caller syncs and closes it."""
    path = f"{temporary}/{_DRAFTS}{next(_draft_numbers):x}"
    descriptor = _create(path)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BaseException:
        os.close(descriptor)
        remove_draft(path)
        raise
    return Draft(path, descriptor)


def remove_draft(path: str) -> None:
    """Remove a draft, if it still exists."""
    Path(path).unlink(missing_ok=True)


def rename_over(draft: AnyPath, path: AnyPath) -> None:
    """Rename a file over another file, or over a directory, which is moved aside."""
    try:
        os.replace(draft, path)  # noqa: PTH105 - called often, and the same without pathlib
    except IsADirectoryError:
        _set_aside(Path(path))
        Path(draft).replace(path)


def remove_entry(path: Path) -> None:
    """Remove a file, or move aside a directory of its name; raises FileNotFoundError."""
    try:
        path.unlink()
    except (IsADirectoryError, PermissionError):
        # Systems other than Linux report EPERM for a directory.
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise
        _set_aside(path)


def _set_aside(directory: Path) -> None:
    """Remove a directory if it is empty, otherwise rename it: its content may be needed."""
    try:
        directory.rmdir()
    except OSError:
        directory.rename(directory.with_name(f"{directory.name}.aside-{uuid.uuid4().hex}"))


def _create(path: str) -> int:
    """Create a file for writing; return its descriptor."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        return os.open(path, flags, FILE_MODE)
    except FileNotFoundError:
        # Cleanup programs may remove empty directories.
        make_directory(Path(path).parent)
        return os.open(path, flags, FILE_MODE)


def make_directory(path: Path) -> None:
    """Create a directory and its parents durably."""
    made: list[Path] = []
    # Another thread may remove an empty parent in between; the next attempt creates it again.
    for attempt in range(10):
        missing = list(takewhile(lambda directory: not directory.is_dir(), (path, *path.parents)))
        made = list(dict.fromkeys([*made, *missing]))
        try:
            for directory in reversed(missing):
                directory.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            break
        except FileNotFoundError:
            if attempt == 9:
                raise
    try:
        for directory in made:
            with contextlib.suppress(FileNotFoundError):
                sync_directory(directory.parent)
    except OSError:
        # Removed, so that the next attempt creates and syncs them again.
        for directory in made:
            with contextlib.suppress(OSError):
                directory.rmdir()
        raise


def make_file(path: Path) -> None:
    """Create an empty file and its parents unless it exists; raises FileNotFoundError if parents keep vanishing."""
    # Empty directories may be removed in between.
    for attempt in range(10):
        make_directory(path.parent)
        try:
            path.touch(mode=FILE_MODE)
            break
        except FileNotFoundError:
            if attempt == 9:
                raise


def failed_syncs(directory: AnyPath) -> int:
    """Return how often this process has failed to sync a directory; see `sync_directory`."""
    return _failed_syncs[os.fspath(directory)]


def sync_directory(path: AnyPath, *, failed_before: int | None = None) -> None:
    """Make the entries of a directory durable.

    Args:
        path: the directory.
        failed_before: its `failed_syncs` before the caller changed entries. A sync that has failed since then may have
            been theirs: the system reports an error once, and the next sync succeeds. So this one fails, too.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError:
        with _failed_syncs_lock:
            _failed_syncs[os.fspath(path)] += 1
        raise
    finally:
        os.close(descriptor)
    if failed_before not in (None, failed_syncs(path)):
        raise OSError(errno.EIO, "Input/output error of an earlier sync", str(path))


def sync_file(path: Path) -> None:
    """Make the content of a file, or the entries of a directory, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def entries(directory: Path) -> list[str]:
    """Return the names in a directory in lexical order; none if it does not exist."""
    return sorted(unsorted_entries(directory))


def unsorted_entries(directory: Path) -> Iterator[str]:
    """Yield the names in a directory; none if it does not exist."""
    try:
        with os.scandir(directory) as found:
            for entry in found:
                yield entry.name
    except (FileNotFoundError, NotADirectoryError):
        return


def file_names(directory: Path) -> list[str]:
    """Return the names of the regular files in a directory in lexical order; none if it does not exist."""
    try:
        return sorted(entry.name for entry in os.scandir(directory) if entry.is_file(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def remove_empty_directories(directory: Path, *, below: Path) -> None:
    """Remove a directory and its parents up to `below`, excluded, as long as they are empty."""
    while directory != below:
        try:
            directory.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            return
        directory = directory.parent


def files_below(directory: Path) -> Iterator[Path]:
    """Yield all files below a directory, recursively."""
    for folder, _, names in os.walk(directory):
        for name in names:
            yield Path(folder, name)
