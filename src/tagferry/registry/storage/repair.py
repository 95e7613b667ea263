"""Find damaged content of a registry, and restore it from a copy that is stored elsewhere."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager

from tagferry.errors import NotFound
from tagferry.names import Digest, RepositoryName
from tagferry.oci.images import OpenBlob
from tagferry.oci.model import Descriptor, Manifest
from tagferry.registry.storage.blobs import BlobFiles
from tagferry.registry.storage.incoming import IncomingBlobs
from tagferry.registry.storage.integrity import Damage, IntegrityChecker
from tagferry.registry.storage.layout import Layout
from tagferry.registry.storage.manifest_writes import ManifestWrite, ManifestWrites
from tagferry.registry.storage.manifests import ManifestFiles
from tagferry.registry.storage.quotas import Quotas
from tagferry.registry.storage.scrub import Scrub
from tagferry.registry.storage.spool import Spool
from tagferry.registry.storage.threads import DiskThreads


class Repair:
    """The damaged content of one registry.

    Args:
        layout, threads, integrity, blobs, manifests, incoming, free_space, quotas: the registry's.
        lock: returns the lock of a repository.
    """

    def __init__(
        self,
        layout: Layout,
        threads: DiskThreads,
        integrity: IntegrityChecker,
        blobs: BlobFiles,
        manifests: ManifestFiles,
        manifest_writes: ManifestWrites,
        incoming: IncomingBlobs,
        quotas: Quotas,
        lock: Callable[[RepositoryName], AbstractContextManager[None]],
    ) -> None:
        self._layout = layout
        self._threads = threads
        self._integrity = integrity
        self._blobs = blobs
        self._manifests = manifests
        self._manifest_writes = manifest_writes
        self._incoming = incoming
        self._quotas = quotas
        self._lock = lock

    def reported(self) -> list[Damage]:
        """Return the damage that reads have found and that is not repaired yet."""
        return self._integrity.reported()

    def scrub(self, *, bytes_per_second: float | None = None) -> Scrub:
        """Return a scrub of this registry; the caller closes it."""
        return Scrub(self._layout, self._blobs, self._manifests, self._integrity, bytes_per_second=bytes_per_second)

    async def restore_blob(
        self, repository: RepositoryName, descriptor: Descriptor, source: OpenBlob, *, needed_by: Digest | None = None
    ) -> None:
        """Restore a damaged or lost blob.

        Args:
            repository: the repository that held the blob.
            descriptor: the blob's descriptor.
            source: opens a copy of the blob.
            needed_by: the damaged manifest that refers to it.

        Raises:
            NotFound: the blob was deleted, before or during the restoration.
        """

        def require() -> None:
            with self._lock(repository):
                self._require_expected(repository, descriptor.digest, needed_by)

        def commit(spool: Spool, to: RepositoryName, digest: Digest) -> None:
            with self._lock(to):
                self._require_expected(to, digest, needed_by)
                self._blobs.commit(spool.path, to, digest)

        await self._threads.run(require)
        if await self._threads.run(self._blobs.is_held, repository, descriptor):
            return
        async with self._quotas.reserving(repository, descriptor.size):
            await self._incoming.receive(repository, descriptor, source, commit=commit)

    async def restore_manifest(self, repository: RepositoryName, manifest: Manifest) -> None:
        """Restore a manifest whose blobs exist; raises as `restore_blob`."""

        def check() -> None:
            if not self._manifests.is_expected(repository, manifest.digest):
                raise NotFound("manifest", manifest.digest)

        write = ManifestWrite(manifest, None, check, is_restored=True)
        async with self._quotas.reserving(repository, manifest.size):
            await self._threads.run(self._manifest_writes.write, repository, write)

    def _require_expected(self, repository: RepositoryName, digest: Digest, needed_by: Digest | None) -> None:
        """Raise NotFound unless the repository has a link to the blob, or a manifest that refers to it."""
        if os.path.lexists(self._layout.blob(repository, digest)):
            return
        if needed_by is not None and self._manifests.is_expected(repository, needed_by):
            return
        if digest not in self._manifests.readable_references(repository):
            raise NotFound("blob", digest)
