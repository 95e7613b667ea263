"""Open and read files only from the kernel's caches, which never waits for the disk and so needs no thread.

Linux 5.12 and later look up a path only in memory with `RESOLVE_CACHED` (openat2(2)), and read only cached pages with
`RWF_NOWAIT` (preadv2(2)). Wherever either is missing, or refused by a sandbox or a file system, nothing counts as
cached.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Callable

# The number is the same on all architectures that Python runs on.
_OPENAT2 = 437
_AT_FDCWD = -100
_RESOLVE_CACHED = 0x20
_LOOK_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | getattr(os, "O_PATH", 0)
# A read would otherwise update the access time once a day, for which the file system may wait.
_READ_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | getattr(os, "O_NOATIME", 0)


class NotCached(Exception):
    """The answer may need the disk."""


class _OpenHow(ctypes.Structure):
    """The kernel's `struct open_how`."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class PageCache:
    """The content of a disk that the kernel holds in memory.

    Attributes:
        is_usable: whether the system can be asked for it.
    """

    def __init__(self) -> None:
        self._to_read = _OpenHow(_READ_FLAGS, 0, _RESOLVE_CACHED)
        self._to_look = _OpenHow(_LOOK_FLAGS, 0, _RESOLVE_CACHED)
        self.is_usable = sys.platform == "linux" and hasattr(os, "RWF_NOWAIT") and self._is_supported()

    def status(self, path: str) -> os.stat_result:
        """Return the status of a file; raises NotCached, and FileNotFoundError if it certainly does not exist."""
        descriptor = self._open(path, self._to_look)
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def open(self, path: str) -> int:
        """Open a file for reading; raises as `status`."""
        return self._open(path, self._to_read)

    def read(self, descriptor: int, size: int) -> bytes:
        """Read the beginning of a file, up to `size` bytes; raises NotCached."""
        content = read_cached(descriptor, size, 0) if self.is_usable else None
        if content is None:
            raise NotCached
        return content

    def _open(self, path: str, how: _OpenHow) -> int:
        if not self.is_usable:
            raise NotCached
        descriptor = _openat2(path, how)
        if descriptor >= 0:
            return descriptor
        if ctypes.get_errno() == errno.ENOENT:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        raise NotCached

    def _is_supported(self) -> bool:
        # The root directory is always in memory.
        descriptor = _openat2("/", self._to_look)
        if descriptor >= 0:
            os.close(descriptor)
        return descriptor >= 0


def read_cached(descriptor: int, size: int, offset: int) -> bytes | None:
    """Read the cached bytes from an offset on, which may be fewer than `size`; None if there are none."""
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    buffer = bytearray(size)
    try:
        count = os.preadv(descriptor, [buffer], offset, os.RWF_NOWAIT)
    except OSError:
        return None
    return bytes(memoryview(buffer)[:count])


def _openat2(path: str, how: _OpenHow) -> int:
    return int(_syscall(_OPENAT2, _AT_FDCWD, os.fsencode(path), ctypes.addressof(how), ctypes.sizeof(how)))


def _system_call() -> Callable[..., int]:
    if sys.platform != "linux":
        return lambda *_: -1
    # Keeps the interpreter's lock, since the call never waits, and giving it away may take longer than the call.
    function = ctypes.PyDLL(None, use_errno=True).syscall
    function.restype = ctypes.c_long
    function.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
    return function


_syscall = _system_call()
