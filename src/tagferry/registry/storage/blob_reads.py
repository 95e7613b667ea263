"""Read blobs: from memory if possible, verified once, and in the event loop's pace."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from functools import partial

from tagferry.errors import Corrupt, Unavailable
from tagferry.names import Digest, RepositoryName
from tagferry.oci.model import Descriptor
from tagferry.registry.storage.blobs import BlobFiles, OpenedBlob
from tagferry.registry.storage.cached_reads import CachedReads
from tagferry.registry.storage.integrity import IntegrityChecker
from tagferry.registry.storage.page_cache import NotCached
from tagferry.registry.storage.spool import read_ahead, verified_chunks
from tagferry.registry.storage.threads import DiskFailed, DiskThreads
from tagferry.streams import FileContent

_CONCURRENT_VERIFICATIONS = 4
"""Large blobs that are verified concurrently; the other threads stay available for short operations."""
_ATTEMPTS = 3
"""Attempts to open a blob whose file is replaced or changed again after it was verified."""


class BlobReads:
    """The reads of one registry's blobs."""

    def __init__(
        self, blobs: BlobFiles, integrity: IntegrityChecker, cached: CachedReads, threads: DiskThreads
    ) -> None:
        self._blobs = blobs
        self._integrity = integrity
        self._cached = cached
        self._threads = threads
        self._verifying: dict[int, asyncio.Task[None]] = {}
        self._verification_slots = asyncio.Semaphore(_CONCURRENT_VERIFICATIONS)

    async def size(self, repository: RepositoryName, digest: Digest) -> int | None:
        """Return the size of a blob, or None if the repository does not hold it."""
        with suppress(NotCached):
            return self._cached.blob_size(repository, digest)
        return await self._threads.run(self._blobs.size, repository, digest)

    @asynccontextmanager
    async def read(
        self, repository: RepositoryName, descriptor: Descriptor, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a blob as specified by the contract; `length` limits the bytes.

        A blob that is not verified yet is verified: a small one before anything is sent, a large one while it is sent,
        with its last chunk held back. Before a part of a large blob is sent, the whole blob is read, once until it
        changes.

        Raises:
            Corrupt: while reading; the blob is damaged, and counts as missing from now on.
            Unavailable: the blob's file changes again and again, so that no part of it can be sent.
        """
        digest = descriptor.digest
        opened = await self._open(repository, digest)
        is_part = bool(offset) or (length is not None and length < opened.found.st_size)
        if is_part and not opened.is_verified:
            opened = await self._verified(opened, repository, digest)
        with closing(opened):
            if opened.content is not None:
                yield _InMemory(opened.content[offset : None if length is None else offset + length])
                return
            chunks = read_ahead(opened.file, self._threads, offset=offset, length=length)
            verifying = None
            given: AsyncIterator[bytes] = _file_content(chunks, opened, offset, length)
            if not is_part and not opened.is_verified:
                on_verified = partial(self._integrity.remember, opened.found)
                given = verifying = verified_chunks(chunks, digest, self._threads, on_verified=on_verified)
            try:
                yield given
            except (Corrupt, DiskFailed):
                # A reader found it damaged, here or after this generator.
                await self._threads.run(self._blobs.find, repository, digest, thorough=True)
                raise
            finally:
                if verifying is not None:
                    await verifying.aclose()
                await chunks.aclose()

    async def _open(self, repository: RepositoryName, digest: Digest) -> OpenedBlob:
        with suppress(NotCached):
            return self._cached.open_blob(repository, digest)
        return await self._threads.open(self._blobs.open, repository, digest)

    async def _verified(self, opened: OpenedBlob, repository: RepositoryName, digest: Digest) -> OpenedBlob:
        """Close an unverified blob, verify it, and open it again."""
        for _ in range(_ATTEMPTS):
            opened.close()
            await self._verify(opened.found.st_ino, repository, digest)
            opened = await self._open(repository, digest)
            if opened.is_verified:
                return opened
        opened.close()
        raise Unavailable(f'the file of the blob "{digest}" changed while it was verified; try again')

    async def _verify(self, inode: int, repository: RepositoryName, digest: Digest) -> None:
        """Verify a whole file, once for all concurrent callers, and independently of their cancellation.

        Repositories usually share a blob's file, but not after a restore that copied it for each of them.
        """
        task = self._verifying.get(inode)
        if task is None:
            task = self._verifying[inode] = asyncio.create_task(self._read_whole(repository, digest))
            task.add_done_callback(lambda _: self._verifying.pop(inode, None))
        await asyncio.wait((task,))
        task.result()

    async def _read_whole(self, repository: RepositoryName, digest: Digest) -> None:
        async with self._verification_slots:
            await self._threads.run(self._blobs.find, repository, digest, thorough=True)


class _InMemory(AsyncIterator[bytes]):
    """Content as one chunk. A generator that is not read to its end would be closed by a task of its own."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __anext__(self) -> bytes:
        content, self._content = self._content, b""
        if not content:
            raise StopAsyncIteration
        return content


def _file_content(chunks: AsyncIterator[bytes], opened: OpenedBlob, offset: int, length: int | None) -> FileContent:
    count = max(0, opened.found.st_size - offset)
    return FileContent(
        chunks, opened.file.fileno(), offset=offset, count=count if length is None else min(count, length)
    )
