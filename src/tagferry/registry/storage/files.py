"""Changes of a file system that a crash leaves either done or undone."""

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
"""What is stored is for nobody but the registry's own user, from the moment that it is made."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def open_file(path: Path) -> BinaryIO:
    """Open a regular file to read, without waiting for what is none.

    Raises:
        FileNotFoundError: there is nothing.
        OSError: it cannot be read, or is a link, a directory, a pipe or a device.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return os.fdopen(descriptor, "rb", buffering=0)


def read_file(path: Path, limit: int) -> bytes:
    """Read a regular file up to a number of bytes; raises as `open_file`."""
    with open_file(path) as file:
        return file.read(limit)


def concerns_file(error: OSError) -> bool:
    """Return whether an error tells of the file, and not of the process that had no descriptor or memory left."""
    return error.errno not in _EXHAUSTED


def replace_file(path: Path, content: bytes, *, temporary: Path) -> None:
    """Write a whole file durably; who reads sees the old content or the new, never a part.

    Args:
        path: the file; its directories are made.
        content: its bytes.
        temporary: a directory of the same file system for the file while it is written; it is made, too.
    """
    draft = temporary / uuid.uuid4().hex
    is_new = not os.path.lexists(path)
    try:
        with _new_file(draft) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        make_directory(path.parent)
        rename_over(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    try:
        sync_directory(path.parent)
    except OSError:
        # Nobody may take it for durable later. What an older file said cannot be had back.
        if is_new:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        raise


def rename_over(draft: Path, path: Path) -> None:
    """Put a file in the place of another one, or of a directory, which is set aside."""
    try:
        draft.replace(path)
    except IsADirectoryError:
        _set_aside(path)
        draft.replace(path)


def remove_entry(path: Path) -> None:
    """Remove a file; a directory in its place is set aside; raises FileNotFoundError."""
    try:
        path.unlink()
    except (IsADirectoryError, PermissionError):
        # Systems other than Linux say EPERM of a directory.
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise
        _set_aside(path)


def _set_aside(directory: Path) -> None:
    """Take a directory away from where a file should be; what it holds may be somebody's, so it stays beside."""
    try:
        directory.rmdir()
    except OSError:
        directory.rename(directory.with_name(f"{directory.name}.aside-{uuid.uuid4().hex}"))


def _new_file(path: Path) -> BinaryIO:
    try:
        return open(path, "wb", opener=_private)
    except FileNotFoundError:
        # Programs that clean up remove empty directories.
        make_directory(path.parent)
        return open(path, "wb", opener=_private)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, FILE_MODE)


def make_directory(path: Path) -> None:
    """Make a directory and those above it, durably."""
    made: list[Path] = []
    # Another thread may take an emptied parent away between two steps; the next attempt makes it again.
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
        # The next attempt makes and syncs them again.
        for directory in made:
            with contextlib.suppress(OSError):
                directory.rmdir()
        raise


def make_file(path: Path) -> None:
    """Make an empty file and the directories above it, unless it is there; raises FileNotFoundError if all vanish."""
    # Directories that are empty may be removed between the two steps.
    for attempt in range(10):
        make_directory(path.parent)
        try:
            path.touch(mode=FILE_MODE)
            break
        except FileNotFoundError:
            if attempt == 9:
                raise


def sync_directory(path: Path) -> None:
    """Make a directory's entries durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def entries(directory: Path) -> list[str]:
    """The names in a directory in lexical order; none if there is no such directory."""
    return sorted(unsorted_entries(directory))


def unsorted_entries(directory: Path) -> Iterator[str]:
    """The names in a directory, read as they are asked for; none if there is no such directory."""
    try:
        with os.scandir(directory) as found:
            for entry in found:
                yield entry.name
    except (FileNotFoundError, NotADirectoryError):
        return


def file_names(directory: Path) -> list[str]:
    """The names of the files in a directory in lexical order; none if there is no such directory."""
    try:
        return sorted(entry.name for entry in os.scandir(directory) if entry.is_file(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_empty(directory: Path) -> bool:
    """Whether a directory holds nothing, or does not exist."""
    try:
        with os.scandir(directory) as found:
            return next(found, None) is None
    except (FileNotFoundError, NotADirectoryError):
        return True


def remove_empty_directories(directory: Path, *, below: Path) -> None:
    """Remove a directory and those above it as long as they are empty, and never `below` itself."""
    while directory != below:
        try:
            directory.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            return
        directory = directory.parent


def files_below(directory: Path) -> Iterator[Path]:
    """Every file under a directory, however deep."""
    for folder, _, names in os.walk(directory):
        for name in names:
            yield Path(folder, name)
