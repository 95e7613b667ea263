"""A cache of tag names, so that each page of a list does not read the directory again."""

import os
import time
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from tagferry import bounds
from tagferry.names import Tag
from tagferry.registry.storage.files import file_names
from tagferry.registry.storage.layout import tag_of

_ENTRY_TAGS = 10
"""The tags whose memory the entry of a directory takes by itself."""
_SETTLED_NANOSECONDS = 2_000_000_000
"""The age of a directory's last change from which a later change cannot have the same time."""


class TagNames:
    """The tag names of one registry's repositories. Its methods block."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[str, tuple[int, int, list[Tag]]] = OrderedDict()
        self._total = 0

    def inside(self, directory: str) -> list[Tag]:
        """Return the tags in a directory in lexical order; none if it does not exist.

        The list is shared with other callers, and must not be changed.
        """
        try:
            found = Path(directory).stat()
        except (FileNotFoundError, NotADirectoryError):
            return []
        if (kept := self.kept(directory, found)) is not None:
            return kept
        names = [tag for name in file_names(Path(directory)) if (tag := tag_of(name)) is not None]
        if time.time_ns() - found.st_mtime_ns > _SETTLED_NANOSECONDS:
            self._keep(directory, (found.st_ino, found.st_mtime_ns, names))
        return names

    def kept(self, directory: str, found: os.stat_result) -> list[Tag] | None:
        """Return the tags of a directory if they are cached for its status; does not block."""
        with self._lock:
            inode, changed, names = self._kept.get(directory, (0, 0, []))
            if (inode, changed) != (found.st_ino, found.st_mtime_ns):
                return None
            self._kept.move_to_end(directory)
            return names

    def _keep(self, directory: str, entry: tuple[int, int, list[Tag]]) -> None:
        with self._lock:
            self._forget(self._kept.pop(directory, None))
            self._kept[directory] = entry
            self._total += len(entry[2]) + _ENTRY_TAGS
            while self._total > bounds.REMEMBERED_TAGS and len(self._kept) > 1:
                self._forget(self._kept.popitem(last=False)[1])

    def _forget(self, entry: tuple[int, int, list[Tag]] | None) -> None:
        if entry is not None:
            self._total -= len(entry[2]) + _ENTRY_TAGS
