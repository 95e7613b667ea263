"""The names of a registry's repositories, remembered by the stamps of their directories.

A repository is created or deleted by this process under its lock, which records it here, or by hand. Then the directory
above it changes, which is looked at each time. All other directories are looked at again after a pause, so what happens
by hand inside of a single repository's directory is noticed a little later: one below it, or the removal of its files
alone. A directory that cannot be read is left out, and looked at again each time.

All methods block, except `record`; they run in the disk's threads.
"""

import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

from tagferry import bounds
from tagferry.events import SparseEvents
from tagferry.names import RepositoryName
from tagferry.registry.storage.files import concerns_file
from tagferry.registry.storage.layout import Layout, log_unreadable, parse_repository
from tagferry.registry.storage.tag_records import SETTLED_NANOSECONDS

_PAUSE = 100
"""The pause between two looks at every directory, as a multiple of the first one's duration: they take at most a
hundredth of the time."""
_RECORDED = 10_000
"""Changed repositories that are recorded; if there are more, every directory is looked at."""

_log = SparseEvents(__name__)


class _Stamp(NamedTuple):
    inode: int
    modified: int
    changed: int


@dataclass(slots=True)
class _Directory:
    """A remembered directory.

    Attributes:
        stamp: None if it changed too recently, or cannot be read.
        below: the names of the directories in it that may contain repositories.
        name: the repository that it is, if any.
        witness: a file that proves that the repository exists.
    """

    stamp: _Stamp | None
    below: list[str]
    name: RepositoryName | None
    witness: str | None = None


class RepositoryIndex:
    """The existing repositories of one registry."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._walking = Lock()
        self._kept: dict[str, _Directory] = {}
        self._names: Sequence[RepositoryName] = ()
        self._watched: list[str] = []
        self._due = 0.0
        self._recording = Lock()
        self._recorded: set[str] = set()

    def record(self, repository: RepositoryName) -> None:
        """Record that a repository was changed; called after the change."""
        with self._recording:
            name: str = repository
            # The directories above a new repository have changed, too.
            while name and name not in self._recorded and len(self._recorded) < _RECORDED:
                self._recorded.add(name)
                name = name.rpartition("/")[0]

    def names(self) -> Sequence[RepositoryName]:
        """Return the repositories that hold something, in lexical order, a list that must not be changed.

        Raises:
            OSError: no file descriptors or memory are left, so nothing can be said about a directory.
        """
        with self._walking:
            with self._recording:
                recorded, self._recorded = self._recorded, set()
            try:
                self._update(recorded)
            except OSError:
                with self._recording:
                    self._recorded |= recorded
                raise
            return self._names

    def _update(self, recorded: set[str]) -> None:
        began = time.monotonic()
        if began >= self._due or len(recorded) >= _RECORDED:
            self._walk(None)
            ended = time.monotonic()
            self._due = ended + _PAUSE * (ended - began)
        elif changed := recorded.union(filter(self._has_changed, self._watched)):
            self._walk(changed)

    def _has_changed(self, relative: str) -> bool:
        directory = self._kept[relative]
        try:
            stamp = _stamp_of(self._path(relative))
        except OSError:
            stamp = None
        return (
            directory.stamp is None
            or directory.stamp != stamp
            or (directory.name is not None and directory.witness is None and self._exists(directory, directory.name))
        )

    def _walk(self, changed: Collection[str] | None) -> None:
        """Find all repositories; with `changed`, do not look at the others that have none below them."""
        seen: dict[str, _Directory] = {}
        names = sorted(self._found(changed, seen))
        if names != self._names:
            # Otherwise the same list, so that its readers can see that nothing has changed.
            self._names = names
        self._kept = seen
        # Those that may get a repository below them, and those that are none yet.
        self._watched = [
            relative
            for relative, directory in seen.items()
            if directory.below or directory.stamp is None or directory.witness is None
        ]
        if len(seen) > bounds.REMEMBERED_DIRECTORIES:
            self._kept, self._watched, self._due = {}, [], 0.0

    def _found(self, changed: Collection[str] | None, seen: dict[str, _Directory]) -> Iterator[RepositoryName]:
        left = [""]
        while left:
            relative = left.pop()
            kept = self._kept.get(relative)
            if kept is None or changed is None or relative in changed:
                directory = self._directory(relative, kept)
                if directory is None:
                    continue
                is_held = directory.name is not None and self._exists(directory, directory.name)
            else:
                directory, is_held = kept, kept.witness is not None
            seen[relative] = directory
            if is_held and directory.name is not None:
                yield directory.name
            left += [f"{relative}/{name}" if relative else name for name in directory.below]

    def _directory(self, relative: str, kept: _Directory | None) -> _Directory | None:
        path, now = self._path(relative), time.time_ns()
        try:
            stamp = _stamp_of(path)
            if stamp is None:
                return None
            if kept is not None and kept.stamp == stamp:
                return kept
            with os.scandir(path) as entries:
                # Another file system may be mounted at a repository's own directories, but names are never followed.
                names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=entry.name.startswith("_"))]
        except FileNotFoundError:
            return None
        except OSError as error:
            if not concerns_file(error):
                raise
            log_unreadable(error)
            return _Directory(None, [], None)
        below = [name for name in names if parse_repository(f"{relative}/{name}" if relative else name)]
        name = parse_repository(relative) if any(name.startswith("_") for name in names) else None
        is_settled = now - stamp.changed > SETTLED_NANOSECONDS
        return _Directory(stamp if is_settled else None, below, name)

    def _exists(self, directory: _Directory, name: RepositoryName) -> bool:
        """Return whether a repository holds something. As long as one of its files exists, it does."""
        try:
            if directory.witness is None or not os.path.lexists(directory.witness):
                directory.witness = self._layout.witness(name)
        except OSError as error:
            if not concerns_file(error):
                raise
            _log.warning("failed to read a repository", repository=name, reason=str(error))
            return False
        return directory.witness is not None

    def _path(self, relative: str) -> str:
        root = str(self._layout.repositories)
        return f"{root}/{relative}" if relative else root


def _stamp_of(path: str) -> _Stamp | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - called often, and the same without pathlib
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _Stamp(found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
