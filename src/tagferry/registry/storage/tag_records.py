"""The tags of repositories, remembered and checked by the stamps of their files instead of read again.

Whatever changes a tag changes its file's stamp: its inode if another file was renamed over it, or its change time,
which no program can set. Clocks of file systems tick in milliseconds, so a file counts as unchanged only if its stamp
was already some seconds old when it was read: two changes within one tick are both recent.

All functions block; they run in the disk's threads.
"""

import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from threading import Lock
from typing import NamedTuple

from tagferry import bounds
from tagferry.names import RepositoryName, Tag
from tagferry.oci.images import TagRecord
from tagferry.registry.storage.layout import Layout, tag_of

SETTLED_NANOSECONDS = 2_000_000_000
"""The age of a stamp from which a later change cannot have the same one."""
_RECORD_BYTES = 500
"""The memory of a remembered tag, about, without its name."""
_LARGE = 1000
"""The tags of a repository from which on not every file is looked at for each list."""
_PAUSE = 100
"""The pause between two looks at all files of a large repository, as a multiple of the first one's duration: they take
at most a hundredth of the time."""

UPDATED_AND_NAME = itemgetter(TagRecord._fields.index("updated"), TagRecord._fields.index("tag"))
"""The key that orders dated tags by update."""

ReadRecord = Callable[[RepositoryName, Tag], TagRecord | None]


class ListedTags(NamedTuple):
    """The tags of a repository in lexical order, a list that must not be changed.

    Attributes:
        by_update: the same, the first updated first, and by name if updated at once; None if a date is unknown.
        is_confirmed: whether each file was looked at; otherwise the caller has to `confirm` the tags that it shows.
        are_unchanged: whether the manifests that the caller has named are verified and unchanged; False without any.
    """

    records: Sequence[TagRecord]
    by_update: Sequence[TagRecord] | None
    is_confirmed: bool
    are_unchanged: bool = False


class ContentState(NamedTuple):
    """The state of a repository's tags and manifests, to compare with another one.

    Attributes:
        fingerprint: equal only if nothing was changed in between; None if something changed just now.
        has_tags: whether there is an entry with a tag's name.
    """

    fingerprint: int | None
    has_tags: bool


@dataclass(slots=True)
class _Kept:
    """The remembered tags of a repository.

    Attributes:
        directory: the stamp of their directory; None if it changed too recently.
        stamps: the stamps of the tags' files.
        records: all tags in lexical order, including those that changed recently.
        by_update: see `ListedTags`.
        due: when to look at every file again, on the monotonic clock.
        weight: bytes of memory, about.
    """

    directory: int | None = None
    stamps: dict[str, tuple[int, TagRecord]] = field(default_factory=dict)
    records: Sequence[TagRecord] = ()
    by_update: Sequence[TagRecord] | None = None
    due: float = 0.0
    weight: int = 0


class TagRecords:
    """The tags of one registry.

    Args:
        layout: the registry's paths.
        read: reads a tag's file; None if it is missing or damaged.
    """

    def __init__(self, layout: Layout, read: ReadRecord) -> None:
        self._layout = layout
        self._read = read
        self._lock = Lock()
        self._kept: OrderedDict[RepositoryName, _Kept] = OrderedDict()
        self._bytes = 0

    def all(self, repository: RepositoryName) -> Sequence[TagRecord]:
        """Return the tags in lexical order, after a look at each file; none if there is no such directory."""
        return self._renew(repository, self._find(repository)).records

    def listed(self, repository: RepositoryName) -> ListedTags:
        """Return the tags, in a large repository usually after a look at their directory alone.

        A file there that is written in place, and not renamed as by the registry and most programs, is noticed a few
        seconds later, unless the caller shows its tag.
        """
        kept = self._find(repository)
        if (
            kept is not None
            and len(kept.stamps) >= _LARGE
            and time.monotonic() < kept.due
            and kept.directory is not None
            and kept.directory == _stamp_of(self._layout.tags_directory(repository))
        ):
            return ListedTags(kept.records, kept.by_update, is_confirmed=False)
        kept = self._renew(repository, kept)
        return ListedTags(kept.records, kept.by_update, is_confirmed=True)

    def confirm(self, repository: RepositoryName, records: Collection[TagRecord]) -> bool:
        """Return whether these tags are as they were listed."""
        kept = self._find(repository)
        if kept is None:
            return False
        for record in records:
            stamp, known = kept.stamps.get(record.tag, (None, None))
            if known != record or stamp != _stamp_of(self._layout.tag_file(repository, record.tag)):
                return False
        return True

    def state(self, repository: RepositoryName, *, damages: int) -> ContentState:
        """Return the state of a repository.

        Args:
            repository: the repository.
            damages: a number that changes when damage is found or repaired.
        """
        now = time.time_ns()
        fingerprint, newest, has_tags = damages, 0, False
        for name, found in _entries(self._layout.tags_directory(repository)):
            has_tags = has_tags or tag_of(name) is not None
            newest = max(newest, found.st_ctime_ns, found.st_mtime_ns)
            # A sum, because the order of entries is arbitrary.
            fingerprint += hash((name, _stamp(found)))
        for directory in self._layout.manifest_directories(repository):
            # A manifest that was stored or deleted changes its directory.
            status = _status(directory)
            if status is not None:
                newest = max(newest, status.st_ctime_ns)
                fingerprint += hash((directory, _stamp(status)))
        return ContentState(hash(fingerprint) if now - newest > SETTLED_NANOSECONDS else None, has_tags)

    def _find(self, repository: RepositoryName) -> _Kept | None:
        with self._lock:
            kept = self._kept.get(repository)
            if kept is not None:
                self._kept.move_to_end(repository)
            return kept

    def _renew(self, repository: RepositoryName, before: _Kept | None) -> _Kept:
        """Look at each file, and read those that are new or have changed."""
        began, now = time.monotonic(), time.time_ns()
        known = before.stamps if before is not None else {}
        directory = self._layout.tags_directory(repository)
        status = _status(directory)
        new = _Kept()
        records: list[TagRecord] = []
        is_changed = False
        for name, found in _entries(directory):
            stamp = _stamp(found)
            kept = known.get(name)
            if kept is not None and kept[0] == stamp:
                new.stamps[name] = kept
                records.append(kept[1])
                continue
            is_changed = True
            tag = tag_of(name) if stat.S_ISREG(found.st_mode) else None
            record = self._read(repository, tag) if tag is not None else None
            if record is None:
                continue
            records.append(record)
            if now - max(found.st_ctime_ns, found.st_mtime_ns) > SETTLED_NANOSECONDS:
                new.stamps[record.tag] = stamp, record
        if before is not None and not is_changed and len(records) == len(before.records):
            new.records, new.by_update = before.records, before.by_update
        else:
            new.records = sorted(records)
            if all(record.updated for record in records):
                new.by_update = sorted(records, key=UPDATED_AND_NAME)
        if status is not None and now - status.st_ctime_ns > SETTLED_NANOSECONDS and len(new.stamps) == len(records):
            new.directory = _stamp(status)
        ended = time.monotonic()
        new.due = ended + _PAUSE * (ended - began)
        new.weight = sum(map(len, new.stamps)) + _RECORD_BYTES * (1 + len(new.stamps))
        self._keep(repository, new)
        return new

    def _keep(self, repository: RepositoryName, new: _Kept) -> None:
        with self._lock:
            self._forget(repository)
            if new.stamps:
                self._kept[repository] = new
                self._bytes += new.weight
            while self._bytes > bounds.REMEMBERED_TAG_BYTES and len(self._kept) > 1:
                self._forget(next(iter(self._kept)))

    def _forget(self, repository: RepositoryName) -> None:
        if (kept := self._kept.pop(repository, None)) is not None:
            self._bytes -= kept.weight


def _entries(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the entries of a directory with their status; none if it does not exist."""
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    yield entry.name, entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
    except (FileNotFoundError, NotADirectoryError):
        return


def _stamp(found: os.stat_result) -> int:
    """Return a number that changes with a file's content, except through a fault of the disk."""
    return hash((found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


def _stamp_of(path: str) -> int | None:
    found = _status(path)
    return None if found is None else _stamp(found)


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
