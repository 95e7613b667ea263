"""Describe why a file or directory cannot be used, for people who can fix that."""

import errno
import os

_FAULTS = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "does not exist",
    errno.EISDIR: "is a directory",
    errno.EEXIST: "is not a directory",
    # As `regular_file` reports it, and as the system reports sockets.
    errno.EINVAL: "is not a regular file",
    errno.ENXIO: "is not a regular file",
    errno.ELOOP: "is a symbolic link that leads to itself",
    errno.ENAMETOOLONG: "has a name that is too long",
    errno.EROFS: "is on a read-only disk",
    errno.ENOSPC: "is on a full disk",
    errno.EDQUOT: "is on a disk whose quota is used up",
    errno.EIO: "is on a disk that fails",
    errno.ESTALE: "is on a network disk that does not answer",
}


def file_fault(error: OSError, *, action: str = "read") -> str:
    """Return what is wrong with a file, such as "does not exist"; a sentence that begins with its path ends with it.

    Args:
        error: the system's error.
        action: what this process wanted to do with the file, as a participle.
    """
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"cannot be {action} by user {user_name()}"
    reason = _FAULTS.get(error.errno or 0)
    return reason or f"cannot be {action} ({(error.strerror or str(error)).lower()})"


def may(path: "os.PathLike[str]", mode: int) -> bool:
    """Return whether this process may access a path, by the user whose rights it has; see os.access for the mode."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def user_name(number: int | None = None) -> str:
    """Return the name of a user, or the number if it has no name; by default of the user of this process."""
    # Not available on all systems, and needed only for errors.
    import pwd

    number = os.geteuid() if number is None else number
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
