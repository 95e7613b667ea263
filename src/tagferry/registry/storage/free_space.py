"""Free space on a registry's disk."""

import os
from dataclasses import dataclass
from pathlib import Path

from tagferry import bounds
from tagferry.metrics import BOUND_REACHED
from tagferry.registry.storage.threads import DISK_FULL, DISK_READ_ONLY, DiskFull

_LARGEST_RESERVE = 1024 * 1024 * 1024
_RESERVED_PART = 20
_MARGIN = 16 * 1024 * 1024
_LEAST = 1024 * 1024
_SPARE_INODES = 64
"""Inodes left free on a file system that limits them, so that the database and logs still work."""


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """Bytes of a disk: those that can still be written, and all."""

    free: int
    total: int


class FreeSpace:
    """The free space on the disk of one registry. Its methods block for microseconds. A reload changes `reserve`.

    Args:
        root: a directory on the disk.
        reserve: bytes left free, so that the database, logs and deletions still work; by default a twentieth of the
            disk, at most 1 GiB.
    """

    def __init__(self, root: Path, reserve: int | None = None) -> None:
        self._root = root
        self.reserve = reserve

    def require(self, size: int) -> None:
        """Raise DiskFull if writing this many bytes would use the reserve."""
        disk = os.statvfs(self._root)
        if disk.f_bavail * disk.f_frsize - size < self._reserved(disk) or not _has_inodes(disk, self.reserve):
            BOUND_REACHED.labels(bound="disk_reserve_bytes").inc()
            raise DiskFull(DISK_FULL)

    def space(self) -> DiskSpace | None:
        """Return the size of the disk and its free space; None if it cannot be read."""
        try:
            disk = os.statvfs(self._root)
        except OSError:
            return None
        return DiskSpace(free=disk.f_bavail * disk.f_frsize, total=disk.f_blocks * disk.f_frsize)

    def scarcity(self) -> str | None:
        """Return how little space is left, as a message; None if there is enough, or no reserve is kept."""
        try:
            disk = os.statvfs(self._root)
        except OSError:
            return None
        free, reserve = disk.f_bavail * disk.f_frsize, self._reserved(disk)
        if free >= bounds.DISK_SCARCE_RESERVES * reserve:
            return None
        return f"almost full: {_gibibytes(free)} left; pushes are refused below {_gibibytes(reserve)}"

    def write_error(self) -> str | None:
        """Return why writes fail; None if they succeed."""
        try:
            disk = os.statvfs(self._root)
        except OSError as error:
            return f"the registry's disk cannot be used ({error.strerror})"
        if disk.f_flag & os.ST_RDONLY or not os.access(self._root, os.W_OK):
            return DISK_READ_ONLY
        # Reported somewhat before pushes are refused: a disk with space for only the smallest pushes counts as full.
        reserved = self._reserved(disk)
        if disk.f_bavail * disk.f_frsize < reserved + max(_LEAST, min(_MARGIN, reserved)):
            return DISK_FULL
        if not _has_inodes(disk, self.reserve, margin=min(_SPARE_INODES, disk.f_files // _RESERVED_PART)):
            return DISK_FULL
        return None

    def _reserved(self, disk: os.statvfs_result) -> int:
        if self.reserve is not None:
            return self.reserve
        return min(_LARGEST_RESERVE, disk.f_blocks * disk.f_frsize // _RESERVED_PART)


def _gibibytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _has_inodes(disk: os.statvfs_result, reserve: int | None, *, margin: int = 0) -> bool:
    """Return whether more files can be created; always True for a file system without a limit."""
    if not disk.f_files:
        return True
    kept = 0 if reserve == 0 else min(_SPARE_INODES, disk.f_files // _RESERVED_PART)
    return disk.f_favail > kept + margin
