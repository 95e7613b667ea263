"""Blobs on disk: one pool of content, and every repository's hard links into it.

All of this blocks; it runs in the disk's threads. Links are atomic, so repositories need no lock between them: a
link that fails because its source has just gone means that the source was absent.
"""

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import BinaryIO

from tagferry.errors import NotFound
from tagferry.names import Digest, RepositoryName
from tagferry.registry.files import make_directory, sync_directory
from tagferry.registry.layout import Layout

_FRESH_SECONDS = 60


class BlobFiles:
    """The blobs of one registry."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def size(self, repository: RepositoryName, digest: Digest) -> int | None:
        """A blob's bytes, or None where the repository does not hold it.

        Who is told that a blob is there may refer to it without sending it again, so this renews its age: the
        garbage collection's grace period counts from here.
        """
        path = self._layout.blob(repository, digest)
        try:
            found = path.stat()
            if time.time() - found.st_mtime > _FRESH_SECONDS:
                os.utime(path)
        except FileNotFoundError:
            return None
        return found.st_size

    def holds(self, repository: RepositoryName, digest: Digest) -> bool:
        """Whether the repository holds a blob."""
        return self._layout.blob(repository, digest).exists()

    def open(self, repository: RepositoryName, digest: Digest) -> BinaryIO:
        """Open a blob to read; raises NotFound."""
        try:
            return self._layout.blob(repository, digest).open("rb", buffering=0)
        except FileNotFoundError:
            raise NotFound("blob", digest) from None

    def mount(self, repository: RepositoryName, digest: Digest, source: RepositoryName) -> bool:
        """Take a blob over from another repository, if that holds it."""
        return self._link(self._layout.blob(source, digest), self._layout.blob(repository, digest))

    def commit(self, spooled: Path, repository: RepositoryName, digest: Digest) -> None:
        """Make a verified, durable file the content of a blob of this repository, and remove the file."""
        pooled, member = self._layout.pooled(digest), self._layout.blob(repository, digest)
        self._link(spooled, pooled)
        if not self._link(pooled, member):
            # The pool's file went between the two links, or has as many links as the file system allows.
            self._link(spooled, member)
        spooled.unlink()

    def delete(self, repository: RepositoryName, digest: Digest) -> int:
        """Take a blob out of a repository and return the bytes that this freed; raises NotFound."""
        path = self._layout.blob(repository, digest)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            raise NotFound("blob", digest) from None
        sync_directory(path.parent)
        return size if self._release(self._layout.pooled(digest)) else 0

    def _link(self, source: Path, target: Path) -> bool:
        make_directory(target.parent)
        try:
            target.hardlink_to(source)
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                os.utime(target)
            return True
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno == errno.EMLINK:
                return False
            raise
        os.utime(target)
        sync_directory(target.parent)
        return True

    @staticmethod
    def _release(pooled: Path) -> bool:
        """Remove a file of the pool that no repository links to any more."""
        try:
            if pooled.stat().st_nlink > 1:
                return False
            pooled.unlink()
        except FileNotFoundError:
            return False
        return True

    def sweep_pool(self, older_than: float) -> int:
        """Remove pool files without a repository, last used before this time (seconds since 1970); bytes freed."""
        freed = 0
        for folder, _, names in os.walk(self._layout.pool):
            for path in (Path(folder, name) for name in names):
                try:
                    found = path.stat()
                except FileNotFoundError:
                    continue
                if found.st_nlink == 1 and found.st_mtime < older_than and self._release(path):
                    freed += found.st_size
        return freed
