"""A cache of tag names, so that each page of a list does not read the directory again."""

import time
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from tagferry import bounds
from tagferry.names import Tag
from tagferry.registry.storage.files import file_names
from tagferry.registry.storage.layout import tag_of

_WORTH_KEEPING = 200
"""The size of the smallest directory that is cached; a smaller one is read as fast."""
_SETTLED_NANOSECONDS = 2_000_000_000
"""The age of a directory's last change from which a later change cannot have the same time."""


class TagNames:
    """The tag names of one registry's repositories. Its methods block."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[Path, tuple[int, int, list[Tag]]] = OrderedDict()

    def inside(self, directory: Path) -> list[Tag]:
        """Return the tags in a directory in lexical order; none if it does not exist.

        The list is shared with other callers, and must not be changed.
        """
        try:
            found = directory.stat()
        except (FileNotFoundError, NotADirectoryError):
            return []
        with self._lock:
            inode, changed, names = self._kept.get(directory, (0, 0, []))
            if (inode, changed) == (found.st_ino, found.st_mtime_ns):
                self._kept.move_to_end(directory)
                return names
        names = [tag for name in file_names(directory) if (tag := tag_of(name)) is not None]
        if len(names) >= _WORTH_KEEPING and time.time_ns() - found.st_mtime_ns > _SETTLED_NANOSECONDS:
            self._keep(directory, (found.st_ino, found.st_mtime_ns, names))
        return names

    def _keep(self, directory: Path, entry: tuple[int, int, list[Tag]]) -> None:
        with self._lock:
            self._kept[directory] = entry
            self._kept.move_to_end(directory)
            total = sum(len(names) for _, _, names in self._kept.values())
            while total > bounds.REMEMBERED_TAGS and len(self._kept) > 1:
                total -= len(self._kept.popitem(last=False)[1][2])
