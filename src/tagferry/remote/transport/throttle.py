"""The load that a registry accepts, learned from its responses: concurrent requests, requests per second, and pauses.

A registry's refusal applies to all requests of the process, not only to the refused one.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import NamedTuple

from tagferry.http.retry_after import retry_after
from tagferry.metrics.instruments import CounterSeries
from tagferry.remote.transport.rate import MIN_LIMIT, RESTART_LIMIT, RequestLimiter

DEFAULT_WAIT = 2.0
"""Seconds to wait if a registry throttles without saying for how long."""
_EPOCH = 1e9
"""A reset time beyond this many seconds is a Unix time, not a duration."""
_REMAINING = r"(?:^|[;,\s])r=(\d+)"
_RESET = r"(?:^|[;,\s])t=(\d+)"


class Load(NamedTuple):
    """The current load of one registry by this process.

    Attributes:
        requests: requests in progress, uploads included.
        max_requests: requests of each kind that may be in progress at present; fewer after refusals.
        requests_a_second: the rate limit, if the registry has refused requests.
        throttled_seconds: the seconds for which the registry has asked to wait; 0 if it has not.
    """

    requests: int
    max_requests: int
    requests_a_second: float | None
    throttled_seconds: float


class Throttle:
    """Slots for one registry's requests, and separate slots for uploads.

    Each refusal for overload halves the slots; other responses let them grow again one by one.

    Args:
        size: number of slots of each kind.
        max_wait: seconds; a longer pause is left to the caller.
        sleep: waits for seconds.
        clock: monotonic seconds.
        throttled: counts the seconds for which requests are held back.

    Attributes:
        limiter: the registry's rate limiter.
    """

    def __init__(
        self,
        size: int,
        *,
        max_wait: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        throttled: CounterSeries | None = None,
    ) -> None:
        self.limiter = RequestLimiter(sleep=sleep, clock=clock, throttled=throttled)
        self.requests = Slots(size, self.limiter.acquire)
        self.uploads = Slots(size, self.limiter.acquire)
        self._max_wait = max_wait

    @property
    def load(self) -> Load:
        """The current load."""
        return Load(
            requests=self.requests.in_use + self.uploads.in_use,
            max_requests=self.requests.size,
            requests_a_second=self.limiter.limit,
            throttled_seconds=self.limiter.pause_seconds,
        )

    def record_response(self, status: int, headers: Mapping[str, str]) -> None:
        """Learn from a response."""
        is_new = record_response(self.limiter, status, headers, max_wait=self._max_wait)
        if status == 429:
            if is_new:
                self.requests.halve()
                self.uploads.halve()
        elif status < 500:
            self.requests.grow()
            self.uploads.grow()


def record_response(limiter: RequestLimiter, status: int, headers: Mapping[str, str], *, max_wait: float) -> bool:
    """Update a host's rate limiter from a response.

    Args:
        limiter: the host's limiter.
        status: the response's status.
        headers: the response's headers.
        max_wait: seconds; a longer pause is ignored.

    Returns:
        Whether the host has begun to refuse requests.
    """
    is_refusal = status in (429, 503)
    pause = retry_after(headers) if is_refusal else rate_limit_pause(headers)
    if status == 429 and not pause:
        pause = DEFAULT_WAIT
    if not is_refusal:
        limiter.record_success()
    if not pause or pause > max_wait:
        return False
    return limiter.record_refusal(pause, min_limit=RESTART_LIMIT if status == 503 else MIN_LIMIT)


class Slots:
    """A semaphore with a variable size; entering it also waits for the rate limit.

    Args:
        size: its initial and maximum size.
        wait: waits until a request may start.
    """

    def __init__(self, size: int, wait: Callable[[], Awaitable[None]]) -> None:
        self._max_size = size
        self._wait = wait
        self._in_use = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._credit = 0.0
        self.size = size

    @property
    def in_use(self) -> int:
        """The number of slots in use."""
        return self._in_use

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

    @property
    def free(self) -> int:
        """The number of slots that can be entered at once."""
        return max(0, self.size - self._in_use - len(self._waiting))

    def halve(self) -> None:
        """Halve the size, to one at least; slots in use end when they are released."""
        self.size -= self.size // 2
        self._credit = 0.0

    def grow(self) -> None:
        """Add a slot after as many calls as there are slots, up to the initial size."""
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
                # The slot is taken here and not by the woken task, so that no other task can take it in between.
                self._in_use += 1
                waiter.set_result(None)


def rate_limit_pause(headers: Mapping[str, str], now: Callable[[], float] = time.time) -> float:
    """Return the seconds until an exhausted rate limit is reset; 0 if requests are left or no limit is reported.

    The supported headers are `RateLimit: …;r=0;t=30` (IETF httpapi draft, "RateLimit header fields"), its older form in
    three headers, and the `X-RateLimit-…` that preceded it, whose reset may be a Unix time.
    """
    combined = headers.get("RateLimit", "")
    if combined:
        remaining, reset = re.search(_REMAINING, combined), re.search(_RESET, combined)
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
