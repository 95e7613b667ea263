"""An image store on local disk, with one root directory for the images of a region."""

from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Self

from tagferry import bounds
from tagferry.errors import Incomplete, NotFound, TooLarge
from tagferry.names import Digest, Namespace, Reference, RepositoryName, Tag
from tagferry.oci.images import BlobOutcome, OpenBlob, TagRecord, may_be_replaced, tag_changed
from tagferry.oci.model import Descriptor, Manifest
from tagferry.registry.storage.blob_reads import BlobReads
from tagferry.registry.storage.blobs import BlobFiles
from tagferry.registry.storage.cached_reads import CachedReads
from tagferry.registry.storage.directory_faults import DirectoryFaults
from tagferry.registry.storage.files import make_directory
from tagferry.registry.storage.free_space import DiskSpace, FreeSpace
from tagferry.registry.storage.garbage import GarbageCollector
from tagferry.registry.storage.gathering import GatheredWork
from tagferry.registry.storage.incoming import IncomingBlobs
from tagferry.registry.storage.integrity import IntegrityChecker
from tagferry.registry.storage.layout import Layout, raise_unreadable
from tagferry.registry.storage.listings import Listings
from tagferry.registry.storage.manifest_writes import ManifestWrite, ManifestWrites
from tagferry.registry.storage.manifests import ManifestFiles
from tagferry.registry.storage.page_cache import NotCached, PageCache
from tagferry.registry.storage.quotas import Quotas
from tagferry.registry.storage.repair import Repair
from tagferry.registry.storage.repository_deletion import RepositoryDeletion
from tagferry.registry.storage.repository_index import RepositoryIndex
from tagferry.registry.storage.spool import Spool
from tagferry.registry.storage.syncing import Syncing
from tagferry.registry.storage.threads import DiskThreads, ignoring_read_only
from tagferry.registry.storage.uploads import Uploads

_LOCKS = 64


class DiskStore:
    """The `ImageStore` of an embedded registry. One process at a time may write to a root.

    Attributes:
        uploads: the upload sessions of the registry's clients.
        quotas: the usage and quotas of organizations.
        garbage: deletes content that nothing needs.
        repair: finds and restores damaged content.
        listings: reads for lists, many at once.
    """

    def __init__(
        self, root: Path, *, name: str = "disk", address: str | None = None, reserve: int | None = None
    ) -> None:
        """Use a root directory.

        Args:
            root: the directory; created if missing.
            name: the name of the store in messages.
            address: the address under which it is served; by default its name.
            reserve: bytes of the disk that are left free; see `FreeSpace`.
        """
        self._name = name
        self._address = address or name
        self._layout = Layout(root)
        self._faults = DirectoryFaults(self._layout)
        self._threads = DiskThreads(on_fault=self._faults.record)
        self._integrity = IntegrityChecker()
        self._syncing = Syncing()
        self._free_space = FreeSpace(root, reserve)
        self._blobs = BlobFiles(self._layout, self._integrity, self._syncing)
        self._manifests = ManifestFiles(self._layout, self._blobs, self._integrity)
        self._cached = CachedReads(
            self._layout,
            self._integrity,
            self._manifests.kept,
            self._manifests.tag_cache,
            PageCache(),
        )
        self._index = RepositoryIndex(self._layout)
        # Held by threads, not tasks: the thread of a cancelled task continues, and still needs the lock.
        self._locks = tuple(Lock() for _ in range(_LOCKS))
        self._manifest_writes = ManifestWrites(
            self._layout,
            self._blobs,
            self._manifests,
            self._integrity,
            self._syncing,
            self._free_space,
            self._lock,
        )
        self._gathered_writes = GatheredWork(self._threads, self._manifest_writes.write_all)
        self._deletion = RepositoryDeletion(self._layout, self._blobs, self._manifests, self._lock)
        self.quotas = Quotas(self._layout, self._threads)
        self.uploads = Uploads(self._layout, self._threads, self._free_space, self.quotas, self._commit)
        self.garbage = GarbageCollector(
            name,
            self._layout,
            self._threads,
            self._blobs,
            self._manifests,
            self._deletion,
            self.uploads,
            self.quotas,
            self._lock,
        )
        self._incoming = IncomingBlobs(self._layout, self._threads, self._free_space, self._commit)
        self.repair = Repair(
            self._layout,
            self._threads,
            self._integrity,
            self._blobs,
            self._manifests,
            self._manifest_writes,
            self._incoming,
            self.quotas,
            self._lock,
        )
        self._reads = BlobReads(self._blobs, self._integrity, self._cached, self._threads)
        self.listings = Listings(
            self._layout, self._manifests, self._blobs, self._integrity, self._index, self._threads
        )
        for directory in (self._layout.repositories, self._layout.pool, self._layout.temporary):
            # Reads from a read-only disk do not need these directories.
            with ignoring_read_only():
                make_directory(directory)

    @classmethod
    async def open(cls, root: Path, *, name: str = "disk", reserve: int | None = None) -> Self:
        """Open a root directory, and delete unfinished files that are older than a day."""
        store = cls(root, name=name, reserve=reserve)
        await store.garbage.remove_leftovers()
        return store

    @property
    def name(self) -> str:
        return self._name

    @property
    def address(self) -> str:
        return self._address

    @property
    def identity(self) -> int:
        return 0

    def set_reserve(self, reserve: int | None) -> None:
        """Change the bytes of the disk that are left free; see `FreeSpace`."""
        self._free_space.reserve = reserve

    async def head_manifest(
        self,
        repository: RepositoryName,
        reference: Reference,
        *,
        known: Descriptor | None = None,
        for_write: bool = False,
        confirm_missing: bool = False,
    ) -> Descriptor | None:
        with suppress(NotCached):
            manifest = self._cached.manifest(repository, reference)
            return Descriptor(media_type=manifest.media_type, digest=manifest.digest, size=manifest.size)
        return await self._threads.run(self._manifests.describe, repository, reference)

    async def get_manifest(self, repository: RepositoryName, reference: Reference) -> Manifest:
        return await self._threads.run(self._manifests.read, repository, reference)

    async def get_stored_manifest(self, repository: RepositoryName, reference: Reference) -> Manifest:
        """Return a manifest as stored, even if it could not be pushed today; raises NotFound and Corrupt."""
        with suppress(NotCached):
            return self._cached.manifest(repository, reference)
        return await self._threads.run(self._manifests.read_stored, repository, reference)

    async def put_manifest(
        self,
        repository: RepositoryName,
        manifest: Manifest,
        tag: Tag | None = None,
        *,
        override: bool = True,
        seen: Digest | None = None,
    ) -> None:
        def check() -> None:
            existing = None if override or tag is None else self._manifests.describe(repository, tag)
            if tag is not None and existing is not None and not may_be_replaced(existing.digest, manifest, seen):
                raise tag_changed(repository, tag)

        async with self.quotas.reserving(repository, manifest.size):
            await self._gathered_writes.run(repository, ManifestWrite(manifest, tag, check))

    async def delete_manifest(
        self, repository: RepositoryName, reference: Reference, *, seen: TagRecord | None = None
    ) -> None:
        def delete() -> None:
            with self._lock(repository):
                self._manifests.delete(repository, reference, seen)
                self._deletion.prune(repository)

        await self._threads.run(delete)
        self.quotas.record_deletion(repository)

    async def delete_repository(self, repository: RepositoryName) -> None:
        await self._threads.run(self._deletion.delete, repository)
        self.quotas.record_deletion(repository)

    async def repositories_in(self, namespace: Namespace) -> list[RepositoryName]:
        """Return the repositories in an organization, including empty ones.

        Raises:
            DiskUnavailable: a directory cannot be read; lists leave it out, but it may hold images.
        """
        return await self._threads.run(self._layout.names, namespace, on_error=raise_unreadable)

    async def clear_organization(self, namespace: Namespace) -> list[RepositoryName]:
        """Delete the repositories without tags and their uploads; return the repositories that have tags.

        Raises:
            DiskUnavailable: as `repositories_in`.
        """
        held, ended = await self._threads.run(self._deletion.clear, namespace)
        for repository, identifier in ended:
            self.uploads.forget(repository, identifier)
        self.quotas.record_deletion()
        return held

    async def stat_blob(self, repository: RepositoryName, digest: Digest) -> int | None:
        return await self._reads.size(repository, digest)

    def read_blob(
        self, repository: RepositoryName, descriptor: Descriptor, *, offset: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a blob as `BlobReads.read` does."""
        return self._reads.read(repository, descriptor, offset=offset, length=length)

    async def write_blob(
        self,
        repository: RepositoryName,
        descriptor: Descriptor,
        source: OpenBlob,
        *,
        mount_from: RepositoryName | None = None,
        force: bool = False,
    ) -> BlobOutcome:
        if not force and await self._threads.run(self._blobs.is_held, repository, descriptor):
            return BlobOutcome.PRESENT
        if not force and mount_from is not None and await self._mounts(repository, descriptor, mount_from):
            return BlobOutcome.MOUNTED
        async with self.quotas.reserving(repository, descriptor.size):
            await self._incoming.receive(repository, descriptor, source)
        return BlobOutcome.UPLOADED

    async def mount_blob(self, repository: RepositoryName, digest: Digest, source: RepositoryName) -> bool:
        """Mount a blob of another repository of this store; return False if that does not hold it."""

        def mount() -> bool:
            with self._lock(repository):
                return self._blobs.mount(repository, digest, source)

        size = await self.stat_blob(source, digest)
        if size is None:
            return False
        async with self.quotas.reserving(repository, size):
            return await self._threads.run(mount)

    async def list_tags(self, repository: RepositoryName) -> AsyncIterator[Tag]:
        for tag in await self.tag_names(repository):
            yield tag

    async def list_tags_within(self, repository: RepositoryName, requests: int) -> frozenset[Tag] | None:
        try:
            return frozenset([tag async for tag in self.list_tags(repository)])
        except NotFound:
            return frozenset()

    async def describe_tags(self, repository: RepositoryName, only: Collection[Tag] | None = None) -> list[TagRecord]:
        return await self._threads.run(self._manifests.tags, repository, only)

    async def list_repositories(self) -> AsyncIterator[RepositoryName]:
        for repository in await self.listings.repositories():
            yield repository

    async def list_referrers(
        self,
        repository: RepositoryName,
        digest: Digest,
        artifact_type: str | None = None,
        *,
        tags: Collection[Tag] | None = None,
    ) -> list[Descriptor]:
        found, has_more = await self.list_referrers_page(
            repository, digest, artifact_type, limit=bounds.REFERRERS_READ_BYTES
        )
        if has_more:
            most = f"more than {bounds.REFERRERS_READ_BYTES} bytes of referrers"
            raise Incomplete(
                TooLarge("referrers", f"cannot be listed at once: {repository}@{digest} has {most}"), found
            )
        return found

    async def list_referrers_page(
        self,
        repository: RepositoryName,
        digest: Digest,
        artifact_type: str | None = None,
        *,
        after: Digest | None = None,
        limit: int,
    ) -> tuple[list[Descriptor], bool]:
        """Return the referrers after one of them, up to a number of bytes, and whether there are more."""
        with suppress(NotCached):
            if not self._cached.has_referrers(repository, digest):
                return [], False
        return await self._threads.run_short(
            self._manifests.referrers.page, repository, digest, artifact_type, after=after, limit=limit
        )

    async def tag_names(self, repository: RepositoryName) -> list[Tag]:
        """Return the tags in lexical order, a list that must not be changed; raises NotFound as `list_tags`."""
        with suppress(NotCached):
            return self._cached.names_of_tags(repository)
        return await self._threads.run(self._manifests.tag_names, repository)

    async def is_damaged(self, repository: RepositoryName, digest: Digest) -> bool:
        return await self._threads.run_short(self._manifests.is_damaged, repository, digest)

    async def delete_blob(self, repository: RepositoryName, digest: Digest) -> None:
        def delete() -> None:
            with self._lock(repository):
                self._blobs.delete(repository, digest)
                self._deletion.prune(repository)

        await self._threads.run(delete)
        self.quotas.record_deletion(repository)

    async def write_error(self) -> str | None:
        """Return why the disk cannot be written at present, as a message; None if it can."""
        return await self._threads.run(self._free_space.write_error)

    async def health_error(self) -> str | None:
        """Return why requests fail to read or write at present, as a message; None if they do not."""
        return await self.write_error() or await self._threads.run(self._faults.error)

    async def space_warning(self) -> str | None:
        """Return how little space is left on the disk, as a message; None if there is enough."""
        return await self._threads.run(self._free_space.scarcity)

    async def disk_space(self) -> DiskSpace | None:
        """Return the size of the disk and its free space; None if it cannot be read."""
        return await self._threads.run(self._free_space.space)

    async def close(self) -> None:
        self._threads.close()
        self._syncing.close()

    async def _mounts(self, repository: RepositoryName, descriptor: Descriptor, source: RepositoryName) -> bool:
        is_held = await self._threads.run(self._blobs.is_held, source, descriptor)
        return is_held and await self.mount_blob(repository, descriptor.digest, source)

    def _commit(self, spool: Spool, repository: RepositoryName, digest: Digest) -> None:
        with self._lock(repository):
            self._blobs.commit(spool.path, repository, digest)

    @contextmanager
    def _lock(self, repository: RepositoryName) -> Iterator[None]:
        """Hold the lock of a repository while it is changed."""
        try:
            with self._locks[hash(repository) % _LOCKS]:
                yield
        finally:
            self._index.record(repository)
