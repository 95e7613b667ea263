"""Open regular files, and nothing that blocks or is not a file; find out whether a process has locked one."""

import errno
import fcntl
import os
import stat


def open_regular(path: "str | os.PathLike[str]", *, follow_links: bool) -> int:
    """Open a regular file for reading; anything else fails at once, without blocking. Returns the file descriptor.

    Args:
        path: the file.
        follow_links: whether its last component may be a symbolic link.

    Raises:
        FileNotFoundError: it does not exist.
        IsADirectoryError: it is a directory.
        OSError: it cannot be read, or is a pipe, a device or a link that is not followed.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow_links else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a directory", os.fspath(path))
    raise OSError(errno.EINVAL, "is not a regular file", os.fspath(path))


def is_locked(descriptor: int) -> bool:
    """Return whether another process has locked an open file for itself; false if that is not known.

    A process that locks the file at the same moment may be refused, since the file is locked for a moment.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
