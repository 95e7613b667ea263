"""Delete garbage and leftovers.

All functions block; they run in the disk's threads.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tagferry.errors import NotFound, TagferryError
from tagferry.events import SparseEvents
from tagferry.names import RepositoryName
from tagferry.registry.storage.blobs import BlobFiles
from tagferry.registry.storage.files import files_below
from tagferry.registry.storage.layout import Layout
from tagferry.registry.storage.manifests import ManifestFiles
from tagferry.registry.storage.repository_deletion import RepositoryDeletion

_log = SparseEvents(__name__)


class GarbageCollector:
    """Deletes content of one registry that nothing needs.

    Args:
        layout: the registry's paths.
        blobs: its blobs.
        manifests: its manifests.
        deletion: removes the directories of repositories that hold nothing.
        lock: returns the lock of a repository.
    """

    def __init__(
        self,
        layout: Layout,
        blobs: BlobFiles,
        manifests: ManifestFiles,
        deletion: RepositoryDeletion,
        lock: Callable[[RepositoryName], AbstractContextManager[None]],
    ) -> None:
        self._layout = layout
        self._blobs = blobs
        self._manifests = manifests
        self._deletion = deletion
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
            self._deletion.prune(repository)
            return list(filter(None, freed))

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


def _remove_if_older(path: Path, older_than: float) -> bool:
    try:
        if path.stat().st_mtime >= older_than:
            return False
        path.unlink()
    except OSError:
        # It no longer exists, or cannot be deleted.
        return False
    return True
