"""Make several files durable, in the time of one.

A sync waits for the disk, and file systems combine the syncs that run at the same time, for example in one record of
their journal (docs/decisions/0031).
"""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
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
        self._run([partial(sync_file, path) for path in dict.fromkeys(paths)])

    def sync_open(self, descriptors: Sequence[int]) -> None:
        """Make open files durable as `sync` does."""
        self._run([partial(os.fsync, descriptor) for descriptor in descriptors])

    def _run(self, syncs: Sequence[Callable[[], None]]) -> None:
        """Run syncs at once; raises the first error after all ended."""
        if not syncs:
            return
        *others, last = syncs
        running = [self._executor.submit(sync) for sync in others]
        try:
            last()
        finally:
            wait(running)
        for one in running:
            one.result()


class Drafts:
    """New files without their final names. As a context manager, it removes the files that were not placed.

    Args:
        syncing: makes them durable.
        temporary: their directory; created if missing.
    """

    def __init__(self, syncing: Syncing, temporary: AnyPath) -> None:
        self._syncing = syncing
        self._temporary = temporary
        self._open: list[int] = []
        self._paths: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        for path in self._paths:
            remove_draft(path)

    def write(self, content: bytes) -> None:
        """Write another file, which is not durable yet."""
        draft = write_draft(content, self._temporary)
        self._open.append(draft.descriptor)
        self._paths.append(draft.path)

    def sync(self) -> None:
        """Make all files durable."""
        try:
            self._syncing.sync_open(self._open)
        finally:
            self._close()

    def place(self, path: str) -> "Placed":
        """Give the first file that was not placed yet its name, as `Placed.at` does."""
        placed = Placed.at(path, self._paths[0])
        del self._paths[0]
        return placed

    def _close(self) -> None:
        while self._open:
            os.close(self._open.pop())


class Placed:
    """A durable file that has got its name, which is not durable yet.

    Args:
        path: the name.
        failed_before: the `failed_syncs` of its directory before it got the name.

    Attributes:
        path: the name.
        found: the file's status just after it got the name, if nothing had the name before.
        ended: set once the name is durable, or will not become so.
    """

    def __init__(self, path: str, *, failed_before: int) -> None:
        self.path = path
        self.found: os.stat_result | None = None
        self.ended = Event()
        self._directory = path.rpartition("/")[0]
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

    def settle(self, lock: Callable[[], AbstractContextManager[None]]) -> None:
        """Make the name durable; if that fails, remove it, since it must not be relied on later.

        What was replaced cannot be restored, and a file that another thread has put in its place stays. If the
        directory was deleted meanwhile, the name was too, and nothing is left to do.

        Args:
            lock: returns the lock that is held while the name is removed.
        """
        try:
            sync_directory(self._directory, failed_before=self._failed_before)
        except FileNotFoundError:
            pass
        except OSError:
            with lock(), suppress(OSError):
                if self.found is not None and os.lstat(self.path).st_ino == self.found.st_ino:
                    Path(self.path).unlink()
            raise


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

    def settle(self, placed: Placed, lock: Callable[[], AbstractContextManager[None]]) -> None:
        """Make a name durable as `Placed.settle`; the path stays if that fails, or has got another file."""
        try:
            placed.settle(lock)
            with self._lock:
                if self._placed.get(placed.path) is placed:
                    del self._placed[placed.path]
        finally:
            placed.ended.set()
