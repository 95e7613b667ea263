"""Verify that stored content matches its digest, and mark what does not.

A damaged file carries a **mark**: the sticky bit of its mode, which means nothing else on a regular file. All the
hard links of a file share its mode, so a mark is seen in every repository, by every process and after every restart,
with the `stat` that each request makes anyway. Marked content counts as not held (docs/decisions/0024).

All of this blocks; it runs in the disk's threads.
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
"""Bytes of the largest blob that is read whole and verified before anything is said of it."""
_REMEMBERED = 32_768
_REPORTED = 1000
_CHUNK_BYTES = 512 * 1024
_SIZE_ATTRIBUTE = "user.tagferry.size"

log = structlog.get_logger(__name__)


class Damage(NamedTuple):
    """Content that was found damaged.

    Attributes:
        kind: `blob`, `manifest`, `tag` or `referrer`.
        name: the digest, or the tag.
        repository: where; None for a blob, which all repositories share.
    """

    kind: str
    name: str
    repository: RepositoryName | None = None


class _Stamp(NamedTuple):
    """Changes whenever a file's content does, unless the disk itself changes it."""

    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, found: os.stat_result) -> "_Stamp":
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def is_marked(found: os.stat_result) -> bool:
    """Whether what lies there is marked as damaged, or is not even a file."""
    return bool(found.st_mode & stat.S_ISVTX) or not stat.S_ISREG(found.st_mode)


class IntegrityChecker:
    """Verifies the files of one registry, remembers which were right, and marks those that are not.

    A mark may be lost, or set by whoever copied the files, and some file systems have none. So a marked file is read
    once by every process, which takes a false mark away, and what was found wrong is remembered without it, too.
    """

    def __init__(self) -> None:
        self._verified: OrderedDict[int, _Stamp] = OrderedDict()
        self._damaged: OrderedDict[int, _Stamp] = OrderedDict()
        self._lock = Lock()
        self._reported: OrderedDict[Damage, None] = OrderedDict()

    def is_verified(self, found: os.stat_result) -> bool:
        """Whether a file was verified since this process began, and has not been written to since."""
        return self._verified.get(found.st_ino) == _Stamp.of(found)

    def is_known_damaged(self, found: os.stat_result) -> bool:
        """Whether a file was found damaged since this process began, and has not been written to since."""
        return self._damaged.get(found.st_ino) == _Stamp.of(found)

    def remember(self, found: os.stat_result) -> None:
        """Note that a file is right as it is now."""
        self._note(self._verified, found)

    def check(
        self,
        path: Path,
        digest: Digest,
        *,
        kind: str = "blob",
        repository: RepositoryName | None = None,
        on_chunk: Callable[[int], None] | None = None,
    ) -> bool:
        """Read a whole file, mark it where it is not what its digest says, and return whether it is.

        Args:
            path: the file; what is a manifest has a line before its content.
            digest: the digest of the content.
            kind: `blob` or `manifest`.
            repository: of a manifest, where it is.
            on_chunk: called with the bytes of every piece that was read.

        Raises:
            FileNotFoundError: there is no such file.
        """
        was_marked = False
        # One open file for all of it: what takes its place meanwhile is not what was read.
        try:
            with open_file(path) as file:
                for _ in range(2):
                    found = os.fstat(file.fileno())
                    was_marked = is_marked(found)
                    if found.st_size > _most(path, kind):
                        # What has grown is wrong, and may take for ever to read.
                        break
                    if _hash(file, digest.algorithm, kind == "manifest", on_chunk) == digest.encoded:
                        self.remember(_without_mark(file) if was_marked else found)
                        return True
                    # What the memory holds of the file may be wrong, and the disk right.
                    forget_cached(file)
                self._mark(file, path)
        except FileNotFoundError:
            raise
        except OSError as error:
            if not concerns_file(error):
                raise
            log.warning("a stored file could not be read", path=str(path), error=error.strerror)
            self._note(self._damaged, path.lstat())
        if not was_marked:
            self.report(Damage(kind, digest, repository))
        return False

    def mark(self, path: Path, damage: Damage) -> None:
        """Mark a file as damaged, durably, and report it once."""
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
            # This process remembers it, and another one finds it again.
            log.warning("damaged content could not be marked", path=str(path), error=error.strerror)
        self._note(self._damaged, os.fstat(descriptor))

    def _note(self, noted: OrderedDict[int, _Stamp], found: os.stat_result) -> None:
        with self._lock:
            noted[found.st_ino] = _Stamp.of(found)
            noted.move_to_end(found.st_ino)
            if len(noted) > _REMEMBERED:
                noted.popitem(last=False)

    def report(self, damage: Damage) -> None:
        """Log and count damage once, and keep it for the repair."""
        with self._lock:
            if damage in self._reported:
                return
            self._reported[damage] = None
            if len(self._reported) > _REPORTED:
                self._reported.popitem(last=False)
        DAMAGED_CONTENT.labels(kind=damage.kind).inc()
        log.error(
            "found damaged content; it is not served until it is pushed or synchronized again",
            kind=damage.kind,
            name=damage.name,
            repository=damage.repository,
        )

    def reported(self) -> list[Damage]:
        """What was found damaged and has not been healed."""
        with self._lock:
            return list(self._reported)

    def record_repair(self, damage: Damage) -> None:
        """Note that damage was repaired."""
        with self._lock:
            if self._reported.pop(damage, ...) is None:
                log.info("damaged content was replaced", kind=damage.kind, name=damage.name)

    def deleted(self, damage: Damage) -> None:
        """Note that content was deleted, which may have been damaged."""
        with self._lock:
            self._reported.pop(damage, None)


def _most(path: Path, kind: str) -> float:
    """Bytes that a file may have."""
    if kind == "manifest":
        return bounds.MANIFEST_BYTES + bounds.MEDIA_TYPE_CHARACTERS + 1
    size = recorded_size(path)
    return math.inf if size is None else size


def _hash(
    file: BinaryIO, algorithm: str, has_head: bool = False, on_chunk: Callable[[int], None] | None = None
) -> str | None:
    """The hexadecimal digest of an open file's content, perhaps behind its first line; None where it cannot be read."""
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
        log.warning("a stored file could not be read", error=error.strerror)
        return None


def _without_mark(file: BinaryIO) -> os.stat_result:
    """Take a mark away from a file that has turned out to be right, where the disk takes that."""
    with contextlib.suppress(OSError):
        os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode) & ~stat.S_ISVTX)
    return os.fstat(file.fileno())


def forget_cached(file: BinaryIO) -> None:
    """Have the next read of a file come from the disk, where the system knows how."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def record_size(path: Path) -> None:
    """Write down a complete file's size with it, where the file system can: it tells later that the file was cut."""
    if hasattr(os, "setxattr"):
        with contextlib.suppress(OSError):
            os.setxattr(path, _SIZE_ATTRIBUTE, str(path.stat().st_size).encode())


def recorded_size(path: Path) -> int | None:
    """The size that was written down with a file, in bytes."""
    if not hasattr(os, "getxattr"):
        return None
    try:
        return int(os.getxattr(path, _SIZE_ATTRIBUTE, follow_symlinks=False))
    except (OSError, ValueError):
        return None


def touch(path: Path) -> None:
    """Set a file's age to nothing, where it may be written to; raises FileNotFoundError.

    The time is given to the nanosecond: what the kernel would write, which counts in milliseconds, could not be told
    from a change right after it.
    """
    now = time.time_ns()
    try:
        os.utime(path, ns=(now, now), follow_symlinks=False)
    except FileNotFoundError:
        raise
    except PermissionError:
        # A group may write, and not give a time.
        with contextlib.suppress(PermissionError):
            os.utime(path)
    except OSError as error:
        # Reads never need to write: of a disk that is read-only nothing is collected either.
        log.debug("a file's age could not be renewed", path=str(path), error=error.strerror)
