"""Whether what is stored still is what its digest says.

A file that is not carries a **mark**: the sticky bit of its mode, which means nothing else on a regular file. All the
hard links of a file share its mode, so a mark is seen in every repository, by every process and after every restart,
with the `stat` that each request makes anyway. Marked content counts as not held (docs/decisions/0024).

All of this blocks; it runs in the disk's threads.
"""

import contextlib
import hashlib
import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import structlog

from tagferry.metrics import DAMAGED_CONTENT
from tagferry.names import Digest, RepositoryName

READ_WHOLE = 1024 * 1024
"""Bytes of the largest blob that is read whole and verified before anything is said of it."""
_REMEMBERED = 32_768
_REPORTED = 1000
_PIECE = 512 * 1024
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
    """Whether a file is marked as damaged."""
    return bool(found.st_mode & stat.S_ISVTX)


class Integrity:
    """Verifies the files of one registry, remembers which were right, and marks those that are not."""

    def __init__(self) -> None:
        self._right: OrderedDict[int, _Stamp] = OrderedDict()
        self._lock = Lock()
        self._reported: OrderedDict[Damage, None] = OrderedDict()

    def is_right(self, found: os.stat_result) -> bool:
        """Whether a file was verified since this process began, and has not been written to since."""
        return self._right.get(found.st_ino) == _Stamp.of(found)

    def remember(self, found: os.stat_result) -> None:
        """Note that a file is right as it is now."""
        with self._lock:
            self._right[found.st_ino] = _Stamp.of(found)
            self._right.move_to_end(found.st_ino)
            if len(self._right) > _REMEMBERED:
                self._right.popitem(last=False)

    def check(
        self, path: Path, digest: Digest, *, kind: str = "blob", repository: RepositoryName | None = None
    ) -> bool:
        """Read a whole file, mark it where it is not what its digest says, and return whether it is.

        Args:
            path: the file; what is a manifest has a line before its content.
            digest: the digest of the content.
            kind: `blob` or `manifest`.
            repository: of a manifest, where it is.

        Raises:
            FileNotFoundError: there is no such file.
        """
        for _ in range(2):
            found = path.stat()
            try:
                actual = hash_file(path, digest.algorithm, has_head=kind == "manifest")
            except FileNotFoundError:
                raise
            except OSError as error:
                log.warning("a stored file could not be read", path=str(path), error=error.strerror)
            else:
                if actual == digest.encoded:
                    self.remember(found)
                    return True
            # What the memory holds of the file may be wrong, and the disk right.
            forget_cached(path)
        self.mark(path, Damage(kind, digest, repository))
        return False

    def mark(self, path: Path, damage: Damage) -> None:
        """Mark a file as damaged, durably, and tell of it once."""
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            mode = os.fstat(descriptor).st_mode
            if mode & stat.S_ISVTX:
                return
            os.fchmod(descriptor, stat.S_IMODE(mode) | stat.S_ISVTX)
            os.fsync(descriptor)
        except OSError as error:
            # It is found again whenever it is read.
            log.warning("damaged content could not be marked", path=str(path), error=error.strerror)
        finally:
            os.close(descriptor)
        self.report(damage)

    def unmark(self, path: Path) -> None:
        """Take a mark away from a file that has turned out to be right."""
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~stat.S_ISVTX)

    def report(self, damage: Damage) -> None:
        """Log and count damage once, and keep it for whoever repairs it."""
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

    def healed(self, damage: Damage) -> None:
        """Note that damage is no more."""
        with self._lock:
            if self._reported.pop(damage, ...) is None:
                log.info("damaged content was replaced", kind=damage.kind, name=damage.name)


def hash_file(
    path: Path, algorithm: str, *, has_head: bool = False, after_piece: Callable[[int], None] | None = None
) -> str:
    """The hexadecimal digest of a file's content.

    Args:
        path: the file.
        algorithm: of the digest.
        has_head: whether its first line is no part of the content.
        after_piece: called with the bytes of every piece that was read.
    """
    running = hashlib.new(algorithm)
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            if after_piece is not None:
                after_piece(len(piece))
            if has_head:
                _, newline, piece = piece.partition(b"\n")
                has_head = not newline
            running.update(piece)
    return running.hexdigest()


def forget_cached(path: Path) -> None:
    """Have the next read of a file come from the disk, where the system knows how."""
    if not hasattr(os, "posix_fadvise"):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def record_size(path: Path) -> None:
    """Write down a complete file's size with it, where the file system can: it tells later that the file was cut.

    What is small is always read whole, which tells it too.
    """
    size = path.stat().st_size
    if size > READ_WHOLE and hasattr(os, "setxattr"):
        with contextlib.suppress(OSError):
            os.setxattr(path, _SIZE_ATTRIBUTE, str(size).encode())


def recorded_size(path: Path) -> int | None:
    """The size that was written down with a file, in bytes."""
    if not hasattr(os, "getxattr"):
        return None
    try:
        return int(os.getxattr(path, _SIZE_ATTRIBUTE))
    except (OSError, ValueError):
        return None


def touch(path: Path) -> None:
    """Set a file's age to nothing, where it may be written to; raises FileNotFoundError.

    The time is given to the nanosecond: what the kernel would write, which counts in milliseconds, could not be told
    from a change right after it.
    """
    now = time.time_ns()
    try:
        os.utime(path, ns=(now, now))
    except FileNotFoundError:
        raise
    except PermissionError:
        # A group may write, and not give a time.
        with contextlib.suppress(PermissionError):
            os.utime(path)
    except OSError as error:
        # Reads never need to write: of a disk that is read-only nothing is collected either.
        log.debug("a file's age could not be renewed", path=str(path), error=error.strerror)
