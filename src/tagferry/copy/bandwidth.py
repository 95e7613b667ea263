"""Limit the bandwidth of streams."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

_BURST_SECONDS = 0.25
_SLICE_SECONDS = 0.1


class BandwidthLimiter:
    """A rate limit that all streams sharing this object keep together. A reload changes `bytes_per_second`.

    A short pause may be made up for by a burst, a long one may not.

    Args:
        bytes_per_second: the limit.
        clock: seconds, monotonic.
        sleep: waits a number of seconds.
    """

    def __init__(
        self,
        bytes_per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.bytes_per_second = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()

    async def acquire(self, size: int) -> None:
        """Wait until this many bytes may be sent."""
        now = self._clock()
        self._free_at = max(self._free_at, now - _BURST_SECONDS) + size / self.bytes_per_second
        if self._free_at > now:
            await self._sleep(self._free_at - now)

    async def limit(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield chunks at the limit, in pieces small enough that a low rate does not arrive in bursts."""
        async for chunk in chunks:
            largest = max(1, int(min(self.bytes_per_second * _SLICE_SECONDS, len(chunk))))
            for start in range(0, len(chunk), largest):
                piece = chunk[start : start + largest] if len(chunk) > largest else chunk
                await self.acquire(len(piece))
                yield piece
