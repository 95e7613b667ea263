"""How many requests a second a host grants, learned from its refusals (as in congestion control).

A host is asked as fast as it answers until it refuses a request for coming too often. From then on requests start one
by one at a little less than the rate that it granted before, and faster and faster while nothing is refused.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable

MAX_HOSTS = 32
"""Other hosts than the registry's own whose limits are remembered."""
MIN_LIMIT = 1.0
"""Requests a second that are tried at least, however few were granted: one refusal more costs less than the wait."""
RESTART_LIMIT = 10.0
"""Requests a second with which to begin again at a host that was down, which says nothing about how many it grants."""
_MARGIN = 0.9
"""The part of the granted rate that is used next."""
_LARGEST_CUT = 0.7
"""The part of a known rate that is kept at least: what was granted lately may say too little."""
_ACCELERATION = 0.05
"""By how much a second the growth of the rate grows, as a part of the rate, for each second without a refusal."""
_FIRST_ACCELERATION = 0.2
"""The same after the first refusal, when one has only begun to find out."""
_FASTEST_GROWTH = 1.0
_UNLIMITED = 1000.0
"""Requests a second from which on a rate is no limit."""
_IDLE_SECONDS = 1.0
"""Without an answer for so long, a host was not used to its limit."""


class RequestLimiter:
    """Lets requests to one host start as often as it grants, and none while it asks to be left alone.

    Args:
        sleep: waits for seconds.
        clock: seconds, monotonic.

    Attributes:
        limit: requests a second; None while no limit is known.
    """

    def __init__(
        self,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sleep = sleep
        self._clock = clock
        self._queue = asyncio.Lock()
        self._quiet_until = self._next_at = float("-inf")
        self._refused_at: float | None = None
        self._asked_to_wait = 0.0
        self._min_limit = MIN_LIMIT
        self._began_at = self._answered_at = self._settled_at = self._grown_at = clock()
        self._granted = 0
        self._acceleration = _FIRST_ACCELERATION
        self.limit: float | None = None

    def restore(self, limit: float) -> None:
        """Begin with a limit that an earlier process has found, in requests a second; it grows as any other."""
        if self.limit is None and self._refused_at is None and limit < _UNLIMITED:
            self.limit = max(limit, MIN_LIMIT)
            self._settled_at = self._grown_at = self._clock()

    def record_success(self) -> None:
        """Note that a request was not refused."""
        now = self._clock()
        if now - self._answered_at > _IDLE_SECONDS and self._refused_at is None and not self._is_contended(now):
            self._began_at, self._granted = now, 0
        self._answered_at = now
        self._granted += 1
        if self.limit is not None and self._refused_at is None:
            self._grow(self.limit, now)

    def record_refusal(self, seconds: float, *, min_limit: float = MIN_LIMIT) -> bool:
        """Note that a request was refused, or that the next one would be.

        Args:
            seconds: how long the host asks to be left alone.
            min_limit: requests a second to continue with at least.

        Returns:
            Whether this is a new refusal; those that follow at once belong to requests that were under way by then.
        """
        now = self._clock()
        is_new = self._refused_at is None
        if is_new:
            self._refused_at, self._asked_to_wait, self._min_limit = now, seconds, min_limit
        self._quiet_until = max(self._quiet_until, now + seconds)
        return is_new

    async def acquire(self) -> None:
        """Wait until a request may start; those who wait go one after another."""
        if self.limit is None and self._refused_at is None:
            return
        async with self._queue:
            until = None
            # It may be asked for a longer time meanwhile.
            while (start := max(self._quiet_until, self._next_at)) != until and start > self._clock():
                until = start
                await self._sleep(start - self._clock())
            now = max(start, self._clock())
            if self._refused_at is not None:
                self._settle(self._refused_at, now)
            if self.limit is not None:
                self._next_at = now + 1 / self.limit

    def _settle(self, refused_at: float, now: float) -> None:
        """Choose the rate after a refusal, once all that was under way then has been answered.

        What was granted since the time before in which the host was left alone, over that time and the one that it asks
        for now, is what it grants in the long run, whether it counts in windows or fills a bucket.
        """
        seconds = refused_at - self._began_at + self._asked_to_wait
        chosen = _MARGIN * max(1, self._granted) / max(seconds, _IDLE_SECONDS)
        self._acceleration = _FIRST_ACCELERATION if self.limit is None else _ACCELERATION
        if self.limit is not None:
            chosen = min(max(chosen, _LARGEST_CUT * self.limit), _MARGIN * self.limit)
        self.limit = max(chosen, self._min_limit)
        self._refused_at = None
        self._began_at = self._answered_at = self._settled_at = self._grown_at = now
        self._granted = 0

    def _grow(self, limit: float, now: float) -> None:
        # A limit that nothing waits for is not tested by what is granted.
        if self._is_contended(now):
            growth = min(_FASTEST_GROWTH, self._acceleration * (now - self._settled_at))
            limit *= 1 + growth * min(now - self._grown_at, _IDLE_SECONDS)
            self.limit = limit if limit < _UNLIMITED else None
        self._grown_at = now

    def _is_contended(self, now: float) -> bool:
        """Return whether a request that came now would have to wait."""
        return self._next_at > now or self._queue.locked()


class HostLimiters:
    """The rates of the other hosts that a registry leads to: its storage and its token server.

    Args:
        sleep: waits for seconds.
    """

    def __init__(self, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._sleep = sleep
        self._limiters: dict[Hashable, RequestLimiter] = {}

    def of(self, host: Hashable) -> RequestLimiter:
        """Return a host's rate; of more hosts than `MAX_HOSTS`, the one that was met first is forgotten."""
        if host not in self._limiters:
            while len(self._limiters) >= MAX_HOSTS:
                del self._limiters[next(iter(self._limiters))]
            self._limiters[host] = RequestLimiter(sleep=self._sleep)
        return self._limiters[host]
