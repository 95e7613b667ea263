"""Delete garbage, leftovers, repositories and empty directories.

All functions block; they run in the disk's threads.
"""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tagferry.errors import NotFound, TagferryError
from tagferry.events import SparseEvents
from tagferry.names import Namespace, RepositoryName
from tagferry.registry.storage.blobs import BlobFiles
from tagferry.registry.storage.files import files_below, remove_empty_directories
from tagferry.registry.storage.layout import Layout, raise_unreadable
from tagferry.registry.storage.manifests import ManifestFiles

_log = SparseEvents(__name__)


class GarbageCollector:
    """Deletes content of one registry.

    Args:
        layout: the registry's paths.
        blobs: its blobs.
        manifests: its manifests.
        lock: returns the lock of a repository.
    """

    def __init__(
        self,
        layout: Layout,
        blobs: BlobFiles,
        manifests: ManifestFiles,
        lock: Callable[[RepositoryName], AbstractContextManager[None]],
    ) -> None:
        self._layout = layout
        self._blobs = blobs
        self._manifests = manifests
        self._lock = lock

    def collect(self, repository: RepositoryName, older_than: float) -> list[int]:
        """Delete the blobs of a repository that no manifest needs, and return the sizes of those no other one has.

        Args:
            repository: the repository.
            older_than: only blobs last used before this time, in seconds since 1970.
        """
        with self._lock(repository):
            self._manifests.referrers.remove_dangling(repository)
            try:
                needed = self._manifests.referenced_blobs(repository)
            except TagferryError:
                # The references of a damaged manifest are unknown, so every blob may be needed.
                return []
            freed = []
            for digest in self._layout.digests(repository, "_blobs"):
                try:
                    if digest in needed or self._layout.blob(repository, digest).lstat().st_mtime >= older_than:
                        continue
                    freed.append(self._blobs.delete(repository, digest))
                except (NotFound, FileNotFoundError):
                    continue
            self.prune(repository)
            return list(filter(None, freed))

    def clear(self, namespace: Namespace) -> tuple[list[RepositoryName], list[tuple[RepositoryName, str]]]:
        """Delete the repositories without tags and all their uploads in an organization.

        Returns:
            The repositories that have tags, which are kept, and the uploads that were deleted.

        Raises:
            OSError: a directory cannot be read, so it may hold images.
        """
        held, ended = [], []
        for repository in self._layout.names(namespace, on_error=raise_unreadable):
            with self._lock(repository):
                if self._layout.has_tags(repository):
                    held.append(repository)
                    continue
                for path in self._layout.uploads(repository):
                    path.unlink(missing_ok=True)
                    ended.append((repository, path.name))
                if self._layout.holds_images(repository):
                    self._delete_all(repository)
                self.prune(repository)
        return held, ended

    def delete_repository(self, repository: RepositoryName) -> None:
        """Delete the content of a repository; raises NotFound."""
        with self._lock(repository):
            self._delete_all(repository)
            self.prune(repository)

    def prune(self, repository: RepositoryName) -> None:
        """Remove the directories of a repository that holds nothing; the caller holds its lock."""
        directory = self._layout.repository(repository)
        if self._layout.holds_images(repository) or self._layout.has_tags(repository):
            return
        for kind in ("_blobs", "_manifests", "_tags", "_referrers", "_uploads"):
            deepest = sorted((directory / kind).rglob("*"), reverse=True)
            for path in (*deepest, directory / kind):
                # The directory stays if an upload is just starting in it.
                with contextlib.suppress(OSError):
                    path.rmdir()
        remove_empty_directories(directory, below=self._layout.repositories)

    def remove_leftovers(self, older_than: float) -> list[tuple[RepositoryName, str]]:
        """Delete unfinished writes and uploads that are older than a time, and return the uploads."""
        for path in files_below(self._layout.temporary):
            _remove_if_older(path, older_than)
        return [
            (repository, path.name)
            for repository in self._layout.names()
            for path in self._uploads(repository)
            if _remove_if_older(path, older_than)
        ]

    def _uploads(self, repository: RepositoryName) -> list[Path]:
        try:
            return self._layout.uploads(repository)
        except OSError as error:
            _log.warning("failed to list uploads", repository=repository, error=error.strerror)
            return []

    def _delete_all(self, repository: RepositoryName) -> None:
        self._manifests.delete_all(repository)
        for digest in self._layout.digests(repository, "_blobs"):
            self._blobs.delete(repository, digest)


def _remove_if_older(path: Path, older_than: float) -> bool:
    try:
        if path.stat().st_mtime >= older_than:
            return False
        path.unlink()
    except OSError:
        # It no longer exists, or cannot be deleted.
        return False
    return True
