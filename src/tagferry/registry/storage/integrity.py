"""Verify that stored content matches its digest, and mark damaged files.

A damaged file carries a **mark**: the sticky bit of its mode, which has no other meaning on a regular file. All hard
links of a file share its mode, so a mark is visible in every repository, to every process and after every restart, in
the `stat` that each request makes anyway. Marked content counts as missing (docs/decisions/0024).

All functions block; they run in the disk's threads.
"""

import contextlib
import hashlib
import math
import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple

import structlog

from tagferry import bounds
from tagferry.metrics import DAMAGED_CONTENT
from tagferry.names import Digest, RepositoryName
from tagferry.registry.storage.files import concerns_file, open_file

SMALL_BLOB_BYTES = 1024 * 1024
"""The size up to which a blob is read whole and verified before it is reported or sent."""
_REMEMBERED = 32_768
_REPORTED = 1000
_CHUNK_BYTES = 512 * 1024
_SIZE_ATTRIBUTE = "user.tagferry.size"

log = structlog.get_logger(__name__)


class Damage(NamedTuple):
    """Damaged content.

    Attributes:
        kind: `blob`, `manifest`, `tag` or `referrer`.
        name: the digest or the tag.
        repository: the repository; None for a blob, which all repositories share.
    """

    kind: str
    name: str
    repository: RepositoryName | None = None


class Stamp(NamedTuple):
    """Metadata that changes with a file's content, except through a fault of the disk."""

    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Stamp":
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def is_marked(found: os.stat_result) -> bool:
    """Return whether a file is marked as damaged, or is not a regular file."""
    return bool(found.st_mode & stat.S_ISVTX) or not stat.S_ISREG(found.st_mode)


class IntegrityChecker:
    """Verifies the files of one registry, remembers the results, and marks damaged files.

    Copying the files can lose or set marks, and some file systems have none. So every process reads a marked file
    once, which removes a false mark, and remembers damaged files independently of their marks.

    Attributes:
        damages: a number that changes when damage is found or repaired.
    """

    def __init__(self) -> None:
        self._verified: OrderedDict[int, Stamp] = OrderedDict()
        self._damaged: OrderedDict[int, Stamp] = OrderedDict()
        self.damages = 0
        self._lock = Lock()
        self._reported: OrderedDict[Damage, None] = OrderedDict()

    def is_verified(self, found: os.stat_result) -> bool:
        """Return whether this process has verified the file in its present state."""
        return self._verified.get(found.st_ino) == Stamp.of(found)

    def is_known_damaged(self, found: os.stat_result) -> bool:
        """Return whether this process has found the file damaged in its present state."""
        return self._damaged.get(found.st_ino) == Stamp.of(found)

    def is_trusted(self, found: os.stat_result) -> bool:
        """Return whether this process has verified the file in its present state, and not found it damaged since."""
        return self.trusted_stamp(found) is not None

    def trusted_stamp(self, found: os.stat_result) -> Stamp | None:
        """Return the stamp of a trusted file; None if the file is not trusted."""
        stamp = Stamp.of(found)
        is_trusted = self._verified.get(found.st_ino) == stamp and self._damaged.get(found.st_ino) != stamp
        return stamp if is_trusted else None

    def remember(self, found: os.stat_result) -> None:
        """Record that a file is verified in its present state."""
        self._record(self._verified, found)

    def check(
        self,
        path: Path,
        digest: Digest,
        *,
        kind: str = "blob",
        repository: RepositoryName | None = None,
        on_chunk: Callable[[int], None] | None = None,
    ) -> bool:
        """Read a whole file, mark it if it does not match its digest, and return whether it does.

        Args:
            path: the file; that of a manifest begins with a line that is not part of the content.
            digest: the digest of the content.
            kind: `blob` or `manifest`.
            repository: the repository of a manifest.
            on_chunk: called with the size of each chunk that was read.

        Raises:
            FileNotFoundError: the file does not exist.
        """
        was_marked = False
        # The file stays open until it is marked, so that a file that replaces it meanwhile is not marked instead.
        try:
            with open_file(path) as file:
                for _ in range(2):
                    found = os.fstat(file.fileno())
                    was_marked = is_marked(found)
                    if found.st_size > _max_size(path, kind):
                        # A file that has grown is damaged, and reading it may never end.
                        break
                    if _hash(file, digest.algorithm, kind == "manifest", on_chunk) == digest.encoded:
                        self.remember(_remove_mark(file) if was_marked else found)
                        return True
                    # The page cache may be wrong although the disk is right.
                    drop_page_cache(file)
                self._mark(file, path)
        except FileNotFoundError:
            raise
        except OSError as error:
            if not concerns_file(error):
                raise
            log.warning("failed to read a stored file", path=str(path), error=error.strerror)
            self._record(self._damaged, path.lstat())
        if not was_marked:
            self.report(Damage(kind, digest, repository))
        return False

    def mark(self, path: Path, damage: Damage) -> None:
        """Mark a file as damaged durably, and report it once."""
        with contextlib.suppress(FileNotFoundError), open_file(path) as file:
            self._mark(file, path)
            self.report(damage)

    def _mark(self, file: BinaryIO, path: Path) -> None:
        descriptor = file.fileno()
        mode = os.fstat(descriptor).st_mode
        try:
            if not mode & stat.S_ISVTX:
                os.fchmod(descriptor, stat.S_IMODE(mode) | stat.S_ISVTX)
                os.fsync(descriptor)
        except OSError as error:
            # This process remembers the damage, and others will find it themselves.
            log.warning("failed to mark damaged content", path=str(path), error=error.strerror)
        self._record(self._damaged, os.fstat(descriptor))

    def _record(self, noted: OrderedDict[int, Stamp], found: os.stat_result) -> None:
        with self._lock:
            self.damages += noted is self._damaged
            noted[found.st_ino] = Stamp.of(found)
            noted.move_to_end(found.st_ino)
            if len(noted) > _REMEMBERED:
                noted.popitem(last=False)

    def report(self, damage: Damage) -> None:
        """Log and count damage once, and record it for repair."""
        with self._lock:
            if damage in self._reported:
                return
            self._reported[damage] = None
            if len(self._reported) > _REPORTED:
                self._reported.popitem(last=False)
        DAMAGED_CONTENT.labels(kind=damage.kind).inc()
        log.error(
            "found damaged content; push or synchronize it again to restore it",
            kind=damage.kind,
            name=damage.name,
            repository=damage.repository,
        )

    def reported(self) -> list[Damage]:
        """Return the damage that was found and not repaired."""
        with self._lock:
            return list(self._reported)

    def record_repair(self, damage: Damage) -> None:
        """Record that damage was repaired."""
        with self._lock:
            if self._reported.pop(damage, ...) is None:
                self.damages += 1
                log.info("replaced damaged content", kind=damage.kind, name=damage.name)

    def forget(self, damage: Damage) -> None:
        """Forget the damage of content that was deleted."""
        with self._lock:
            self._reported.pop(damage, None)


def _max_size(path: Path, kind: str) -> float:
    """Return the most bytes that an undamaged file can have."""
    if kind == "manifest":
        return bounds.MANIFEST_BYTES + bounds.MEDIA_TYPE_CHARACTERS + 1
    size = recorded_size(path)
    return math.inf if size is None else size


def _hash(
    file: BinaryIO, algorithm: str, has_head: bool = False, on_chunk: Callable[[int], None] | None = None
) -> str | None:
    """Return the hexadecimal digest of a file, without its first line if it has a head; None if reading fails."""
    running = hashlib.new(algorithm)
    file.seek(0)
    while piece := _read(file):
        if on_chunk is not None:
            on_chunk(len(piece))
        if has_head:
            _, newline, piece = piece.partition(b"\n")
            has_head = not newline
        running.update(piece)
    return running.hexdigest() if piece is not None else None


def _read(file: BinaryIO) -> bytes | None:
    try:
        return file.read(_CHUNK_BYTES)
    except OSError as error:
        if not concerns_file(error):
            raise
        log.warning("failed to read a stored file", error=error.strerror)
        return None


def _remove_mark(file: BinaryIO) -> os.stat_result:
    """Remove the mark from a verified file, if the disk is writable."""
    with contextlib.suppress(OSError):
        os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode) & ~stat.S_ISVTX)
    return os.fstat(file.fileno())


def drop_page_cache(file: BinaryIO) -> None:
    """Drop a file from the page cache if the system supports it, so that the next read reads the disk."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def record_size(path: Path) -> None:
    """Store the size of a complete file in an extended attribute if supported, to detect a truncated file later."""
    if hasattr(os, "setxattr"):
        with contextlib.suppress(OSError):
            os.setxattr(path, _SIZE_ATTRIBUTE, str(path.stat().st_size).encode())


def recorded_size(path: Path) -> int | None:
    """Return the size that `record_size` stored, in bytes."""
    if not hasattr(os, "getxattr"):
        return None
    try:
        return int(os.getxattr(path, _SIZE_ATTRIBUTE, follow_symlinks=False))
    except (OSError, ValueError):
        return None


def touch(path: Path) -> None:
    """Set the modification time of a file to now, if the disk is writable; raises FileNotFoundError.

    The time is set in nanoseconds: the kernel's own clock counts in milliseconds, so a change right afterwards could
    get the same time.
    """
    now = time.time_ns()
    try:
        os.utime(path, ns=(now, now), follow_symlinks=False)
    except FileNotFoundError:
        raise
    except PermissionError:
        # Only the owner may set an explicit time; the group can set the present one.
        with contextlib.suppress(PermissionError):
            os.utime(path)
    except OSError as error:
        # Reads must succeed on a read-only disk, from which nothing is collected either.
        log.debug("failed to update a file's modification time", path=str(path), error=error.strerror)
