"""Upload sessions: what a client sends of a blob, in one request or in many, also across restarts."""

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
from tagferry.registry.storage.spool import Spool
from tagferry.registry.storage.threads import DiskFull, DiskThreads, DiskUnavailable

_STATUS_WAIT_SECONDS = 5.0

Commit = Callable[[Spool, RepositoryName, Digest], None]
"""Makes a verified spool a blob of the repository; blocks."""


class Uploads:
    """The uploads of one registry. One request at a time moves an upload forward; others wait for it."""

    def __init__(
        self, layout: Layout, threads: DiskThreads, free_space: FreeSpace, quotas: Quotas, commit: Commit
    ) -> None:
        self._layout = layout
        self._threads = threads
        self._free_space = free_space
        self._quotas = quotas
        self._commit = commit
        self._spools: dict[tuple[RepositoryName, str], Spool] = {}

    async def start(self, repository: RepositoryName) -> str:
        """Begin an upload and return its identifier; raises DiskFull or QuotaExceeded where nothing more is taken."""
        identifier = uuid.uuid4().hex
        path = self._layout.upload(repository, identifier)

        def begin() -> None:
            self._free_space.require(0)
            make_file(path)

        await self._quotas.begin(repository, identifier)
        try:
            await self._threads.run(begin)
        except BaseException as error:
            self._quotas.ended(repository, identifier)
            if isinstance(error, FileNotFoundError):
                raise Unavailable("the upload could not be started; try again") from None
            raise
        self._remember(repository, identifier, Spool(path, self._threads, free_space=self._free_space))
        return identifier

    async def size(self, repository: RepositoryName, identifier: str) -> int:
        """Bytes received so far.

        A request that still writes is waited for, briefly: it is probably one whose client has just gone.

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
        """Add bytes and return how many the upload holds then.

        Args:
            repository: where the upload was started.
            identifier: which upload.
            chunks: the bytes; where this fails, what came until then is kept.
            offset: where the bytes belong; None appends.
            length: how many bytes come; None takes all.
            announced: bytes of the body as the client says, which is refused at once where they do not fit.

        Raises:
            NotFound: of the kind `upload`.
            UploadBusy: another request still writes to it.
            OutOfOrder: `offset` is not where the upload stands.
            SizeMismatch: more or fewer bytes came than `length`; none of them is kept.
            DiskUnavailable: the disk takes no more. The upload ends, since what it holds would keep the disk full.
            QuotaExceeded: the organization may hold no more. The upload ends, too.
        """
        spool = self._spool(repository, identifier)
        async with self._exclusive(identifier, spool), self._ended_on_refusal(repository, identifier, spool):
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
        """Add the last bytes, verify the whole and make it a blob of the repository; the upload ends.

        Raises:
            NotFound, UploadBusy, OutOfOrder, SizeMismatch: as `append`; the upload stays.
            DiskUnavailable: as `append`; the upload ends.
            Corrupt: the content has another digest; the upload ends, since it can never match.
        """
        spool = self._spool(repository, identifier)
        async with self._exclusive(identifier, spool), self._ended_on_refusal(repository, identifier, spool):
            size = await self._append(repository, identifier, spool, chunks, offset, length, announced)
            try:
                await spool.verify(digest)
                await self._threads.run(self._commit, spool, repository, digest)
                self._quotas.stored(repository, size)
            except FileNotFoundError:
                # Cancelled by another request meanwhile.
                raise NotFound("upload", identifier) from None
            finally:
                await self._drop(repository, identifier, spool)

    async def cancel(self, repository: RepositoryName, identifier: str) -> None:
        """End an upload and forget its bytes; raises NotFound."""
        spool = self._spool(repository, identifier)
        await self._received(repository, identifier, spool)
        await self._drop(repository, identifier, spool)

    def forget(self, repository: RepositoryName, identifier: str) -> None:
        """Give up what memory keeps of an upload whose file is gone."""
        self._spools.pop((repository, identifier), None)
        self._quotas.ended(repository, identifier)

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
            before, refusal = await self._threads.run(self._look, spool, announced or 0)
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
            after = await spool.extend(await self._quotas.metered(repository, identifier, chunks))
        except FileNotFoundError:
            raise NotFound("upload", identifier) from None
        if length is not None and after - before != length:
            await spool.cut(before)
            raise SizeMismatch("Content-Range", f"must cover the body's {after - before} bytes", length)
        return after

    def _look(self, spool: Spool, announced: int) -> tuple[int, DiskFull | None]:
        """The bytes received so far, and why the disk refuses what was announced; blocks."""
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
            # What is forgotten is read again from the file, if it goes on at all.
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
                await self._drop(repository, identifier, spool)
            raise

    async def _drop(self, repository: RepositoryName, identifier: str, spool: Spool) -> None:
        self.forget(repository, identifier)
        await self._threads.run(spool.path.unlink, missing_ok=True)
