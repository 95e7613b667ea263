"""The files of an OCI layout, wherever they are. All methods block and may raise OSError."""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

from tagferry.errors import WrongContent
from tagferry.oci.model import Descriptor

INDEX = "index.json"
MARKER = "oci-layout"
DRAFTS = ".tagferry"
"""The directory of unfinished blobs, which a later process resumes."""
LAYOUT_VERSION = "1.0.0"
MARKER_CONTENT = b'{"imageLayoutVersion":"%s"}' % LAYOUT_VERSION.encode()
MARKER_BYTES = 4096
"""The most that is read of the marker."""
_WITHOUT_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_REHASH_BYTES = 1024 * 1024


def blob_name(digest: str) -> str:
    """Return the path of a blob inside its layout."""
    algorithm, _, encoded = digest.partition(":")
    return f"blobs/{algorithm}/{encoded}"


def sync(path: "str | os.PathLike[str]") -> None:
    """Make a file, or the names in a directory, durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take_lock(descriptor: int, *, wait: bool) -> bool:
    """Lock a file or directory for this process; return False if its file system has no locks, as some networks' have.

    Raises:
        BlockingIOError: another process has the lock, and `wait` is false.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in _WITHOUT_LOCKS:
            return False
        raise
    return True


def keep_access(draft: int, replaced: "os.PathLike[str]") -> None:
    """Give a file that is about to replace another one its permissions, and its owner if that is allowed.

    Args:
        draft: the descriptor of the new file.
        replaced: the file that it replaces, if it exists.
    """
    try:
        old = os.stat(replaced)  # noqa: PTH116
    except FileNotFoundError:
        return
    try:
        os.fchown(draft, old.st_uid, old.st_gid)
    except PermissionError:
        # The file will be the caller's own, but may belong to any of the caller's groups.
        with contextlib.suppress(PermissionError):
            os.fchown(draft, -1, old.st_gid)
    # Afterwards, since a change of the owner takes some permissions away.
    with contextlib.suppress(PermissionError):
        os.fchmod(draft, stat.S_IMODE(old.st_mode))


class Stamp(NamedTuple):
    """The attributes that distinguish a file, or a part of one, from what replaces it.

    Attributes:
        inode: of the file.
        size: of the part, in bytes.
        modified: when the file was modified, in nanoseconds; programs can set it.
        changed: when the file or its status was changed, in nanoseconds; no program can set it.
        start: where the part begins in the file.
    """

    inode: int
    size: int
    modified: int
    changed: int
    start: int = 0

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """Return the stamp of a file."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class OpenFile:
    """A part of a file, open for reading.

    Args:
        descriptor: the file descriptor, closed with this object.
        start: where the part begins in the file.
        size: its bytes.
    """

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self._descriptor = descriptor
        self._start = start
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        """Return at most `length` bytes at the offset; none at the end."""
        return os.pread(self._descriptor, max(0, min(length, self.size - offset)), self._start + offset)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class Draft:
    """A blob that is being written: a file that is moved into the layout once its content is verified.

    Args:
        path: the file.
        descriptor: its file descriptor, opened for reading and writing, closed with this object.
        blob: the expected content.
        target: the path of the blob in the layout.
        is_resumable: whether a later attempt finds it again.
    """

    def __init__(self, path: str, descriptor: int, blob: Descriptor, target: str, *, is_resumable: bool = True) -> None:
        self._is_resumable = is_resumable
        self._is_committed = False
        self._path = path
        self._descriptor = descriptor
        self._blob = blob
        self._target = target
        self._hash = hashlib.new(blob.digest.algorithm)
        self.size = 0

    def resume(self) -> int:
        """Take over the bytes that an earlier process has written; return their number."""
        size = min(os.fstat(self._descriptor).st_size, self._blob.size)
        while self.size < size and (chunk := os.read(self._descriptor, min(_REHASH_BYTES, size - self.size))):
            self._hash.update(chunk)
            self.size += len(chunk)
        os.ftruncate(self._descriptor, self.size)
        return self.size

    def write(self, chunk: bytes) -> None:
        """Append bytes; raises WrongContent if there are more than the blob's size."""
        if self.size + len(chunk) > self._blob.size:
            raise WrongContent(f"{self._blob.digest} is longer than its {self._blob.size} bytes")
        self._hash.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.pwrite(self._descriptor, view, self.size + len(chunk) - len(view)) :]
        self.size += len(chunk)

    def commit(self) -> None:
        """Move the verified blob into the layout, durably; raises WrongContent if its size or digest differs."""
        digest = self._blob.digest
        if self.size != self._blob.size:
            raise WrongContent(f"{digest} ended after {self.size} of its {self._blob.size} bytes")
        if self._hash.hexdigest() != digest.encoded:
            raise WrongContent(f"{digest} has content with the digest {digest.algorithm}:{self._hash.hexdigest()}")
        os.fsync(self._descriptor)
        os.makedirs(os.path.dirname(self._target), exist_ok=True)  # noqa: PTH103, PTH120 - a string is cheaper
        try:
            os.replace(self._path, self._target)  # noqa: PTH105
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._move_to_other_file_system()
        self._is_committed = True

    def _move_to_other_file_system(self) -> None:
        """Move the blob where `blobs` is a link to another disk, for example one that several layouts share."""
        copy = f"{self._target}.{os.getpid()}-{threading.get_ident()}"
        try:
            shutil.copyfile(self._path, copy)
            sync(copy)
            os.replace(copy, self._target)  # noqa: PTH105
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(copy)  # noqa: PTH108
            raise
        os.unlink(self._path)  # noqa: PTH108

    def close(self, *, keep: bool) -> None:
        """Close the file; delete it unless a later attempt is to resume it."""
        if not self._is_committed and not (keep and self._is_resumable):
            os.unlink(self._path)  # noqa: PTH108
        os.close(self._descriptor)


class LayoutFiles(Protocol):
    """The files of one layout.

    Attributes:
        is_rewritten: whether `commit` writes all content again.
    """

    is_rewritten: bool

    def allow_writes(self) -> None:
        """Declare that the layout will be written to; until then it is only read."""
        ...

    def read(self, name: str, limit: int) -> bytes | None:
        """Return the content of a file, at most one byte more than the limit; None if it does not exist."""
        ...

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes; None if it does not exist."""
        ...

    def stamp(self, name: str) -> Stamp | None:
        """Return the stamp of a file; None if it does not exist."""
        ...

    def open(self, name: str) -> OpenFile | None:
        """Open a file; None if it does not exist."""
        ...

    def draft(self, blob: Descriptor) -> Draft:
        """Start to write a blob, or continue what an earlier process has written of it."""
        ...

    def add(self, blob: Descriptor, content: bytes) -> None:
        """Write a small blob."""
        ...

    def replace_index(self, change: Callable[[bytes | None], bytes | None]) -> None:
        """Replace the index atomically, unless `change` returns None; other processes wait meanwhile.

        Args:
            change: returns the new index; its argument is the current one.
        """
        ...

    def commit(self) -> None:
        """Make everything that was written part of the layout, if it is not yet."""
        ...

    def close(self) -> None:
        """Close all files."""
        ...
