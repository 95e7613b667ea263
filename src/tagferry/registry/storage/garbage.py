"""Delete content that nothing needs: garbage, and leftovers of writes and uploads."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tagferry.errors import NotFound, TagferryError
from tagferry.events import SparseEvents
from tagferry.metrics import GARBAGE_BLOBS, GARBAGE_BYTES
from tagferry.names import DIGEST_ALGORITHMS, RepositoryName
from tagferry.registry.storage.blobs import BlobFiles
from tagferry.registry.storage.files import files_below
from tagferry.registry.storage.layout import Layout
from tagferry.registry.storage.manifests import ManifestFiles
from tagferry.registry.storage.quotas import Quotas
from tagferry.registry.storage.repository_deletion import RepositoryDeletion
from tagferry.registry.storage.threads import DiskThreads, DiskUnavailable
from tagferry.registry.storage.uploads import Uploads

_log = SparseEvents(__name__)

_LEFTOVER_SECONDS = 24 * 3600.0


class GarbageCollector:
    """Deletes content of one registry that nothing needs.

    Args:
        name: the name of the registry's store, for metrics.
        layout, threads, blobs, manifests, deletion, uploads, quotas: the registry's.
        lock: returns the lock of a repository.
    """

    def __init__(
        self,
        name: str,
        layout: Layout,
        threads: DiskThreads,
        blobs: BlobFiles,
        manifests: ManifestFiles,
        deletion: RepositoryDeletion,
        uploads: Uploads,
        quotas: Quotas,
        lock: Callable[[RepositoryName], AbstractContextManager[None]],
    ) -> None:
        self._name = name
        self._layout = layout
        self._threads = threads
        self._blobs = blobs
        self._manifests = manifests
        self._deletion = deletion
        self._uploads = uploads
        self._quotas = quotas
        self._lock = lock

    async def collect(self, grace_seconds: float) -> int:
        """Delete unreferenced content, and return the bytes freed.

        A blob is deleted if no manifest of its repository refers to it, and it was last pushed, mounted or requested
        more than `grace_seconds` ago, so that pushes in progress keep their blobs.
        """
        older_than = time.time() - grace_seconds
        freed = []
        for repository in await self._threads.run(self._layout.names):
            try:
                freed += await self._threads.run(self._collect_in, repository, older_than)
            except (OSError, DiskUnavailable) as error:
                # Garbage of the other repositories is still collected.
                _log.warning("failed to collect the garbage of a repository", repository=repository, reason=str(error))
        freed += await self._sweep_pool(older_than)
        await self.remove_leftovers()
        self._quotas.record_deletion()
        GARBAGE_BLOBS.labels(region=self._name).inc(len(freed))
        GARBAGE_BYTES.labels(region=self._name).inc(sum(freed))
        return sum(freed)

    async def remove_leftovers(self) -> None:
        """Delete unfinished files and uploads that have not changed for a day."""
        deleted = await self._threads.run(self._remove_unfinished, time.time() - _LEFTOVER_SECONDS)
        for repository, identifier in deleted:
            self._uploads.forget(repository, identifier)

    async def _sweep_pool(self, older_than: float) -> list[int]:
        freed = []
        for algorithm in DIGEST_ALGORITHMS:
            try:
                shards = await self._threads.run(self._layout.shards, algorithm)
            except (OSError, DiskUnavailable) as error:
                _log.warning("failed to list the pool", algorithm=algorithm, reason=str(error))
                continue
            for shard in shards:
                try:
                    freed += await self._threads.run(self._blobs.sweep_shard, algorithm, shard, older_than)
                except (OSError, DiskUnavailable) as error:
                    _log.warning("failed to delete blobs from the pool", shard=shard, reason=str(error))
        return freed

    def _collect_in(self, repository: RepositoryName, older_than: float) -> list[int]:
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

    def _remove_unfinished(self, older_than: float) -> list[tuple[RepositoryName, str]]:
        """Delete unfinished writes and uploads that are older than a time, and return the uploads."""
        for path in files_below(self._layout.temporary):
            _remove_if_older(path, older_than)
        return [
            (repository, path.name)
            for repository in self._layout.names()
            for path in self._uploads_of(repository)
            if _remove_if_older(path, older_than)
        ]

    def _uploads_of(self, repository: RepositoryName) -> list[Path]:
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
