"""Blobs on disk: a pool of content, and hard links into it from every repository.

All functions block; they run in the disk's threads. Links are atomic, so repositories need no common lock: a link
that fails because its source has just been deleted means that the source did not exist.

A damaged file counts as missing (`integrity`). When its content is stored again, a new file replaces it in the pool by
a rename. The links of other repositories are replaced when they are next accessed.
"""

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from tagferry.errors import Corrupt, NotFound
from tagferry.names import Digest, RepositoryName
from tagferry.oci.model import Descriptor
from tagferry.registry.storage.files import (
    concerns_file,
    make_directory,
    open_file,
    remove_entry,
    rename_over,
    sync_directory,
)
from tagferry.registry.storage.integrity import (
    SMALL_BLOB_BYTES,
    Damage,
    IntegrityChecker,
    is_marked,
    recorded_size,
    touch,
)
from tagferry.registry.storage.layout import Layout
from tagferry.registry.storage.syncing import Syncing

FRESH_SECONDS = 60
"""The age from which on the modification time of a blob's file is renewed when the blob is requested."""


@dataclass(frozen=True, slots=True)
class OpenedBlob:
    """A blob that is open for reading.

    Attributes:
        found: the status of the file when it was opened.
        content: the whole verified content of a small blob.
        is_verified: whether the content is known to match its digest.
    """

    file: BinaryIO | FileIO
    found: os.stat_result
    content: bytes | None
    is_verified: bool

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class BlobFiles:
    """The blobs of one registry."""

    def __init__(self, layout: Layout, integrity: IntegrityChecker, syncing: Syncing) -> None:
        self._layout = layout
        self._syncing = syncing
        self._integrity = integrity

    def size(self, repository: RepositoryName, digest: Digest, *, thorough: bool = False) -> int | None:
        """Return the size of a blob, or None if the repository does not hold it; `thorough` as for `find`.

        The caller may refer to the blob without sending it again, so this restarts the grace period of garbage
        collection.
        """
        found = self.find(repository, digest, thorough=thorough)
        if found is None:
            return None
        if time.time() - found.st_mtime > FRESH_SECONDS and not self._renew(
            self._layout.blob(repository, digest), found
        ):
            return None
        return found.st_size

    def find(
        self, repository: RepositoryName, digest: Digest, *, size: int | None = None, thorough: bool = False
    ) -> os.stat_result | None:
        """Return the status of a blob's file, or None if the repository does not hold the blob undamaged.

        Args:
            repository: the repository.
            digest: the blob's digest.
            size: the expected size; a file of another size is read and verified.
            thorough: whether to read and verify any file that is not verified yet.
        """
        file = self._layout.blob_file(repository, digest)
        for _ in range(2):
            try:
                found = os.lstat(file)
                if self._integrity.is_trusted(found):
                    return found
                path = Path(file)
                if self._is_intact(path, digest, found, size=size, thorough=thorough):
                    return found
            except FileNotFoundError:
                return None
            if not self._relink_to_pool(path, digest, found):
                return None
        return None

    def is_damaged(self, repository: RepositoryName, digest: Digest) -> bool:
        """Return whether a blob exists and is damaged; an unverified large blob counts as undamaged."""
        return self.find(repository, digest) is None and os.path.lexists(self._layout.blob(repository, digest))

    def holds(self, repository: RepositoryName, digest: Digest, size: int) -> bool:
        """Return whether the repository holds a blob, whose size should be `size`, undamaged."""
        return self.find(repository, digest, size=size) is not None

    def is_held(self, repository: RepositoryName, descriptor: Descriptor) -> bool:
        """Return whether a repository holds a blob, all of which was read at least once.

        Raises:
            Corrupt: the blob's size is not the descriptor's.
        """
        size = self.size(repository, descriptor.digest, thorough=True)
        if size is not None and size != descriptor.size:
            raise Corrupt(f"{descriptor.digest} has {size} bytes, not {descriptor.size}")
        return size is not None

    def open(self, repository: RepositoryName, digest: Digest) -> OpenedBlob:
        """Open a blob for reading; raises NotFound."""
        path = self._layout.blob(repository, digest)
        for _ in range(3):
            try:
                opened, found = self._try_open(path, digest)
                if opened is not None:
                    return opened
                is_verified = not self._integrity.is_known_damaged(found) and self._integrity.check(path, digest)
            except FileNotFoundError:
                break
            if not is_verified and not self._relink_to_pool(path, digest, found):
                break
        raise NotFound("blob", digest)

    def mount(self, repository: RepositoryName, digest: Digest, source: RepositoryName) -> bool:
        """Link a blob of another repository; return False if that does not hold it."""
        held, member = self._layout.blob(source, digest), self._layout.blob(repository, digest)
        try:
            is_verified = self._integrity.is_verified(held.lstat())
            if not self._install(held, member, digest):
                return False
            if is_verified:
                self._integrity.remember(member.lstat())
        except FileNotFoundError:
            return False
        return True

    def link_to_pool(self, repository: RepositoryName, digest: Digest) -> bool:
        """Link a blob of the pool to a repository; return False if the pool does not hold it undamaged."""
        pooled = self._layout.pooled(digest)
        try:
            if not self._is_intact(pooled, digest, pooled.lstat()):
                return False
        except FileNotFoundError:
            return False
        return self._install(pooled, self._layout.blob(repository, digest), digest)

    def commit(self, spooled: Path, repository: RepositoryName, digest: Digest) -> None:
        """Store a verified, durable file as a blob of a repository, and remove the file.

        An existing file of the blob is verified first, and replaced if it is damaged.

        Raises:
            FileNotFoundError: the file was removed before it was stored, e.g. since its upload was cancelled.
        """
        pooled, member = self._layout.pooled(digest), self._layout.blob(repository, digest)
        new: list[Path] = []
        in_pool = self._install(spooled, pooled, digest, thorough=True, new=new)
        is_stored = in_pool and self._install(pooled, member, digest, thorough=True, new=new)
        if not is_stored:
            # The file in the pool was deleted in between, or has as many links as the file system allows.
            is_stored = self._install(spooled, member, digest, thorough=True, new=new)
        self._make_durable(new)
        if not is_stored:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(spooled))
        # A cancelled caller may have removed it.
        spooled.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._integrity.remember(member.lstat())
        self._integrity.record_repair(Damage("blob", digest))

    def delete(self, repository: RepositoryName, digest: Digest) -> int:
        """Delete a blob from a repository, and return the bytes freed; raises NotFound."""
        path = self._layout.blob(repository, digest)
        try:
            size = path.lstat().st_size
            remove_entry(path)
        except FileNotFoundError:
            raise NotFound("blob", digest) from None
        sync_directory(path.parent)
        return size if self._remove_unlinked(self._layout.pooled(digest)) else 0

    def sweep_shard(self, algorithm: str, shard: str, older_than: float) -> list[int]:
        """Remove the blobs of a pool directory that no repository links to, and return their sizes.

        Args:
            algorithm: the algorithm of the blobs' digests.
            shard: the directory's name.
            older_than: only blobs last used before this time, in seconds since 1970.
        """
        freed = []
        for path in map(self._layout.pooled, self._layout.pooled_in(algorithm, shard)):
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            if found.st_nlink == 1 and found.st_mtime < older_than and self._remove_unlinked(path):
                freed.append(found.st_size)
        return freed

    def _try_open(self, path: Path, digest: Digest) -> tuple[OpenedBlob | None, os.stat_result]:
        """Open a file, and read and verify a small one; None in place of the blob if it may be damaged."""
        try:
            file = open_file(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            if not concerns_file(error):
                raise
            return None, path.lstat()
        found = os.fstat(file.fileno())
        opened = None
        try:
            is_verified = self._integrity.is_verified(found)
            if not is_verified and is_marked(found):
                return None, found
            if found.st_size > SMALL_BLOB_BYTES:
                opened = OpenedBlob(file, found, None, is_verified=is_verified)
            elif (content := _read_whole(file)) is not None and (
                is_verified or Digest.of(content, digest.algorithm) == digest
            ):
                opened = OpenedBlob(file, found, content, is_verified=True)
                if not is_verified:
                    self._integrity.remember(found)
        finally:
            if opened is None:
                file.close()
        return opened, found

    def _is_intact(
        self, path: Path, digest: Digest, found: os.stat_result, *, size: int | None = None, thorough: bool = False
    ) -> bool:
        if self._integrity.is_known_damaged(found):
            return False
        if self._integrity.is_verified(found):
            return True
        is_doubtful = (
            thorough
            or is_marked(found)
            or found.st_size <= SMALL_BLOB_BYTES
            or size not in (None, found.st_size)
            or recorded_size(path) not in (None, found.st_size)
        )
        return not is_doubtful or self._integrity.check(path, digest)

    def _relink_to_pool(self, member: Path, digest: Digest, found: os.stat_result) -> bool:
        """Replace a repository's damaged file by a link to the pool; return False if the pool has no other file."""
        pooled = self._layout.pooled(digest)
        try:
            in_pool = pooled.lstat()
        except FileNotFoundError:
            return False
        if in_pool.st_ino == found.st_ino or is_marked(in_pool):
            return False
        try:
            is_replaced = self._replace(pooled, member)
            if is_replaced:
                self._make_durable([member])
        except OSError:
            # Reads must not fail because the disk cannot be written.
            return False
        return is_replaced

    def _install(
        self, source: Path, target: Path, digest: Digest, *, thorough: bool = False, new: list[Path] | None = None
    ) -> bool:
        """Link a file unless the target is undamaged; return False if the source is missing or cannot be linked.

        A new link is made durable, or with `new` added to that list.
        """
        make_directory(target.parent)
        try:
            if not _link(source, target):
                return False
        except FileExistsError:
            try:
                found = target.lstat()
                if self._is_intact(target, digest, found, thorough=thorough):
                    return self._renew(target, found)
            except FileNotFoundError:
                return self._install(source, target, digest, thorough=thorough, new=new)
            if not self._replace(source, target):
                return False
        if new is None:
            self._make_durable([target])
        else:
            new.append(target)
        return True

    def _replace(self, source: Path, target: Path) -> bool:
        """Replace a file by a link to the source atomically, but not durably yet."""
        draft = self._layout.temporary / uuid.uuid4().hex
        make_directory(draft.parent)
        try:
            if not _link(source, draft):
                return False
            rename_over(draft, target)
        except FileNotFoundError:
            return False
        finally:
            # A rename does nothing if both are links to the same file.
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
        return True

    def _make_durable(self, links: Sequence[Path]) -> None:
        """Make new links to one file durable, or remove them: an undurable link must not be relied on later."""
        try:
            if links:
                touch(links[-1])
            self._syncing.sync([link.parent for link in links])
        except OSError:
            for link in links:
                with contextlib.suppress(OSError):
                    link.unlink(missing_ok=True)
            raise

    def _renew(self, path: Path, found: os.stat_result) -> bool:
        """Set the modification time of a file to now; return False if it no longer exists."""
        known = self._integrity.is_verified(found)
        try:
            touch(path)
            if known:
                self._integrity.remember(path.lstat())
        except FileNotFoundError:
            return False
        return True

    @staticmethod
    def _remove_unlinked(pooled: Path) -> bool:
        """Remove a file from the pool unless a repository links to it."""
        try:
            if pooled.lstat().st_nlink > 1:
                return False
            pooled.unlink()
        except FileNotFoundError:
            return False
        return True


def _read_whole(file: BinaryIO) -> bytes | None:
    """Return the content of a small file; None if reading fails."""
    try:
        return file.read(SMALL_BLOB_BYTES)
    except OSError as error:
        if not concerns_file(error):
            raise
        return None


def _link(source: Path, link: Path) -> bool:
    """Create a link; return False if the source is missing, or has as many links as the file system allows."""
    try:
        link.hardlink_to(source)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.EMLINK:
            return False
        raise
    return True
