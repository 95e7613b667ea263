"""Reads a blob's content, whatever happens to the connection (distribution-spec 1.1, "Pulling blobs").

A connection that breaks is replaced by one that goes on where it broke, by Range. A large blob of a registry that is
far away is read in several ranges at once, since one connection over a long way carries only what fits into its
window.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from tagferry.errors import Corrupt, NotFound, Unavailable
from tagferry.names import RepositoryName
from tagferry.oci.model import Descriptor
from tagferry.remote.manifests import pulling
from tagferry.remote.transport import Call, Transport

PIECE = 4 * 1024 * 1024
"""Bytes of one range of a blob that is read in several."""
PIECES_AT_ONCE = 8
"""Ranges of one blob that are on their way or waiting to be used."""
PIECES_IN_MEMORY = 16
"""The same for all blobs of one registry, which bounds the memory to 64 MiB."""


class Downloader:
    """Reads blobs of one registry."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._pieces = asyncio.Semaphore(PIECES_IN_MEMORY)

    @asynccontextmanager
    async def open(
        self, repository: RepositoryName, descriptor: Descriptor, *, offset: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """See `ImageStore.read_blob`."""
        if offset and offset >= descriptor.size:
            yield _nothing()
        elif self._is_worth_pieces(descriptor.size - offset):
            async with _Pieces(self._transport, self._pieces, repository, descriptor, offset).opened() as chunks:
                yield chunks
        else:
            async with _Span(self._transport, repository, descriptor, offset, descriptor.size).opened() as chunks:
                yield chunks

    def _is_worth_pieces(self, size: int) -> bool:
        return self._transport.is_far and size >= 2 * PIECE


class _Span:
    """The bytes of a blob from `start` up to, not including, `end`."""

    def __init__(
        self, transport: Transport, repository: RepositoryName, descriptor: Descriptor, start: int, end: int
    ) -> None:
        self._transport = transport
        self._repository = repository
        self._descriptor = descriptor
        self._position = start
        self._end = end
        self._connection = AsyncExitStack()
        self._chunks: AsyncIterator[bytes] = _nothing()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Ask for the bytes; raises NotFound at once where there is no such blob."""
        try:
            await self._connect()
            yield self._resumed()
        finally:
            await self._connection.aclose()

    async def _resumed(self) -> AsyncIterator[bytes]:
        failures = 0
        while True:
            try:
                async for chunk in self._chunks:
                    self._position += len(chunk)
                    failures = 0
                    yield chunk
            except Unavailable as failure:
                failures += 1
                await self._transport.retry.pause(failures, failure)
                await self._connect()
            else:
                return

    async def _connect(self) -> None:
        await self._connection.aclose()
        call = self._call()
        answer, chunks = await self._connection.enter_async_context(self._transport.open(call))
        if answer.status == 404:
            raise NotFound("blob", f"{self._repository}@{self._descriptor.digest}")
        skipped = self._position
        if answer.status == 206:
            skipped = 0
            self._check_range(answer.headers.get("Content-Range", ""), call)
        self._chunks = self._exactly(chunks, skipped, self._end - self._position, call)

    def _call(self) -> Call:
        whole = self._position == 0 and self._end == self._descriptor.size
        return Call(
            method="GET",
            task=f"give blob {self._descriptor.digest} of {self._repository}",
            url=f"/v2/{self._repository}/blobs/{self._descriptor.digest}",
            scopes=(pulling(self._repository),),
            headers={} if whole else {"Range": self._range()},
            accept=frozenset({200, 404} if whole else {200, 206, 404}),
            redirects=True,
        )

    def _range(self) -> str:
        last = "" if self._end == self._descriptor.size else self._end - 1
        return f"bytes={self._position}-{last}"

    async def _exactly(
        self, chunks: AsyncIterator[bytes], skipped: int, expected: int, call: Call
    ) -> AsyncIterator[bytes]:
        """Pass on what is expected, without what a server sent that does not know ranges."""
        left = expected
        is_last = self._end == self._descriptor.size
        async for chunk in chunks:
            wanted = chunk[skipped:] if skipped else chunk
            skipped -= min(skipped, len(chunk))
            if len(wanted) > left and is_last:
                raise Corrupt(
                    f"registry {self._transport.name} sent more than {expected} bytes when asked to {call.task}"
                )
            wanted = wanted[:left]
            left -= len(wanted)
            if wanted:
                yield wanted
            if not left and not is_last:
                return
        if left:
            raise Unavailable(
                f"registry {self._transport.name} sent {self._position} bytes instead of {self._end} "
                f"when asked to {call.task}"
            )

    def _check_range(self, told: str, call: Call) -> None:
        start = self._position
        if told and not told.replace(" ", "").startswith((f"bytes{start}-", f"bytes={start}-")):
            raise Unavailable(
                f"registry {self._transport.name} sent {told} instead of bytes {start}- when asked to {call.task}"
            )


class _Pieces:
    """A blob in ranges, several on their way at once, handed out in order."""

    def __init__(
        self,
        transport: Transport,
        memory: asyncio.Semaphore,
        repository: RepositoryName,
        descriptor: Descriptor,
        offset: int,
    ) -> None:
        self._transport = transport
        self._memory = memory
        self._repository = repository
        self._descriptor = descriptor
        self._starts = iter(range(offset, descriptor.size, PIECE))
        self._coming: deque[asyncio.Task[bytes]] = deque()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Ask for the first ranges; raises NotFound at once where there is no such blob."""
        try:
            await self._start()
            yield self._in_order()
        finally:
            await self._stop()

    async def _start(self) -> None:
        self._ask()
        # The first answer tells whether there is anything to ask for.
        await asyncio.wait([self._coming[0]])
        if self._coming[0].exception() is not None:
            await self._coming[0]
        while len(self._coming) < PIECES_AT_ONCE and self._ask():
            pass

    def _ask(self) -> bool:
        start = next(self._starts, None)
        if start is None:
            return False
        self._coming.append(asyncio.create_task(self._fetch(start)))
        return True

    async def _in_order(self) -> AsyncIterator[bytes]:
        while self._coming:
            piece = await self._coming[0]
            self._coming.popleft()
            self._memory.release()
            self._ask()
            yield piece

    async def _fetch(self, start: int) -> bytes:
        await self._memory.acquire()
        end = min(start + PIECE, self._descriptor.size)
        try:
            async with _Span(self._transport, self._repository, self._descriptor, start, end).opened() as chunks:
                return b"".join([chunk async for chunk in chunks])
        except BaseException:
            self._memory.release()
            raise

    async def _stop(self) -> None:
        for task in self._coming:
            task.cancel()
        for ended in await asyncio.gather(*self._coming, return_exceptions=True):
            if not isinstance(ended, BaseException):
                self._memory.release()
        self._coming.clear()


async def _nothing() -> AsyncIterator[bytes]:
    empty: tuple[bytes, ...] = ()
    for chunk in empty:
        yield chunk
