"""A blob on its way to the disk and back, in pieces of 512 KiB: memory does not grow with the blob."""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

from tagferry.errors import Corrupt
from tagferry.names import Digest
from tagferry.registry.storage.files import sync_file
from tagferry.registry.storage.free_space import FreeSpace
from tagferry.registry.storage.integrity import record_size
from tagferry.registry.storage.threads import DiskThreads, settled

CHUNK_BYTES = 512 * 1024
"""Bytes that are hashed and written, or read, at once: as many as a core's own cache holds between the two, and enough
for the turn to the thread not to count."""

_SMALL = 4096
_WRITE_OUT = 16 * 1024 * 1024
"""Bytes after which the disk is made to write, while further ones arrive."""


class Spool:
    """A growing file with the running hash of its content.

    The hash is kept while the process lives, and rebuilt from the file where it is not known, as after a restart.
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
        """Bytes in the file; raises FileNotFoundError where it is gone."""
        return (await self._threads.run(self.path.stat)).st_size

    async def reread(self) -> int:
        """Hash what the file holds already, and return its size in bytes; raises FileNotFoundError."""
        await self._threads.run(self._rehash, self._hash.name)
        return self._hashed

    async def extend(self, chunks: AsyncIterator[bytes]) -> int:
        """Append chunks while further ones arrive, and return the new size in bytes.

        Where `chunks` fails, what has arrived until then is in the file.

        Raises:
            FileNotFoundError: the file is gone.
            DiskUnavailable: the disk takes no more.
            Corrupt: there are more bytes than the limit.
        """
        file = await self._threads.open(self._open)
        write_out = _WriteOut(self.path, self._threads)
        writing: asyncio.Future[None] | None = None
        gathered: list[bytes | bytearray] = []
        size = 0
        try:
            async for chunk in chunks:
                _gather(gathered, chunk)
                size += len(chunk)
                if size < CHUNK_BYTES:
                    continue
                if writing is not None:
                    await settled(writing)
                await write_out.grown(size)
                writing = self._threads.submit(self._write, file, gathered)
                gathered, size = [], 0
        finally:
            try:
                if writing is not None:
                    await settled(writing)
                if gathered:
                    await self._threads.run(self._write, file, gathered)
            finally:
                await self._threads.run(file.close)
                await write_out.end()
        return self._hashed

    async def cut(self, size: int) -> None:
        """Forget what lies behind the first `size` bytes."""
        await self._threads.run(os.truncate, self.path, size)
        self._hashed = -1

    async def verify(self, digest: Digest) -> None:
        """Check the content against a digest and make it durable; raises Corrupt where it differs."""
        await self._threads.run(self._verify, digest)

    def _open(self) -> BinaryIO:
        # Without O_CREAT: an upload that was cancelled meanwhile must not come back.
        file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_APPEND), "r+b", buffering=0)
        if os.fstat(file.fileno()).st_size != self._hashed:
            self._rehash(self._hash.name)
        return file

    def _write(self, file: BinaryIO, chunks: list[bytes | bytearray]) -> None:
        piece = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if not os.fstat(file.fileno()).st_nlink:
            # It was cancelled meanwhile: what is written here would fill the disk, and nobody could see why.
            raise FileNotFoundError(self.path)
        if self._limit is not None and self._hashed + len(piece) > self._limit:
            raise Corrupt(f"the blob is longer than its {self._limit} bytes")
        if self._free_space is not None:
            self._free_space.require(len(piece))
        rest = memoryview(piece)
        while rest:
            rest = rest[file.write(rest) :]
        self._hash.update(piece)
        self._hashed += len(piece)

    def _rehash(self, algorithm: str) -> None:
        running = hashlib.new(algorithm)
        hashed = 0
        with self.path.open("rb", buffering=0) as file:
            while piece := file.read(CHUNK_BYTES):
                running.update(piece)
                hashed += len(piece)
        self._hash, self._hashed = running, hashed

    def _verify(self, digest: Digest) -> None:
        if self._hash.name != digest.algorithm or self.path.stat().st_size != self._hashed:
            self._rehash(digest.algorithm)
        actual = f"{digest.algorithm}:{self._hash.hexdigest()}"
        if actual != digest:
            raise Corrupt(f"{digest} arrived with the digest {actual}")
        record_size(self.path)
        sync_file(self.path)


def _gather(gathered: list[bytes | bytearray], chunk: bytes) -> None:
    """Add a chunk; small ones go together, since each alone would take many times its memory."""
    if len(chunk) >= _SMALL:
        gathered.append(chunk)
    elif gathered and isinstance(last := gathered[-1], bytearray):
        last += chunk
    else:
        gathered.append(bytearray(chunk))


class _WriteOut:
    """Has the disk write a growing file now and then, so that the last sync does not wait for the whole of it."""

    def __init__(self, path: Path, threads: DiskThreads) -> None:
        self._path = path
        self._threads = threads
        self._grown = 0
        self._syncing: asyncio.Future[None] | None = None

    async def grown(self, size: int) -> None:
        """Take note of further bytes; raises what the disk said to the earlier ones."""
        self._grown += size
        if self._grown < _WRITE_OUT or (self._syncing is not None and not self._syncing.done()):
            return
        await self.end()
        self._grown = 0
        self._syncing = self._threads.submit_optional(self._sync)

    async def end(self) -> None:
        """Wait for what the disk writes, and raise what it says."""
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            await settled(syncing)

    def _sync(self) -> None:
        try:
            sync_file(self._path)
        except OSError:
            # The kernel tells once only that it has lost pages. No later sync would tell, so nothing may build on them.
            self._path.unlink(missing_ok=True)
            raise


async def read_ahead(
    file: BinaryIO, threads: DiskThreads, *, offset: int, length: int | None = None
) -> AsyncGenerator[bytes, None]:
    """A file's bytes from `offset` on, at most `length` of them; the next piece is read while one is used."""
    descriptor = file.fileno()
    end = os.fstat(descriptor).st_size
    if length is not None:
        end = min(end, offset + length)

    def begin(start: int) -> bytes | asyncio.Future[bytes]:
        size = max(0, min(CHUNK_BYTES, end - start))
        cached = _read_cached(descriptor, size, start)
        return threads.submit(os.pread, descriptor, size, start) if cached is None else cached

    # While the disk has to be waited for, it works ahead; what is in memory is copied just before it is sent.
    ahead: bytes | asyncio.Future[bytes] | None = None
    try:
        while offset < end:
            begun = begin(offset) if ahead is None else ahead
            if isinstance(begun, bytes):
                piece, ahead = begun, None
                # Nothing was waited for, and others want their turn.
                await asyncio.sleep(0)
            else:
                ahead = begun
                piece = await settled(begun)
                ahead = begin(offset + len(piece))
            if not piece:
                return
            offset += len(piece)
            yield piece
    finally:
        if ahead is not None and not isinstance(ahead, bytes):
            # The file is closed next; a thread must not read from a descriptor that means another file by then.
            await asyncio.wait((ahead,))


async def verified_ahead(
    chunks: AsyncGenerator[bytes, None], digest: Digest, threads: DiskThreads, *, on_verified: Callable[[], None]
) -> AsyncGenerator[bytes, None]:
    """Pass a whole blob's pieces on while they are hashed in a thread.

    Args:
        chunks: the blob's pieces, from its beginning to its end.
        digest: the blob's.
        threads: where they are hashed.
        on_verified: called before the last piece is given, where the digest is right.

    Raises:
        Corrupt: in place of the last piece, where it is not.
    """
    running = hashlib.new(digest.algorithm)
    hashing: asyncio.Future[None] | None = None
    held: bytes | None = None
    async for piece in chunks:
        if hashing is not None:
            await settled(hashing)
        hashing = threads.submit(running.update, piece)
        if held is not None:
            yield held
        held = piece
    if hashing is not None:
        await settled(hashing)
    if running.hexdigest() != digest.encoded:
        raise Corrupt(f"{digest} is stored with the digest {digest.algorithm}:{running.hexdigest()}")
    on_verified()
    if held is not None:
        yield held


def _read_cached(descriptor: int, size: int, offset: int) -> bytes | None:
    """What the kernel has in memory, which takes less time than the turn to a thread; None where it has nothing."""
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    buffer = bytearray(size)
    try:
        count = os.preadv(descriptor, [buffer], offset, os.RWF_NOWAIT)
    except OSError:
        return None
    return bytes(memoryview(buffer)[:count])
