"""Receive blobs from a synchronization; a partly received large blob survives a crash, and is resumed."""

import asyncio
import uuid
from pathlib import Path

from tagferry.errors import Corrupt, TagferryError, Unavailable, WrongContent
from tagferry.names import RepositoryName
from tagferry.oci.images import OpenBlob
from tagferry.oci.model import Descriptor
from tagferry.registry.storage.files import make_file
from tagferry.registry.storage.free_space import FreeSpace
from tagferry.registry.storage.layout import Layout
from tagferry.registry.storage.spool import Spool
from tagferry.registry.storage.threads import DiskThreads, DiskUnavailable
from tagferry.registry.storage.uploads import Commit

RESUMABLE_BYTES = 16 * 1024 * 1024
"""The size of the smallest blob that is resumed; a smaller one is copied again within seconds over any link."""


class IncomingBlobs:
    """Receives the blobs of one registry; one process at a time may receive."""

    def __init__(self, layout: Layout, threads: DiskThreads, free_space: FreeSpace, commit: Commit) -> None:
        self._layout = layout
        self._threads = threads
        self._free_space = free_space
        self._commit = commit
        self._active: set[Path] = set()

    async def receive(
        self, repository: RepositoryName, descriptor: Descriptor, source: OpenBlob, *, commit: Commit | None = None
    ) -> None:
        """Copy a blob to the repository, continuing after what an earlier attempt received.

        Args:
            repository: the target.
            descriptor: the blob's descriptor.
            source: opens the blob at its source.
            commit: replaces the function that stores the verified blob.

        Raises:
            Corrupt: the size or digest differs, also when received from the beginning.
            DiskUnavailable: the write failed; the received part is deleted, to free its space.
            Unavailable: the received content was deleted meanwhile.
        """
        commit = commit or self._commit
        path = self._layout.incoming(repository, descriptor.digest)
        if descriptor.size < RESUMABLE_BYTES or path in self._active:
            await self._receive_in_temporary_file(repository, descriptor, source, commit)
            return
        self._active.add(path)
        try:
            await self._resume(path, repository, descriptor, source, commit)
        finally:
            self._active.discard(path)

    async def _receive_in_temporary_file(
        self, repository: RepositoryName, descriptor: Descriptor, source: OpenBlob, commit: Commit
    ) -> None:
        spool = self._spool(self._layout.temporary / uuid.uuid4().hex, descriptor)
        await self._threads.run(self._create_file, spool.path, descriptor.size)
        try:
            await self._complete(spool, 0, repository, descriptor, source, commit)
        finally:
            await self._threads.run(spool.path.unlink, missing_ok=True)

    async def _resume(
        self, path: Path, repository: RepositoryName, descriptor: Descriptor, source: OpenBlob, commit: Commit
    ) -> None:
        spool = self._spool(path, descriptor)
        try:
            await self._threads.run(self._create_file, path, descriptor.size)
            offset = await spool.rehash()
            try:
                await self._complete(spool, offset, repository, descriptor, source, commit)
            except Corrupt:
                if not offset:
                    raise
                # After a power failure, the received part may be wrong. Receive everything again.
                await spool.truncate(0)
                await self._complete(spool, 0, repository, descriptor, source, commit)
        except (Corrupt, DiskUnavailable):
            await self._threads.run(path.unlink, missing_ok=True)
            raise
        except (TagferryError, asyncio.CancelledError):
            raise
        except BaseException:
            # The state of the received part is unknown.
            await self._threads.run(path.unlink, missing_ok=True)
            raise

    async def _complete(
        self,
        spool: Spool,
        offset: int,
        repository: RepositoryName,
        descriptor: Descriptor,
        source: OpenBlob,
        commit: Commit,
    ) -> None:
        received, size, digest = offset, descriptor.size, descriptor.digest
        if not offset or offset < size:
            async with source(offset) as chunks:
                received = await spool.extend(chunks)
        if received != size:
            raise WrongContent(f"{digest} ended after {received} of its {size} bytes")

        def end() -> None:
            spool.check(digest)
            commit(spool, repository, digest)

        try:
            await self._threads.run(end)
        except FileNotFoundError:
            raise Unavailable(f'the blob "{digest}" was deleted while it was stored; try again') from None

    def _create_file(self, path: Path, size: int) -> None:
        """Create the file if its content will fit; called before the first request to the source."""
        make_file(path)
        try:
            self._free_space.require(max(0, size - path.stat().st_size))
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _spool(self, path: Path, descriptor: Descriptor) -> Spool:
        return Spool(
            path,
            self._threads,
            free_space=self._free_space,
            algorithm=descriptor.digest.algorithm,
            limit=descriptor.size,
        )
