"""The directory beside an archive that holds what is added to it, until a new archive is written."""

import contextlib
import os
import shutil
from pathlib import Path

from tagferry.errors import StorageUnavailable
from tagferry.layout.files import DRAFTS, INDEX, MARKER, take_lock

DRAFT = "archive.tar"
"""The archive being written, in the directory of additions."""
_OWN = frozenset({"blobs", INDEX, MARKER, DRAFTS, DRAFT})
"""The names that tagferry writes to the directory; anything else there is left alone."""
_LOCK = "lock"
_STAMP_BYTES = 200
_ATTEMPTS = 10


class Additions:
    """The directory, which one process at a time has. Its lock file says which archive it extends.

    Args:
        folder: the directory.
        lock: the descriptor of the lock file, closed with this object.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self._folder = folder
        self._lock = lock

    @classmethod
    def take(cls, folder: Path, archive: Path) -> "Additions":
        """Create and lock the directory; raises StorageUnavailable if another process has it."""
        for _ in range(_ATTEMPTS):
            # What is added may be no one else's business, as the archive itself.
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The previous owner may remove the directory just now.
            with contextlib.suppress(FileNotFoundError):
                lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
                try:
                    take_lock(lock, wait=False)
                    if os.path.samestat(os.fstat(lock), os.stat(folder / _LOCK)):  # noqa: PTH116
                        return cls(folder, lock)
                except BlockingIOError:
                    os.close(lock)
                    break
                except BaseException:
                    os.close(lock)
                    raise
                os.close(lock)
        raise StorageUnavailable(f"another process is writing {archive}; repeat the command after it has ended")

    def extend(self, stamp: str) -> None:
        """Keep what an earlier process added to the archive with this stamp; remove what belongs to another one."""
        if os.pread(self._lock, _STAMP_BYTES, 0) == stamp.encode():
            return
        self._remove_content()
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, stamp.encode(), 0)

    def remove(self) -> None:
        """Remove the directory and unlock it."""
        self._remove_content()
        self._unlink()

    def close(self) -> None:
        """Unlock the directory; without content, remove it."""
        if self._content():
            os.close(self._lock)
        else:
            self._unlink()

    def _content(self) -> list[Path]:
        try:
            return [one for one in self._folder.iterdir() if one.name in _OWN]
        except FileNotFoundError:
            return []

    def _unlink(self) -> None:
        # In this order, so that another process either finds the lock, or makes its own in a directory that stays.
        (self._folder / _LOCK).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()
        os.close(self._lock)

    def _remove_content(self) -> None:
        for one in self._content():
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            else:
                one.unlink()
