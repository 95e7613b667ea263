"""Make several files durable, in the time of one.

A sync waits for the disk, and file systems combine the syncs that run at the same time, for example in one record of
their journal (docs/decisions/0031).
"""

import os
from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

from tagferry.registry.storage.files import make_directory, rename_over, sync_directory, sync_file, write_draft

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
        if not paths:
            return
        *others, last = dict.fromkeys(paths)
        syncing = [self._executor.submit(sync_file, path) for path in others]
        try:
            sync_file(last)
        finally:
            wait(syncing)
        for one in syncing:
            one.result()

    def replace(self, files: Sequence[tuple[Path, bytes]], *, temporary: Path) -> None:
        """Replace the contents of files durably and in order.

        After a crash or a loss of power, a file has its new content only if all files before it have theirs.

        Args:
            files: each file and its new content; missing directories are created.
            temporary: a directory of the same file system for the unfinished files; created if missing.
        """
        new = {path for path, _ in files if not os.path.lexists(path)}
        drafts: list[Path] = []
        placed: list[Path] = []
        try:
            for _, content in files:
                drafts.append(write_draft(content, temporary))
            self.sync(drafts)
            for draft, (path, _) in zip(drafts, files, strict=True):
                make_directory(path.parent)
                rename_over(draft, path)
                placed.append(path)
            # One after the other: btrfs makes each directory durable by itself.
            for directory in dict.fromkeys(path.parent for path in placed):
                sync_directory(directory)
        except BaseException:
            for draft in drafts[len(placed) :]:
                draft.unlink(missing_ok=True)
            _take_back(placed, new)
            raise


def _take_back(placed: Sequence[Path], new: Set[Path]) -> None:
    """Remove files that may not be durable, and so must not be relied on later.

    An older file that was replaced cannot be restored; what was placed before it stays, since it may refer to that.
    """
    for path in reversed(placed):
        if path not in new:
            return
        with suppress(OSError):
            path.unlink(missing_ok=True)
