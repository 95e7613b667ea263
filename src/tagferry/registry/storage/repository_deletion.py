"""Delete repositories, and the directories of those that hold nothing.

All functions block; they run in the disk's threads.
"""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

from tagferry.names import Namespace, RepositoryName
from tagferry.registry.storage.blobs import BlobFiles
from tagferry.registry.storage.files import remove_empty_directories
from tagferry.registry.storage.layout import Layout, raise_unreadable
from tagferry.registry.storage.manifests import ManifestFiles


class RepositoryDeletion:
    """Deletes repositories of one registry.

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

    def delete(self, repository: RepositoryName) -> None:
        """Delete the content of a repository; raises NotFound."""
        with self._lock(repository):
            self._delete_all(repository)
            self.prune(repository)

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

    def _delete_all(self, repository: RepositoryName) -> None:
        self._manifests.delete_all(repository)
        for digest in self._layout.digests(repository, "_blobs"):
            self._blobs.delete(repository, digest)
