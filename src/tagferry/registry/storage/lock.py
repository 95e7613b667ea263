"""The lock of a registry's root directory, which one process at a time can write to."""

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
from tagferry.regular_file import is_locked, open_regular

LOCK_FILE = "lock"
_MAX_HOLDER_BYTES = 300
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


class RootLock:
    """The lock of a root directory, released when its process ends. While it is held, its file names the process.

    Attributes:
        was_abandoned: whether the previous holder crashed or was killed.
    """

    def __init__(self, descriptor: int | None, *, was_abandoned: bool = False) -> None:
        self._descriptor = descriptor
        self.was_abandoned = was_abandoned

    @classmethod
    def take(cls, root: Path) -> Self:
        """Take the lock; a read-only disk needs none.

        Raises:
            Unavailable: another process holds the lock (the message names it), or the directory cannot be locked.
        """
        try:
            make_directory(root)
            descriptor = os.open(root / LOCK_FILE, _FLAGS, 0o600)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise OSError(errno.EINVAL, "Not a regular file")
        except OSError as error:
            # A lock file of another user on a writable disk still protects the directory.
            if error.errno in _NOT_WRITABLE and root.is_dir() and not _is_writable(root):
                return cls(None)
            raise _unusable(root, error) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            try:
                holder = _holder(descriptor)
            finally:
                os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise _unusable(root, error) from None
            raise root_in_use(root, holder) from None
        was_abandoned = bool(os.pread(descriptor, 1, 0))
        if was_abandoned:
            _sync_file_system(descriptor)
        os.ftruncate(descriptor, 0)
        # A full disk must not prevent reads, or deletions that free space.
        with contextlib.suppress(OSError):
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        return cls(descriptor, was_abandoned=was_abandoned)

    def release(self) -> None:
        """Release the lock, and record that it was not abandoned."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def lock_holder(root: Path) -> str | None:
    """Return the process that holds the lock of a root directory, as its file names it; None if none does.

    Nothing is created or changed. A process that takes the lock at the same moment may be refused.
    """
    try:
        descriptor = open_regular(root / LOCK_FILE, follow_links=False)
    except OSError:
        return None
    try:
        return _holder(descriptor) if is_locked(descriptor) else None
    finally:
        os.close(descriptor)


def root_in_use(root: Path, holder: str) -> Unavailable:
    """Return the error for a root directory whose lock another process holds."""
    return Unavailable(
        f'the registry directory "{root}" is in use by {holder}; give each process its own data_dir, or '
        "connect to the region by its address (registry = …)"
    )


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, _MAX_HOLDER_BYTES, 0).decode("utf-8", "replace").strip() or "another process"


def _is_writable(root: Path) -> bool:
    return os.access(root, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _unusable(root: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f'cannot lock the registry directory "{root}" with its file "{LOCK_FILE}" ({error.strerror}); both have to '
        "belong to the user that runs tagferry, on a file system that supports locks"
    )


def _sync_file_system(descriptor: int) -> None:
    """Sync the whole file system: a killed process may have left directory entries that are not synced."""
    try:
        result = ctypes.CDLL(None, use_errno=True).syncfs(descriptor)
    except (AttributeError, OSError):
        os.sync()
        return
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
