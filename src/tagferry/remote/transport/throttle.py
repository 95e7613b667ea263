"""The load that a registry accepts, learned from its answers: requests at once, requests a second, and from when on.

A registry that throttles is believed for all requests of the process, not only for the one that it refused.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType

from tagferry.http.retry_after import retry_after
from tagferry.remote.transport.rate import MIN_LIMIT, RESTART_LIMIT, RequestLimiter

DEFAULT_WAIT = 2.0
"""Seconds after which to ask again a registry that throttles and does not say for how long."""
_EPOCH = 1e9
"""A reset beyond this many seconds is a moment, not a wait."""
_REMAINING = re.compile(r"(?:^|[;,\s])r=(\d+)")
_RESET = re.compile(r"(?:^|[;,\s])t=(\d+)")


class Throttle:
    """Slots for one registry's requests, and others for uploads.

    Each refusal for being too busy halves the slots; answers let them grow back one by one.

    Args:
        size: slots of either kind.
        max_wait: seconds; a longer pause that a registry asks for is not waited for here.
        sleep: waits for seconds.
        clock: seconds, monotonic.

    Attributes:
        limiter: when the next request may start.
    """

    def __init__(
        self,
        size: int,
        *,
        max_wait: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limiter = RequestLimiter(sleep=sleep, clock=clock)
        self.requests = Slots(size, self.limiter.acquire)
        self.uploads = Slots(size, self.limiter.acquire)
        self._max_wait = max_wait

    def record_response(self, status: int, headers: Mapping[str, str]) -> None:
        """Learn from an answer."""
        is_new = record_response(self.limiter, status, headers, max_wait=self._max_wait)
        if status == 429:
            if is_new:
                self.requests.halve()
                self.uploads.halve()
        elif status < 500:
            self.requests.grow()
            self.uploads.grow()


def record_response(limiter: RequestLimiter, status: int, headers: Mapping[str, str], *, max_wait: float) -> bool:
    """Have a host's rate learn from an answer.

    Args:
        limiter: the host's.
        status: the answer's.
        headers: the answer's.
        max_wait: seconds; a longer pause is not kept.

    Returns:
        Whether the host refuses more requests for now, and did not before.
    """
    is_refusal = status in (429, 503)
    asked = retry_after(headers) if is_refusal else rate_limit_pause(headers)
    if status == 429 and not asked:
        asked = DEFAULT_WAIT
    if not is_refusal:
        limiter.record_success()
    if not asked or asked > max_wait:
        return False
    return limiter.record_refusal(asked, min_limit=RESTART_LIMIT if status == 503 else MIN_LIMIT)


class Slots:
    """A semaphore whose size can change; entering it also waits until a request may start.

    Args:
        size: its size at first, and at most.
        wait: waits until requests are welcome.
    """

    def __init__(self, size: int, wait: Callable[[], Awaitable[None]]) -> None:
        self._max_size = size
        self._wait = wait
        self._in_use = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._credit = 0.0
        self.size = size

    async def __aenter__(self) -> None:
        if self._in_use < self.size and not self._waiting:
            self._in_use += 1
        else:
            await self._enqueue()
        try:
            await self._wait()
        except BaseException:
            self._release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def halve(self) -> None:
        """Have half as many slots, one at least; those in use end when they are left."""
        self.size -= self.size // 2
        self._credit = 0.0

    def grow(self) -> None:
        """Have one more after as many calls as there are slots, up to the size at first."""
        if self.size == self._max_size:
            return
        self._credit += 1 / self.size
        if self._credit >= 1:
            self._credit = 0.0
            self.size += 1
            self._admit()

    async def _enqueue(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self._release()
            raise

    def _release(self) -> None:
        self._in_use -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._in_use < self.size:
            waiter = self._waiting.popleft()
            if not waiter.done():
                # The slot is taken here and not by who wakes up, lest somebody slips in between.
                self._in_use += 1
                waiter.set_result(None)


def rate_limit_pause(headers: Mapping[str, str], now: Callable[[], float] = time.time) -> float:
    """Seconds until a used-up rate limit is renewed; 0 where requests are left, or where nobody tells.

    Understood are `RateLimit: …;r=0;t=30` (IETF httpapi draft, "RateLimit header fields"), its older form in three
    headers, and the `X-RateLimit-…` that preceded it, whose reset may be a moment in Unix time.
    """
    combined = headers.get("RateLimit", "")
    if combined:
        remaining, reset = _REMAINING.search(combined), _RESET.search(combined)
        return float(reset[1][:9]) if remaining and reset and not remaining[1].strip("0") else 0.0
    for prefix in ("RateLimit", "X-RateLimit"):
        if f"{prefix}-Remaining" not in headers:
            continue
        left = headers[f"{prefix}-Remaining"].partition(";")[0].strip()
        until = headers.get(f"{prefix}-Reset", "").partition(";")[0].strip()
        if left.isascii() and left.isdigit() and until.isascii() and until.isdigit():
            seconds = float(until[:12])
            return 0.0 if left.strip("0") else max(0.0, seconds - now() if seconds > _EPOCH else seconds)
    return 0.0
