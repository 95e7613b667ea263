"""Staggers large uploads to a registry with low latency, so that it stores some while others are transferred.

Concurrent uploads would compete for the same processors, end together, and then wait for the registry's disk together.
"""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from tagferry.streams import Piece

LARGE = 16 * 1024 * 1024
"""Size of the smallest blob that needs a permit."""
PERMITS = 2
"""Large blobs that are transferred to one registry at a time."""
MAX_WAIT_SECONDS = 1.0
"""Maximum wait for a permit: if the source is slow, waiting for others gains nothing."""


class UploadStagger:
    """The upload permits of one registry."""

    def __init__(self) -> None:
        self._permits = asyncio.Semaphore(PERMITS)

    def permit(self, size: int, *, high_latency: bool | None) -> "UploadPermit":
        """Return the permit for sending this many bytes; uploads to a registry with a high latency do not wait."""
        return UploadPermit(self._permits if size >= LARGE and not high_latency else None)


class UploadPermit:
    """The permit to send a blob; it is released after the last byte, before the registry has stored the blob."""

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
        """Yield the blob's pieces, and release the permit after the last one."""
        async for piece in pieces:
            yield piece
        self._release()

    def _release(self) -> None:
        permits, self._permits = self._permits, None
        if permits is not None:
            permits.release()
