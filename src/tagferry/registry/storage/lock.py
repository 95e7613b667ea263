"""A lock that lets one process at a time write to a registry's root directory."""

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import Self

from tagferry.errors import Unavailable
from tagferry.registry.storage.files import make_directory

LOCK_FILE = "lock"
_LONGEST = 300
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


class RootLock:
    """A lock on a root directory, which ends with its process. While it is held, its file names the process.

    Attributes:
        was_abandoned: whether the process that held it before was killed, or lost its power.
    """

    def __init__(self, descriptor: int | None, *, was_abandoned: bool = False) -> None:
        self._descriptor = descriptor
        self.was_abandoned = was_abandoned

    @classmethod
    def take(cls, root: Path) -> Self:
        """Take the lock. On a read-only disk there is none, since nothing can be written.

        Raises:
            Unavailable: another process has it, which is named, or the directory cannot be locked.
        """
        try:
            make_directory(root)
            descriptor = os.open(root / LOCK_FILE, _FLAGS, 0o600)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise OSError(errno.EINVAL, "Not a regular file")
        except OSError as error:
            # A lock that is only another user's protects a disk that can be written to, so it is needed.
            if error.errno in _NOT_WRITABLE and root.is_dir() and not _is_writable(root):
                return cls(None)
            raise _unusable(root, error) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            try:
                holder = os.pread(descriptor, _LONGEST, 0).decode("utf-8", "replace").strip() or "another process"
            finally:
                os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise _unusable(root, error) from None
            raise Unavailable(
                f'the registry directory "{root}" is in use by {holder}; one process at a time may serve it: give each '
                "its own data_dir, or reach the region by its address (registry = …)"
            ) from None
        was_abandoned = bool(os.pread(descriptor, 1, 0))
        if was_abandoned:
            _sync(descriptor)
        os.ftruncate(descriptor, 0)
        # A disk that is full must not keep anybody from reading, or from making room.
        with contextlib.suppress(OSError):
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        return cls(descriptor, was_abandoned=was_abandoned)

    def release(self) -> None:
        """Release the lock, and record that the process ended properly."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def _is_writable(root: Path) -> bool:
    return os.access(root, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _unusable(root: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f'the registry directory "{root}" cannot be locked by its file "{LOCK_FILE}" ({error.strerror}); it has '
        "to be a directory of the user that tagferry runs as, and so has the file, on a file system with locks"
    )


def _sync(descriptor: int) -> None:
    """Make everything on the disk durable: a process that was killed may have made entries and not synced them yet."""
    try:
        result = ctypes.CDLL(None, use_errno=True).syncfs(descriptor)
    except (AttributeError, OSError):
        os.sync()
        return
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
