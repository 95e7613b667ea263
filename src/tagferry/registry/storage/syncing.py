"""Make several files durable, in the time of one.

A sync waits for the disk, and file systems combine the syncs that run at the same time, for example in one record of
their journal (docs/decisions/0031).
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import Self

from tagferry.registry.storage.files import (
    failed_syncs,
    make_directory,
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

    @contextmanager
    def drafts(self, contents: Sequence[bytes], *, temporary: Path) -> Iterator[list[Path]]:
        """Write durable files with these contents; those that are still in the list in the end are removed.

        Args:
            contents: the content of each file.
            temporary: their directory; created if missing.
        """
        written: list[Path] = []
        open_files: list[int] = []
        try:
            try:
                for content in contents:
                    draft = write_draft(content, temporary)
                    written.append(draft.path)
                    open_files.append(draft.descriptor)
                self._run([partial(os.fsync, descriptor) for descriptor in open_files])
            finally:
                for descriptor in open_files:
                    os.close(descriptor)
            yield written
        finally:
            for path in written:
                path.unlink(missing_ok=True)

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


class Placed:
    """A durable file that has got its name, which is not durable yet.

    Args:
        path: the name.
        inode: the file's, if nothing had the name before.
        failed_before: the `failed_syncs` of its directory before it got the name.

    Attributes:
        path: the name.
        ended: set once the name is durable, or will not become so.
    """

    def __init__(self, path: Path, inode: int | None, *, failed_before: int) -> None:
        self.path = path
        self.ended = Event()
        self._inode = inode
        self._failed_before = failed_before

    @classmethod
    def at(cls, path: Path, draft: Path) -> Self:
        """Rename a file, also over another one."""
        failed_before = failed_syncs(path.parent)
        inode = None if os.path.lexists(path) else draft.stat().st_ino
        placed = cls(path, inode, failed_before=failed_before)
        try:
            rename_over(draft, path)
        except FileNotFoundError:
            make_directory(path.parent)
            rename_over(draft, path)
        return placed

    def settle(self, lock: Callable[[], AbstractContextManager[None]]) -> None:
        """Make the name durable; if that fails, remove it, since it must not be relied on later.

        What was replaced cannot be restored, and a file that another thread has put in its place stays. If the
        directory was deleted meanwhile, the name was too, and nothing is left to do.

        Args:
            lock: returns the lock that is held while the name is removed.
        """
        try:
            sync_directory(self.path.parent, failed_before=self._failed_before)
        except FileNotFoundError:
            pass
        except OSError:
            with lock(), suppress(OSError):
                if self._inode is not None and self.path.lstat().st_ino == self._inode:
                    self.path.unlink()
            raise


class UndurableNames:
    """Names that are not durable yet, or whose sync failed: nothing durable may refer to them."""

    def __init__(self) -> None:
        self._placed: dict[Path, Placed] = {}
        self._lock = Lock()

    def __contains__(self, path: Path) -> bool:
        return path in self._placed

    def waiting(self, paths: Iterable[Path]) -> list[Placed]:
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
