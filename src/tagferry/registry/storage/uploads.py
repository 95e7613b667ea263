"""Upload sessions: a client sends a blob in one or several requests, also across restarts of the server."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from tagferry import bounds
from tagferry.errors import NotFound, QuotaExceeded, Unavailable
from tagferry.names import Digest, RepositoryName
from tagferry.registry.errors import OutOfOrder, SizeMismatch, UploadBusy
from tagferry.registry.storage.files import make_file
from tagferry.registry.storage.free_space import FreeSpace
from tagferry.registry.storage.layout import Layout, is_upload
from tagferry.registry.storage.quotas import Quotas
from tagferry.registry.storage.spool import CHUNK_BYTES, Spool
from tagferry.registry.storage.threads import DiskFull, DiskThreads, DiskUnavailable

_STATUS_WAIT_SECONDS = 5.0

Commit = Callable[[Spool, RepositoryName, Digest], None]
"""Stores a verified spool as a blob of a repository; blocks."""


class Uploads:
    """The uploads of one registry. One request at a time writes to an upload; others wait for it."""

    def __init__(
        self, layout: Layout, threads: DiskThreads, free_space: FreeSpace, quotas: Quotas, commit: Commit
    ) -> None:
        self._layout = layout
        self._threads = threads
        self._free_space = free_space
        self._quotas = quotas
        self._commit = commit
        self._spools: dict[tuple[RepositoryName, str], Spool] = {}

    @property
    def open_sessions(self) -> int:
        """The number of uploads that have not ended, of those used since the process started."""
        return len(self._spools)

    async def start(self, repository: RepositoryName) -> str:
        """Start an upload and return its identifier; raises DiskFull or QuotaExceeded."""
        identifier = uuid.uuid4().hex
        path = self._layout.upload(repository, identifier)

        def begin() -> None:
            self._free_space.require(0)
            make_file(path)

        await self._quotas.start_upload(repository, identifier)
        try:
            await self._threads.run(begin)
        except BaseException as error:
            self._quotas.end_upload(repository, identifier)
            if isinstance(error, FileNotFoundError):
                raise Unavailable("failed to start the upload; try again") from None
            raise
        self._remember(repository, identifier, Spool(path, self._threads, free_space=self._free_space))
        return identifier

    async def size(self, repository: RepositoryName, identifier: str) -> int:
        """Return the bytes received so far.

        Waits briefly for a request that is still writing, whose client has probably just disconnected.

        Raises:
            NotFound: of the kind `upload`.
        """
        spool = self._spool(repository, identifier)
        try:
            async with asyncio.timeout(_STATUS_WAIT_SECONDS), spool.lock:
                return await self._received(repository, identifier, spool)
        except TimeoutError:
            return await self._received(repository, identifier, spool)

    async def append(
        self,
        repository: RepositoryName,
        identifier: str,
        chunks: AsyncIterator[bytes],
        *,
        offset: int | None = None,
        length: int | None = None,
        announced: int | None = None,
    ) -> int:
        """Append to an upload, and return its new size.

        Args:
            repository: the repository of the upload.
            identifier: the identifier of the upload.
            chunks: the content; if it fails, the bytes received until then are kept.
            offset: the position of the content in the upload; None appends.
            length: the expected number of bytes; None for any.
            announced: the declared length of the body, which is refused at once if it does not fit.

        Raises:
            NotFound: of the kind `upload`.
            UploadBusy: another request is writing to it.
            OutOfOrder: `offset` is not the end of the upload.
            SizeMismatch: the number of bytes received is not `length`; they are discarded.
            DiskUnavailable: the write failed. The upload is deleted, to free its space.
            QuotaExceeded: the quota is exceeded. The upload is deleted.
        """
        spool = self._spool(repository, identifier)
        async with self._exclusive(identifier, spool), self._ended_on_refusal(repository, identifier, spool):
            if _is_small(announced):
                body = await self._gather(repository, identifier, spool, chunks, announced or 0)
                return await self._append_at_once(repository, identifier, spool, body, offset, length)
            return await self._append(repository, identifier, spool, chunks, offset, length, announced)

    async def finish(
        self,
        repository: RepositoryName,
        identifier: str,
        digest: Digest,
        chunks: AsyncIterator[bytes],
        *,
        offset: int | None = None,
        length: int | None = None,
        announced: int | None = None,
    ) -> None:
        """Append the last bytes, verify the upload, and store it as a blob; the upload is deleted.

        Raises:
            NotFound, UploadBusy, OutOfOrder, SizeMismatch: as `append`; the upload is kept.
            DiskUnavailable: as `append`; the upload is deleted.
            Corrupt: the digest does not match; the upload is deleted, since it can never match.
        """
        spool = self._spool(repository, identifier)
        async with self._exclusive(identifier, spool), self._ended_on_refusal(repository, identifier, spool):
            if _is_small(announced):
                body = await self._gather(repository, identifier, spool, chunks, announced or 0)
                await self._finish_at_once(repository, identifier, spool, digest, body, offset, length)
                return
            size = await self._append(repository, identifier, spool, chunks, offset, length, announced)
            try:
                await self._threads.run_to_end(self._store, repository, spool, digest)
                self._quotas.add_stored(repository, size)
            except FileNotFoundError:
                # Another request cancelled the upload.
                raise NotFound("upload", identifier) from None
            finally:
                await self._delete(repository, identifier, spool)

    async def cancel(self, repository: RepositoryName, identifier: str) -> None:
        """Delete an upload; raises NotFound."""
        spool = self._spool(repository, identifier)
        await self._received(repository, identifier, spool)
        await self._delete(repository, identifier, spool)

    def forget(self, repository: RepositoryName, identifier: str) -> None:
        """Discard the state of an upload whose file no longer exists."""
        self._spools.pop((repository, identifier), None)
        self._quotas.end_upload(repository, identifier)

    async def _append(
        self,
        repository: RepositoryName,
        identifier: str,
        spool: Spool,
        chunks: AsyncIterator[bytes],
        offset: int | None,
        length: int | None,
        announced: int | None,
    ) -> int:
        try:
            before, refusal = await self._threads.run(self._check_announced, spool, announced or 0)
        except FileNotFoundError:
            self.forget(repository, identifier)
            raise NotFound("upload", identifier) from None
        if offset is not None and offset != before:
            raise OutOfOrder(offset, before)
        if refusal is not None:
            raise refusal
        if announced:
            await self._quotas.require(repository, announced)
        try:
            after = await spool.extend(await self._quotas.meter(repository, identifier, chunks))
        except FileNotFoundError:
            raise NotFound("upload", identifier) from None
        if length is not None and after - before != length:
            await spool.truncate(before)
            raise SizeMismatch("Content-Range", f"must cover the body's {after - before} bytes", length)
        return after

    async def _gather(
        self, repository: RepositoryName, identifier: str, spool: Spool, chunks: AsyncIterator[bytes], announced: int
    ) -> bytes:
        """Return a small body; what was received of one that fails is appended to the upload."""
        if announced:
            await self._quotas.require(repository, announced)
        body = bytearray()
        try:
            async for chunk in await self._quotas.meter(repository, identifier, chunks):
                body += chunk
        except (QuotaExceeded, FileNotFoundError):
            raise
        except BaseException:
            if body:
                with suppress(FileNotFoundError):
                    await self._threads.run_to_end(spool.append, bytes(body))
            raise
        return bytes(body)

    async def _append_at_once(
        self,
        repository: RepositoryName,
        identifier: str,
        spool: Spool,
        body: bytes,
        offset: int | None,
        length: int | None,
    ) -> int:
        try:
            return await self._threads.run_to_end(self._append_body, spool, body, offset, length)
        except FileNotFoundError:
            self.forget(repository, identifier)
            raise NotFound("upload", identifier) from None

    async def _finish_at_once(
        self,
        repository: RepositoryName,
        identifier: str,
        spool: Spool,
        digest: Digest,
        body: bytes,
        offset: int | None,
        length: int | None,
    ) -> None:
        """Append the last bytes and store the blob, with one switch to a thread."""

        def finish() -> int:
            size = self._append_body(spool, body, offset, length)
            try:
                self._store(repository, spool, digest)
            finally:
                spool.path.unlink(missing_ok=True)
            return size

        try:
            size = await self._threads.run_to_end(finish)
        except (OutOfOrder, SizeMismatch, DiskUnavailable):
            raise
        except FileNotFoundError:
            self.forget(repository, identifier)
            raise NotFound("upload", identifier) from None
        except BaseException:
            self.forget(repository, identifier)
            raise
        self._quotas.add_stored(repository, size)
        self.forget(repository, identifier)

    def _append_body(self, spool: Spool, body: bytes, offset: int | None, length: int | None) -> int:
        """Append a whole body, and return the new size of the upload; blocks."""
        before = spool.path.stat().st_size
        if offset is not None and offset != before:
            raise OutOfOrder(offset, before)
        if length is not None and len(body) != length:
            raise SizeMismatch("Content-Range", f"must cover the body's {len(body)} bytes", length)
        if body:
            spool.append(body)
        return before + len(body)

    def _store(self, repository: RepositoryName, spool: Spool, digest: Digest) -> None:
        """Verify an upload and store it as a blob; blocks."""
        spool.check(digest)
        self._commit(spool, repository, digest)

    def _check_announced(self, spool: Spool, announced: int) -> tuple[int, DiskFull | None]:
        """Return the bytes received so far, and the error if the announced bytes do not fit; blocks."""
        size = spool.path.stat().st_size
        if announced:
            try:
                self._free_space.require(announced)
            except DiskFull as error:
                return size, error
        return size, None

    def _spool(self, repository: RepositoryName, identifier: str) -> Spool:
        if not is_upload(identifier):
            raise NotFound("upload", identifier)
        known = self._spools.get((repository, identifier))
        if known is not None:
            return known
        spool = Spool(self._layout.upload(repository, identifier), self._threads, free_space=self._free_space)
        self._remember(repository, identifier, spool)
        return spool

    def _remember(self, repository: RepositoryName, identifier: str, spool: Spool) -> None:
        self._spools[repository, identifier] = spool
        if len(self._spools) > bounds.OPEN_UPLOADS:
            # A discarded state is rebuilt from the file if the upload continues.
            idle = (key for key, one in self._spools.items() if one is not spool and not one.lock.locked())
            if (oldest := next(idle, None)) is not None:
                del self._spools[oldest]

    @asynccontextmanager
    async def _exclusive(self, identifier: str, spool: Spool) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(bounds.UPLOAD_WAIT_SECONDS):
                await spool.lock.acquire()
        except TimeoutError:
            raise UploadBusy(identifier) from None
        try:
            yield
        finally:
            spool.lock.release()

    async def _received(self, repository: RepositoryName, identifier: str, spool: Spool) -> int:
        try:
            return await spool.size()
        except FileNotFoundError:
            self.forget(repository, identifier)
            raise NotFound("upload", identifier) from None

    @asynccontextmanager
    async def _ended_on_refusal(
        self, repository: RepositoryName, identifier: str, spool: Spool
    ) -> AsyncGenerator[None]:
        try:
            yield
        except (DiskUnavailable, QuotaExceeded):
            with suppress(DiskUnavailable):
                await self._delete(repository, identifier, spool)
            raise

    async def _delete(self, repository: RepositoryName, identifier: str, spool: Spool) -> None:
        self.forget(repository, identifier)
        await self._threads.run(spool.path.unlink, missing_ok=True)


def _is_small(announced: int | None) -> bool:
    """Return whether a body of this declared length is received in memory before it is written."""
    return announced is not None and announced < CHUNK_BYTES
