"""Reads blobs and recovers from broken connections (distribution-spec 1.1, "Pulling blobs").

A broken connection is replaced by one that continues at the same position, with a Range. A large blob of a registry
with a high latency is read in several concurrent ranges, since one connection carries only what fits into its window.
If a server ignores ranges and sends the whole blob, that response is read to its end and no further range is requested.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from tagferry.digits import whole_number
from tagferry.errors import Corrupt, NotFound, Unavailable
from tagferry.http.explanation import one_line
from tagferry.http.urls import host_of
from tagferry.names import RepositoryName
from tagferry.oci.model import Descriptor
from tagferry.remote.capabilities import RANGES, LearnedCapabilities
from tagferry.remote.transport.body import Body
from tagferry.remote.transport.requests import Call, Transport
from tagferry.remote.transport.response import Answer
from tagferry.remote.transport.scopes import pull_scope
from tagferry.streams import Flow, Spliceable

_RANGE = r"\s*bytes[ =]\s*(\d{1,18})-(\d{1,18})(?!\d)"
PIECE = 4 * 1024 * 1024
"""Size of one range of a blob that is read in several ranges."""
CONCURRENT_PIECES = 8
"""Maximum number of ranges of one blob that are in flight or buffered."""
PIECES_IN_MEMORY = 16
"""Maximum number of ranges of all blobs of one registry, which limits the memory to 64 MiB."""


class Downloader:
    """Reads blobs of one registry."""

    def __init__(self, transport: Transport, learned: LearnedCapabilities) -> None:
        self._transport = transport
        self._learned = learned
        self._pieces = asyncio.Semaphore(PIECES_IN_MEMORY)

    @asynccontextmanager
    async def open(
        self, repository: RepositoryName, descriptor: Descriptor, *, offset: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """See `ImageStore.read_blob`."""
        if offset and offset >= descriptor.size:
            yield _empty()
        else:
            blob = _Blob(self._transport, self._learned, repository, descriptor)
            is_in_pieces = await self._should_split(descriptor.size - offset)
            reading = _SplitBlob(blob, self._pieces, offset) if is_in_pieces else _Span(blob, offset, descriptor.size)
            async with reading.opened() as chunks:
                yield chunks

    async def _should_split(self, size: int) -> bool:
        is_worth_splitting = self._transport.high_latency is True and size >= 2 * PIECE
        return is_worth_splitting and RANGES not in (await self._learned.known()).unavailable


class _Blob(NamedTuple):
    """A blob and its source."""

    transport: Transport
    learned: LearnedCapabilities
    repository: RepositoryName
    descriptor: Descriptor


class _RangeIgnored(Exception):
    """A server sent the whole blob instead of a range in its middle."""


class _Span:
    """The bytes of a blob from `start` up to, but not including, `end`.

    Args:
        blob: the blob.
        start: the position of its first byte.
        end: the position after its last byte.
        is_piece: whether other spans read the preceding bytes, so that the whole blob is of no use to this one.

    Attributes:
        is_whole: whether the last response contains the whole blob.
    """

    def __init__(self, blob: _Blob, start: int, end: int, *, is_piece: bool = False) -> None:
        self._transport, self._learned, self._repository, self._descriptor = blob
        self._position = start
        self._end = end
        self._is_piece = is_piece
        self.is_whole = False
        self._attempts = self._transport.retry.attempts()
        self._takes_ranges = True
        self._connection = AsyncExitStack()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Request the bytes; raise NotFound at once if the blob does not exist."""
        try:
            source = await self._connect()
            chunks = _chunks_of(self._resumed(source, flowing=False))
            if source.body.can_flow:
                chunks = Spliceable(chunks, lambda: self._resumed(source, flowing=True))
            yield chunks
        finally:
            await self._connection.aclose()

    def extend(self) -> None:
        """Extend the span to the end of the blob; call before anything is read."""
        self._end = self._descriptor.size

    async def _resumed(self, source: "_Source", *, flowing: bool) -> AsyncIterator[bytes | Flow]:
        while True:
            begun_at = self._position
            try:
                async for piece in self._exactly(source, flowing=flowing):
                    yield piece
            except Unavailable as failure:
                # An attempt that has to read all previous bytes again makes no progress.
                if self._position > begun_at and not source.skipped:
                    self._attempts.record_progress(self._position - begun_at)
                await self._attempts.pause(failure)
                source = await self._connect()
            else:
                return

    async def _connect(self) -> "_Source":
        await self._connection.aclose()
        call = self._call()
        answer, body = await self._attempts.run(
            lambda: self._connection.enter_async_context(self._transport.open(call, once=True))
        )
        if answer.status == 404:
            raise NotFound("blob", f"{self._repository}@{self._descriptor.digest}", self._transport.missing_hint)
        is_range = "Range" in call.headers
        begins_at = 0 if answer.status == 200 else self._begins_at(answer, body)
        if begins_at is None:
            reported = one_line(
                answer.headers.get("Content-Range") or answer.headers.get("Content-Type") or "nothing", 100
            )
            if not is_range:
                raise Unavailable(
                    f"registry {self._transport.name} sent {reported} instead of bytes {self._position}- "
                    f"when asked to {call.task}"
                )
            # go-containerregistry's registry does not support ranges without an end, but supports others.
            if answer.status != 416 or self._end < self._descriptor.size:
                await self._record_range_ignored(answer, f"sent {reported} instead")
            self._takes_ranges = False
            return await self._connect()
        self._require_size(answer, body)
        self.is_whole = answer.status == 200
        if is_range:
            await (
                self._record_range_ignored(answer, "sent everything")
                if self.is_whole
                else self._record_range_supported()
            )
        if self.is_whole and self._is_piece:
            raise _RangeIgnored
        return _Source(call, body, skipped=self._position - begins_at)

    def _require_size(self, answer: Answer, body: Body) -> None:
        """Raise Corrupt if the registry reports another size for the whole blob, which a retry would not change."""
        if answer.status == 200:
            reported = "" if body.is_coded else answer.headers.get("Content-Length", "")
        else:
            reported = answer.headers.get("Content-Range", "").rpartition("/")[2]
        size = whole_number(reported)
        if size is not None and size != self._descriptor.size:
            blob = f"blob {self._descriptor.digest} of {self._repository}"
            raise Corrupt(
                f"registry {self._transport.name} holds {blob} with {size} bytes, but its manifest states "
                f"{self._descriptor.size}; build and push the image again"
            )

    async def _record_range_ignored(self, answer: Answer, reported: str) -> None:
        await self._learned.mark_unavailable(
            RANGES, f"{host_of(answer.url)} answered {answer.status} to a range and {reported}"
        )

    async def _record_range_supported(self) -> None:
        await self._learned.mark_available(RANGES)

    def _begins_at(self, answer: Answer, body: Body) -> int | None:
        """Return the position of the first byte of a 206; None if the response lacks the next byte needed."""
        media_type = answer.headers.get("Content-Type", "").lower()
        # A range of content that is compressed in transit is not a range of the blob.
        if answer.status != 206 or body.is_coded or media_type.startswith("multipart/"):
            return None
        reported = answer.headers.get("Content-Range", "")
        match = re.match(_RANGE, reported, re.ASCII)
        if match is None:
            return None if reported else self._position
        return int(match[1]) if int(match[1]) <= self._position <= int(match[2]) else None

    def _call(self) -> Call:
        whole = not self._takes_ranges or (self._position == 0 and self._end == self._descriptor.size)
        return Call(
            method="GET",
            task=f"return blob {self._descriptor.digest} of {self._repository}",
            url=f"/v2/{self._repository}/blobs/{self._descriptor.digest}",
            scopes=(pull_scope(self._repository),),
            headers={} if whole else {"Range": self._range()},
            accept=frozenset({200, 206, 404} if whole else {200, 206, 404, 416}),
            redirects=True,
            is_content=True,
            whole=self._descriptor.size,
        )

    def _range(self) -> str:
        last = "" if self._end == self._descriptor.size else self._end - 1
        return f"bytes={self._position}-{last}"

    async def _exactly(self, source: "_Source", *, flowing: bool) -> AsyncIterator[bytes | Flow]:
        """Yield the expected bytes, without the extra ones of a server that ignores ranges."""
        expected, skipped = self._end - self._position, source.skipped
        is_last = self._end == self._descriptor.size
        pieces = source.body.pieces() if flowing else source.body.chunks()
        async for piece in pieces:
            left = self._end - self._position
            if not isinstance(piece, bytes):
                # A flow that is not exactly the expected rest is left unread, and its bytes come in chunks.
                if piece.size == left and not skipped:
                    piece.watch(self._advance)
                    yield piece
                continue
            wanted = piece[skipped:] if skipped else piece
            skipped -= min(skipped, len(piece))
            if len(wanted) > left and is_last:
                raise Corrupt(
                    f"registry {self._transport.name} sent more than {expected} bytes when asked to {source.call.task}"
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
                f"when asked to {source.call.task}"
            )

    def _advance(self, size: int) -> None:
        self._position += size


class _Source(NamedTuple):
    """A response with a span's bytes.

    Attributes:
        skipped: bytes before the span, sent by a server that ignores ranges.
    """

    call: Call
    body: Body
    skipped: int


class _SplitBlob:
    """A blob in several concurrent ranges, yielded in order."""

    def __init__(self, blob: _Blob, memory: asyncio.Semaphore, offset: int) -> None:
        self._blob = blob
        self._memory = memory
        self._offset = offset
        self._offsets = iter(range(offset + PIECE, blob.descriptor.size, PIECE))
        self._pending: deque[asyncio.Task[bytes | None]] = deque()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Request the first range and then more; raise NotFound at once if the blob does not exist."""
        async with AsyncExitStack() as first:
            span = _Span(self._blob, self._offset, self._offset + PIECE)
            chunks = await first.enter_async_context(span.opened())
            if span.is_whole:
                span.extend()
                yield chunks
                return
            try:
                while len(self._pending) < CONCURRENT_PIECES - 1 and self._request_next():
                    pass
                yield self._in_order(chunks, first)
            finally:
                await self._stop()

    def _request_next(self) -> bool:
        start = next(self._offsets, None)
        if start is None:
            return False
        self._pending.append(asyncio.create_task(self._fetch(start)))
        return True

    async def _in_order(self, chunks: AsyncIterator[bytes], first: AsyncExitStack) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield chunk
        await first.aclose()
        position = self._offset + PIECE
        while self._pending:
            piece = await self._pending[0]
            self._pending.popleft()
            if piece is None:
                await self._stop()
                async with _Span(self._blob, position, self._blob.descriptor.size).opened() as rest:
                    async for chunk in rest:
                        yield chunk
                return
            self._memory.release()
            self._request_next()
            position += len(piece)
            yield piece

    async def _fetch(self, start: int) -> bytes | None:
        """Return one range; None if the server does not support ranges."""
        await self._memory.acquire()
        end = min(start + PIECE, self._blob.descriptor.size)
        try:
            async with _Span(self._blob, start, end, is_piece=True).opened() as chunks:
                return b"".join([chunk async for chunk in chunks])
        except _RangeIgnored:
            self._memory.release()
            return None
        except BaseException:
            self._memory.release()
            raise

    async def _stop(self) -> None:
        for task in self._pending:
            task.cancel()
        for ended in await asyncio.gather(*self._pending, return_exceptions=True):
            if isinstance(ended, bytes):
                self._memory.release()
        self._pending.clear()


async def _chunks_of(pieces: AsyncIterator[bytes | Flow]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        if isinstance(piece, bytes):
            yield piece


async def _empty() -> AsyncIterator[bytes]:
    empty: tuple[bytes, ...] = ()
    for chunk in empty:
        yield chunk
