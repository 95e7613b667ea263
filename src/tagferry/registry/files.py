"""Changes of a file system that a crash leaves either done or undone."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
"""What is stored is for nobody but the registry's own user, from the moment that it is made."""


def replace_file(path: Path, content: bytes, *, temporary: Path) -> None:
    """Write a whole file durably; who reads sees the old content or the new, never a part.

    Args:
        path: the file; its directories are made.
        content: its bytes.
        temporary: a directory of the same file system for the file while it is written.
    """
    draft = temporary / uuid.uuid4().hex
    is_new = not os.path.lexists(path)
    try:
        with open(draft, "wb", opener=_private) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        make_directory(path.parent)
        draft.replace(path)
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
