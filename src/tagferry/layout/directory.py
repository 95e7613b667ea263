"""An OCI layout in a directory."""

import contextlib
import os
import stat
import uuid
from collections.abc import Callable
from pathlib import Path

from tagferry import bounds
from tagferry.layout.files import (
    DRAFTS,
    INDEX,
    MARKER,
    MARKER_CONTENT,
    Draft,
    OpenFile,
    Stamp,
    blob_name,
    keep_access,
    sync,
    take_lock,
)
from tagferry.names import DIGEST_ALGORITHMS
from tagferry.oci.model import Descriptor
from tagferry.regular_file import open_regular

_ATTEMPTS = 10
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class DirectoryFiles:
    """The `LayoutFiles` of a directory, which is created by the first write.

    Args:
        root: the directory.
    """

    is_rewritten = False

    def __init__(self, root: Path) -> None:
        self._root = root
        self._has_drafts = False

    def allow_writes(self) -> None:
        """Nothing to prepare: each write is on its own."""

    def read(self, name: str, limit: int) -> bytes | None:
        try:
            descriptor = open_regular(self._root / name, follow_links=True)
        except _MISSING:
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read(limit + 1)

    def size(self, name: str) -> int | None:
        stamp = self.stamp(name)
        return stamp.size if stamp is not None else None

    def stamp(self, name: str) -> Stamp | None:
        try:
            status = os.stat(self._root / name)  # noqa: PTH116
        except _MISSING:
            return None
        # A pipe or a directory has no content, and a target replaces it.
        return Stamp.of(status) if stat.S_ISREG(status.st_mode) else None

    def open(self, name: str) -> OpenFile | None:
        try:
            descriptor = open_regular(self._root / name, follow_links=True)
        except _MISSING:
            return None
        return OpenFile(descriptor, 0, os.fstat(descriptor).st_size)

    def draft(self, blob: Descriptor) -> Draft:
        self._has_drafts = True
        drafts = self._root / DRAFTS
        target = str(self._root / blob_name(blob.digest))
        path = drafts / blob.digest.replace(":", "-")
        descriptor = _open(path)
        if _is_locked(descriptor, path):
            draft = Draft(str(path), descriptor, blob, target)
            draft.resume()
            return draft
        # Another writer has this one, in this process or another.
        os.close(descriptor)
        path = drafts / uuid.uuid4().hex
        return Draft(str(path), _open(path), blob, target, is_resumable=False)

    def add(self, blob: Descriptor, content: bytes) -> None:
        _replace(self._root / blob_name(blob.digest), content)

    def replace_index(self, change: Callable[[bytes | None], bytes | None]) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            take_lock(lock, wait=True)
            index = self._root / INDEX
            content = change(self.read(INDEX, bounds.TAG_LIST_BYTES))
            if content is None:
                return
            if not (self._root / MARKER).exists():
                _replace(self._root / MARKER, MARKER_CONTENT)
            # The index must not outlast a loss of power without the content that it lists.
            for folder in ("blobs", *(f"blobs/{algorithm}" for algorithm in DIGEST_ALGORITHMS)):
                with contextlib.suppress(FileNotFoundError):
                    sync(self._root / folder)
            _replace(index, content)
            os.fsync(lock)
        finally:
            os.close(lock)

    def commit(self) -> None:
        """Remove the directory of drafts if it is empty; everything else is in place."""
        # That of another writer is left alone, as are layouts that are only read.
        if self._has_drafts:
            with contextlib.suppress(OSError):
                (self._root / DRAFTS).rmdir()

    def close(self) -> None:
        self.commit()


def _open(path: Path) -> int:
    """Open or create a draft; raises FileNotFoundError if its directory keeps vanishing."""
    for attempt in range(_ATTEMPTS):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            # Another writer that ends has removed the empty directory just now.
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


def _is_locked(descriptor: int, path: Path) -> bool:
    """Lock a file for this process; return whether that succeeded, and the file still has this path."""
    try:
        if not take_lock(descriptor, wait=False):
            # Without locks, writers cannot share a name.
            path.unlink()
            return False
        # The previous owner may have moved the file into the layout just before.
        return os.path.samestat(os.fstat(descriptor), os.stat(path))  # noqa: PTH116
    except (BlockingIOError, FileNotFoundError):
        return False


def _replace(path: Path, content: bytes) -> None:
    """Replace a file atomically and durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name[:32]}-{uuid.uuid4().hex}")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            keep_access(file.fileno(), path)
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
