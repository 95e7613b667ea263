"""Limits the bandwidth of what streams through."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

_BURST_SECONDS = 0.25
_SLICE_SECONDS = 0.1


class BandwidthLimiter:
    """A rate that all who share this keep together; short pauses may be made up for, long ones not.

    Args:
        bytes_per_second: the rate.
        clock: seconds, monotonic.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        bytes_per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()

    async def take(self, size: int) -> None:
        """Wait until this many bytes may pass."""
        now = self._clock()
        self._free_at = max(self._free_at, now - _BURST_SECONDS) + size / self._rate
        if self._free_at > now:
            await self._sleep(self._free_at - now)

    async def limit(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass chunks on at the rate, cut so small that a low rate flows instead of coming in bursts."""
        largest = max(1, int(self._rate * _SLICE_SECONDS))
        async for chunk in chunks:
            for start in range(0, len(chunk), largest):
                piece = chunk[start : start + largest] if len(chunk) > largest else chunk
                await self.take(len(piece))
                yield piece
