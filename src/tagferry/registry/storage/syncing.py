"""Make several files durable, in the time of one.

A sync waits for the disk, and file systems combine the syncs that run at the same time, for example in one record of
their journal (docs/decisions/0031).
"""

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import Self

from tagferry.registry.storage.files import (
    AnyPath,
    failed_syncs,
    make_directory,
    remove_draft,
    rename_over,
    sync_directory,
    sync_file,
    write_draft,
)

_THREADS = 8
_AT_ONCE = 4
"""The most threads for the syncs of one caller. A switch to a thread costs more than many syncs do."""


class Syncing:
    """The syncs of one registry. Its methods block."""

    def __init__(self) -> None:
        # Not the threads of other work, all of which may be waiting for these.
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="registry-sync")

    def close(self) -> None:
        """Wait for running syncs, and end the threads."""
        self._executor.shutdown(wait=True)

    def sync(self, paths: Sequence[Path]) -> None:
        """Make files, or the entries of directories, durable in any order; raises the first error after all ended."""
        for error in self.outcomes([partial(sync_file, path) for path in dict.fromkeys(paths)]):
            if error is not None:
                raise error

    def outcomes(self, syncs: Sequence[Callable[[], None]]) -> list[Exception | None]:
        """Run syncs at once; return the error of each, once all ended."""
        parts = [syncs[first::_AT_ONCE] for first in range(min(_AT_ONCE, len(syncs)))]
        running = [self._executor.submit(_outcomes, part) for part in parts[1:]]
        found: list[Exception | None] = [None] * len(syncs)
        for first, part in enumerate(parts):
            found[first::_AT_ONCE] = running[first - 1].result() if first else _outcomes(part)
        return found


def _outcomes(syncs: Sequence[Callable[[], None]]) -> list[Exception | None]:
    found: list[Exception | None] = []
    for sync in syncs:
        try:
            sync()
        except Exception as error:
            found.append(error)
        else:
            found.append(None)
    return found


class Drafts:
    """New files without their final names. As a context manager, it removes the files that were not placed.

    Args:
        temporary: their directory; created if missing.
    """

    def __init__(self, temporary: AnyPath) -> None:
        self._temporary = temporary
        self._open: list[int] = []
        self._paths: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open:
            os.close(descriptor)
        for path in self._paths:
            remove_draft(path)

    def write(self, content: bytes) -> None:
        """Write another file, which is not durable yet."""
        draft = write_draft(content, self._temporary)
        self._open.append(draft.descriptor)
        self._paths.append(draft.path)

    def syncs(self) -> list[Callable[[], None]]:
        """Return the calls that make each file durable and close it."""
        opened, self._open = self._open, []
        return [partial(_sync_and_close, descriptor) for descriptor in opened]

    def place(self, path: str) -> "Placed":
        """Give the first file that was not placed yet its name, as `Placed.at` does."""
        placed = Placed.at(path, self._paths[0])
        del self._paths[0]
        return placed


def _sync_and_close(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Placed:
    """A durable file that has got its name, which is not durable yet.

    Args:
        path: the name.
        failed_before: the `failed_syncs` of its directory before it got the name.

    Attributes:
        path: the name.
        directory: the directory of the name.
        found: the file's status just after it got the name, if nothing had the name before.
        ended: set once the name is durable, or will not become so.
    """

    def __init__(self, path: str, *, failed_before: int) -> None:
        self.path = path
        self.found: os.stat_result | None = None
        self.ended = Event()
        self.directory = path.rpartition("/")[0]
        self._failed_before = failed_before

    @classmethod
    def at(cls, path: str, draft: str) -> Self:
        """Rename a file, also over another one; the caller holds the repository's lock."""
        directory = path.rpartition("/")[0]
        placed = cls(path, failed_before=failed_syncs(directory))
        is_new = not os.path.lexists(path)
        try:
            rename_over(draft, path)
        except FileNotFoundError:
            make_directory(Path(directory))
            rename_over(draft, path)
        if is_new:
            # The name is settled even after an error.
            with suppress(OSError):
                placed.found = os.lstat(path)
        return placed

    def check(self, error: Exception | None) -> Exception | None:
        """Return why the name is not durable, after a sync of its directory that ended with this error; None if it is.

        The system reports an error once: if another sync of the directory has failed since the file got the name, that
        error may have been about this name. If the directory was deleted meanwhile, the name was too.
        """
        if isinstance(error, FileNotFoundError):
            return None
        if error is None and failed_syncs(self.directory) != self._failed_before:
            return OSError(errno.EIO, "Input/output error of an earlier sync", self.directory)
        return error

    def remove(self) -> None:
        """Remove the name, since it must not be relied on later; the caller holds the repository's lock.

        What was replaced cannot be restored, and a file that another thread has put in its place stays.
        """
        with suppress(OSError):
            if self.found is not None and os.lstat(self.path).st_ino == self.found.st_ino:
                Path(self.path).unlink()


class UndurableNames:
    """Names that are not durable yet, or whose sync failed: nothing durable may refer to them."""

    def __init__(self) -> None:
        self._placed: dict[str, Placed] = {}
        self._lock = Lock()

    def __contains__(self, path: str) -> bool:
        return path in self._placed

    def waiting(self, paths: Iterable[str]) -> list[Placed]:
        """Return those of these names that wait for the disk."""
        if not self._placed:
            return []
        return [one for path in paths if (one := self._placed.get(path)) is not None and not one.ended.is_set()]

    def add(self, placed: Placed) -> None:
        """Add a name, in place of an earlier one with the same path; the caller settles it in any case."""
        with self._lock:
            self._placed[placed.path] = placed

    def settle(
        self, placed: Sequence[Placed], lock: Callable[[], AbstractContextManager[None]], syncing: Syncing
    ) -> list[Exception | None]:
        """Make names durable, with one sync of each directory; return the error of each.

        If that fails, the file is removed, and its path stays here; also if it has got another file.

        Args:
            placed: the names.
            lock: returns the lock that is held while a file is removed.
            syncing: runs the syncs.
        """
        try:
            directories = list(dict.fromkeys(one.directory for one in placed))
            ended = syncing.outcomes([partial(sync_directory, directory) for directory in directories])
            synced = dict(zip(directories, ended, strict=True))
            errors = [one.check(synced[one.directory]) for one in placed]
            failed = [one for one, error in zip(placed, errors, strict=True) if error is not None]
            if failed:
                with lock():
                    for one in failed:
                        one.remove()
            with self._lock:
                for one, error in zip(placed, errors, strict=True):
                    if error is None and self._placed.get(one.path) is one:
                        del self._placed[one.path]
            return errors
        finally:
            for one in placed:
                one.ended.set()
