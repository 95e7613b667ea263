"""Write and read blobs in chunks of 512 KiB, so that memory use is independent of their size."""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

from tagferry.errors import WrongContent
from tagferry.names import Digest
from tagferry.registry.storage.files import sync_file
from tagferry.registry.storage.free_space import FreeSpace
from tagferry.registry.storage.integrity import record_size
from tagferry.registry.storage.page_cache import read_cached
from tagferry.registry.storage.threads import DiskThreads, ended, settled

CHUNK_BYTES = 512 * 1024
"""The size of a chunk: small enough to stay in a core's cache between hashing and writing, and large enough to make the
switch to a thread negligible."""

_SMALL_CHUNK_BYTES = 4096
_SYNC_BYTES = 16 * 1024 * 1024
"""Received bytes after which the file is synced in the background."""


class Spool:
    """A growing file with the running hash of its content.

    The hash is kept in memory, and rebuilt from the file after a restart.
    """

    def __init__(
        self,
        path: Path,
        threads: DiskThreads,
        *,
        free_space: FreeSpace | None = None,
        algorithm: str = "sha256",
        limit: int | None = None,
    ) -> None:
        self.path = path
        self._free_space = free_space
        self.lock = asyncio.Lock()
        self._threads = threads
        self._limit = limit
        self._hash = hashlib.new(algorithm)
        self._hashed = 0

    async def size(self) -> int:
        """Return the size of the file; raises FileNotFoundError."""
        return (await self._threads.run(self.path.stat)).st_size

    async def rehash(self) -> int:
        """Hash the existing content, and return its size; raises FileNotFoundError."""
        await self._threads.run(self._rehash, self._hash.name)
        return self._hashed

    async def extend(self, chunks: AsyncIterator[bytes]) -> int:
        """Append chunks, writing while further ones arrive, and return the new size.

        If `chunks` fails, the bytes received until then are in the file.

        Raises:
            FileNotFoundError: the file no longer exists.
            DiskUnavailable: the write failed.
            Corrupt: the content exceeds the limit.
        """
        file: BinaryIO | None = None
        background_sync = _BackgroundSync(self.path, self._threads)
        writing: asyncio.Future[None] | None = None
        pending: list[bytes | bytearray] = []
        size = 0
        try:
            async for chunk in chunks:
                _append_to(pending, chunk)
                size += len(chunk)
                if size < CHUNK_BYTES:
                    continue
                if file is None:
                    file = await self._threads.open(self._open)
                if writing is not None:
                    await settled(writing)
                await background_sync.add(size)
                writing = self._threads.submit(self._write, file, pending)
                pending, size = [], 0
        finally:
            try:
                if writing is not None:
                    # The file is closed next, and others may write to it.
                    await ended(writing)
                await self._threads.run_to_end(self._end, file, pending)
            finally:
                if file is not None and not file.closed:
                    await self._threads.run(file.close)
                await background_sync.end()
        return self._hashed

    def append(self, content: bytes) -> None:
        """Append content that fits in memory; blocks, and raises as `extend`."""
        self._end(None, [content])

    async def truncate(self, size: int) -> None:
        """Truncate the file to `size` bytes."""
        await self._threads.run_to_end(os.truncate, self.path, size)
        self._hashed = -1

    async def verify(self, digest: Digest) -> None:
        """Verify the content against a digest, and make it durable; raises Corrupt."""
        await self._threads.run(self.check, digest)

    def check(self, digest: Digest) -> None:
        """Verify the content as `verify` does; blocks."""
        if self._hash.name != digest.algorithm or self.path.stat().st_size != self._hashed:
            self._rehash(digest.algorithm)
        actual = f"{digest.algorithm}:{self._hash.hexdigest()}"
        if actual != digest:
            raise WrongContent(f"expected digest {digest}, received {actual}")
        record_size(self.path)
        sync_file(self.path)

    def _end(self, file: BinaryIO | None, pending: list[bytes | bytearray]) -> None:
        """Write the last chunks, if any, and close the file, which need not be open yet."""
        with file or self._open() as opened:
            if pending:
                self._write(opened, pending)

    def _open(self) -> BinaryIO:
        # Without O_CREAT: the file of a cancelled upload must not be created again.
        file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_APPEND), "r+b", buffering=0)
        if os.fstat(file.fileno()).st_size != self._hashed:
            self._rehash(self._hash.name)
        return file

    def _write(self, file: BinaryIO, chunks: list[bytes | bytearray]) -> None:
        size = sum(map(len, chunks))
        if not os.fstat(file.fileno()).st_nlink:
            # The upload was cancelled; writes to its deleted file would use space that no directory shows.
            raise FileNotFoundError(self.path)
        if self._limit is not None and self._hashed + size > self._limit:
            raise WrongContent(f"the blob has more than its {self._limit} bytes")
        if self._free_space is not None:
            self._free_space.require(size)
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                rest = rest[file.write(rest) :]
            self._hash.update(chunk)
        self._hashed += size

    def _rehash(self, algorithm: str) -> None:
        running = hashlib.new(algorithm)
        hashed = 0
        with self.path.open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK_BYTES):
                running.update(chunk)
                hashed += len(chunk)
        self._hash, self._hashed = running, hashed


def _append_to(pending: list[bytes | bytearray], chunk: bytes) -> None:
    """Add a chunk; small ones are joined, since each object would take many times their memory."""
    if len(chunk) >= _SMALL_CHUNK_BYTES:
        pending.append(chunk)
    elif pending and isinstance(last := pending[-1], bytearray):
        last += chunk
    else:
        pending.append(bytearray(chunk))


class _BackgroundSync:
    """Syncs a growing file in the background, so that the final sync is short."""

    def __init__(self, path: Path, threads: DiskThreads) -> None:
        self._path = path
        self._threads = threads
        self._unsynced = 0
        self._syncing: asyncio.Future[None] | None = None

    async def add(self, size: int) -> None:
        """Count further bytes, and sync if there are enough; raises the error of an earlier sync."""
        self._unsynced += size
        if self._unsynced < _SYNC_BYTES or (self._syncing is not None and not self._syncing.done()):
            return
        await self.end()
        self._unsynced = 0
        self._syncing = self._threads.submit_optional(self._sync)

    async def end(self) -> None:
        """Wait for a running sync, and raise its error."""
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            await settled(syncing)

    def _sync(self) -> None:
        try:
            sync_file(self._path)
        except OSError:
            # The kernel reports lost pages once. Later syncs would succeed, so the file must not be used.
            self._path.unlink(missing_ok=True)
            raise


async def read_ahead(
    file: BinaryIO, threads: DiskThreads, *, offset: int, length: int | None = None
) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of a file from `offset` on, up to `length` bytes, while reading the next one ahead."""
    descriptor = file.fileno()
    end = os.fstat(descriptor).st_size
    if length is not None:
        end = min(end, offset + length)

    def begin(start: int) -> bytes | asyncio.Future[bytes]:
        size = max(0, min(CHUNK_BYTES, end - start))
        cached = read_cached(descriptor, size, start)
        return threads.submit(os.pread, descriptor, size, start) if cached is None else cached

    # Reads ahead only while data comes from the disk; data in the page cache is copied just before it is sent.
    ahead: bytes | asyncio.Future[bytes] | None = None
    try:
        while offset < end:
            begun = begin(offset) if ahead is None else ahead
            if isinstance(begun, bytes):
                chunk, ahead = begun, None
                # Nothing was awaited, so other tasks would starve.
                await asyncio.sleep(0)
            else:
                ahead = begun
                chunk = await settled(begun)
                ahead = begin(offset + len(chunk))
            if not chunk:
                return
            offset += len(chunk)
            yield chunk
    finally:
        if ahead is not None and not isinstance(ahead, bytes):
            # The file is closed next, and its descriptor may be reused; no thread may still read from it.
            await asyncio.wait((ahead,))


async def verified_chunks(
    chunks: AsyncGenerator[bytes, None], digest: Digest, threads: DiskThreads, *, on_verified: Callable[[], None]
) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of a whole blob while they are hashed in a thread.

    Args:
        chunks: all chunks of the blob.
        digest: the blob's digest.
        threads: run the hashing.
        on_verified: called before the last chunk if the digest matches.

    Raises:
        Corrupt: in place of the last chunk if the digest does not match.
    """
    running = hashlib.new(digest.algorithm)
    hashing: asyncio.Future[None] | None = None
    previous: bytes | None = None
    async for chunk in chunks:
        if hashing is not None:
            await settled(hashing)
        hashing = threads.submit(running.update, chunk)
        if previous is not None:
            yield previous
        previous = chunk
    if hashing is not None:
        await settled(hashing)
    if running.hexdigest() != digest.encoded:
        raise WrongContent(f"expected digest {digest}, stored content has {digest.algorithm}:{running.hexdigest()}")
    on_verified()
    if previous is not None:
        yield previous
