"""Large blobs go to a near registry in turns, so that it stores the ones while the next are on their way.

All at once would share the same processors, end together, and then wait for the registry's disk together.
"""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from tagferry.streams import Piece

LARGE = 16 * 1024 * 1024
"""Bytes from which on a blob needs a turn."""
PERMITS = 2
"""Large blobs whose bytes go to one registry at a time."""
MAX_WAIT_SECONDS = 1.0
"""How long a large blob waits for its turn: where the source is slow, waiting for others gains nothing."""


class UploadStagger:
    """The turns of one registry's uploads."""

    def __init__(self) -> None:
        self._permits = asyncio.Semaphore(PERMITS)

    def throttle(self, size: int, *, high_latency: bool | None) -> "UploadPermit":
        """What to send this many bytes under; a registry that is far away has nobody wait."""
        return UploadPermit(self._permits if size >= LARGE and not high_latency else None)


class UploadPermit:
    """The right to send a blob's bytes, given back with the last of them: storing it is not sending."""

    def __init__(self, permits: asyncio.Semaphore | None) -> None:
        self._permits = permits

    async def __aenter__(self) -> Self:
        if self._permits is not None:
            try:
                async with asyncio.timeout(MAX_WAIT_SECONDS):
                    await self._permits.acquire()
            except TimeoutError:
                self._permits = None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    async def released_after(self, pieces: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
        """Pass the blob's pieces on; the turn is over after the last one."""
        async for piece in pieces:
            yield piece
        self._release()

    def _release(self) -> None:
        permits, self._permits = self._permits, None
        if permits is not None:
            permits.release()
