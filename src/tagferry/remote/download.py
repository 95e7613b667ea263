"""Reads a blob's content, whatever happens to the connection (distribution-spec 1.1, "Pulling blobs").

A connection that breaks is replaced by one that goes on where it broke, by Range. A large blob of a registry that is
far away is read in several ranges at once, since one connection over a long way carries only what fits into its
window.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from tagferry.errors import Corrupt, NotFound, Unavailable
from tagferry.names import RepositoryName
from tagferry.oci.images import Flow, Spliceable
from tagferry.oci.model import Descriptor
from tagferry.remote.body import Body
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
        return self._transport.is_far is True and size >= 2 * PIECE


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
        self._attempts = transport.retry.attempts()
        self._takes_ranges = True
        self._connection = AsyncExitStack()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Ask for the bytes; raises NotFound at once where there is no such blob."""
        try:
            coming = await self._connect()
            chunks = _chunks_of(self._resumed(coming, flowing=False))
            if coming.body.can_flow:
                chunks = Spliceable(chunks, lambda: self._resumed(coming, flowing=True))
            yield chunks
        finally:
            await self._connection.aclose()

    async def _resumed(self, coming: "_Coming", *, flowing: bool) -> AsyncIterator[bytes | Flow]:
        while True:
            begun_at = self._position
            try:
                async for piece in self._exactly(coming, flowing=flowing):
                    yield piece
            except Unavailable as failure:
                if self._position > begun_at:
                    self._attempts.progressed()
                await self._attempts.pause(failure)
                coming = await self._connect()
            else:
                return

    async def _connect(self) -> "_Coming":
        await self._connection.aclose()
        call = self._call()
        answer, body = await self._attempts.run(
            lambda: self._connection.enter_async_context(self._transport.open(call, once=True))
        )
        if answer.status == 404:
            raise NotFound("blob", f"{self._repository}@{self._descriptor.digest}")
        if answer.status == 416 or (answer.status == 206 and body.is_coded):
            # It understands no such range, as go-containerregistry's registry does none without an end, or gives one
            # of what it compresses on the way, which is none of the blob.
            self._takes_ranges = False
            return await self._connect()
        if answer.status == 206:
            self._check_range(answer.headers.get("Content-Range", ""), call)
            return _Coming(call, body, skipped=0)
        return _Coming(call, body, skipped=self._position)

    def _call(self) -> Call:
        whole = not self._takes_ranges or (self._position == 0 and self._end == self._descriptor.size)
        return Call(
            method="GET",
            task=f"give blob {self._descriptor.digest} of {self._repository}",
            url=f"/v2/{self._repository}/blobs/{self._descriptor.digest}",
            scopes=(pulling(self._repository),),
            headers={} if whole else {"Range": self._range()},
            accept=frozenset({200, 404} if whole else {200, 206, 404, 416}),
            redirects=True,
            whole=self._descriptor.size,
        )

    def _range(self) -> str:
        last = "" if self._end == self._descriptor.size else self._end - 1
        return f"bytes={self._position}-{last}"

    async def _exactly(self, coming: "_Coming", *, flowing: bool) -> AsyncIterator[bytes | Flow]:
        """Pass on what is expected, without what a server sent that does not know ranges."""
        expected, skipped = self._end - self._position, coming.skipped
        is_last = self._end == self._descriptor.size
        pieces = coming.body.pieces() if flowing else coming.body.chunks()
        async for piece in pieces:
            left = self._end - self._position
            if not isinstance(piece, bytes):
                # One that is not just what is wanted is left, so that it comes in chunks.
                if piece.size == left and not skipped:
                    piece.watch(self._advance)
                    yield piece
                continue
            wanted = piece[skipped:] if skipped else piece
            skipped -= min(skipped, len(piece))
            if len(wanted) > left and is_last:
                raise Corrupt(
                    f"registry {self._transport.name} sent more than {expected} bytes when asked to {coming.call.task}"
                )
            wanted = wanted[:left]
            self._advance(len(wanted))
            if wanted:
                yield wanted
            if self._position == self._end and not is_last:
                return
        if self._position < self._end:
            raise Unavailable(
                f"registry {self._transport.name} sent {self._position} bytes instead of {self._end} "
                f"when asked to {coming.call.task}"
            )

    def _advance(self, size: int) -> None:
        self._position += size

    def _check_range(self, told: str, call: Call) -> None:
        start = self._position
        if told and not told.replace(" ", "").startswith((f"bytes{start}-", f"bytes={start}-")):
            raise Unavailable(
                f"registry {self._transport.name} sent {told} instead of bytes {start}- when asked to {call.task}"
            )


class _Coming(NamedTuple):
    """An answer with a span's bytes.

    Attributes:
        skipped: bytes before the span that it brings too, as a server sends them that does not know ranges.
    """

    call: Call
    body: Body
    skipped: int


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


async def _chunks_of(pieces: AsyncIterator[bytes | Flow]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        if isinstance(piece, bytes):
            yield piece


async def _nothing() -> AsyncIterator[bytes]:
    empty: tuple[bytes, ...] = ()
    for chunk in empty:
        yield chunk
