"""A limit on requests per second to a host, learned from its refusals (as in congestion control).

Requests are not limited until the host refuses one as too frequent. Then they start one by one, at slightly less than
the rate that was granted before, and the rate grows at an increasing pace while nothing is refused.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable

from tagferry.metrics.instruments import CounterSeries

MAX_HOSTS = 32
"""Maximum number of hosts other than the registry itself whose limits are remembered."""
MIN_LIMIT = 1.0
"""Minimum limit in requests per second, however few were granted: another refusal costs less than the wait."""
RESTART_LIMIT = 10.0
"""Limit for a host that was down, which does not show how many requests it grants."""
_MARGIN = 0.9
"""The part of the granted rate that is used next."""
_LARGEST_CUT = 0.7
"""The minimum part of a known limit that is kept, since the recently granted rate may be too low."""
_ACCELERATION = 0.05
"""Increase of the growth rate, per second and for each second without a refusal."""
_FIRST_ACCELERATION = 0.2
"""The same after the first refusal, while the host's limit is still unknown."""
_FASTEST_GROWTH = 1.0
_UNLIMITED = 1000.0
"""Requests per second at which a limit is dropped."""
_IDLE_SECONDS = 1.0
"""A host without a response for this long was not used to its limit."""


class RequestLimiter:
    """Starts requests to one host as often as it grants them, and none while it asks for a pause.

    Args:
        sleep: waits for seconds.
        clock: monotonic seconds.
        throttled: counts the seconds for which requests are held back: the pauses that the host asks for, and the waits
            for its limit.

    Attributes:
        limit: requests per second; None while no limit is known.
    """

    def __init__(
        self,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        throttled: CounterSeries | None = None,
    ) -> None:
        self._sleep = sleep
        self._clock = clock
        self._throttled = throttled or CounterSeries()
        self._queue = asyncio.Lock()
        self._quiet_until = self._next_at = float("-inf")
        self._refused_at: float | None = None
        self._requested_pause = 0.0
        self._min_limit = MIN_LIMIT
        self._began_at = self._answered_at = self._settled_at = self._grown_at = clock()
        self._granted = 0
        self._acceleration = _FIRST_ACCELERATION
        self.limit: float | None = None

    def restore(self, limit: float) -> None:
        """Begin with the limit that an earlier process learned, in requests per second; it grows like any other."""
        if self.limit is None and self._refused_at is None and limit < _UNLIMITED:
            self.limit = max(limit, MIN_LIMIT)
            self._settled_at = self._grown_at = self._clock()

    @property
    def pause_seconds(self) -> float:
        """The seconds for which the host has asked not to be sent requests; 0 if it has not."""
        return max(0.0, self._quiet_until - self._clock())

    def record_success(self) -> None:
        """Record a request that was not refused."""
        now = self._clock()
        if now - self._answered_at > _IDLE_SECONDS and self._refused_at is None and not self._is_contended(now):
            self._began_at, self._granted = now, 0
        self._answered_at = now
        self._granted += 1
        if self.limit is not None and self._refused_at is None:
            self._grow(self.limit, now)

    def record_refusal(self, seconds: float, *, min_limit: float = MIN_LIMIT) -> bool:
        """Record that a request was refused, or that the next one would be.

        Args:
            seconds: the pause that the host asks for.
            min_limit: minimum limit after the pause, in requests per second.

        Returns:
            Whether this is a new refusal; those that follow immediately belong to requests that were already in flight.
        """
        now = self._clock()
        is_new = self._refused_at is None
        if is_new:
            self._refused_at, self._requested_pause, self._min_limit = now, seconds, min_limit
        self._throttled.inc(max(0.0, now + seconds - max(self._quiet_until, now)))
        self._quiet_until = max(self._quiet_until, now + seconds)
        return is_new

    async def acquire(self) -> None:
        """Wait until a request may start; requests start in the order of their calls."""
        if self.limit is None and self._refused_at is None:
            return
        async with self._queue:
            until = None
            # The pause may be extended in the meantime.
            while (start := max(self._quiet_until, self._next_at)) != until and start > self._clock():
                until = start
                # The pause itself is counted when the host asks for it.
                self._throttled.inc(max(0.0, start - max(self._quiet_until, self._clock())))
                await self._sleep(start - self._clock())
            now = max(start, self._clock())
            if self._refused_at is not None:
                self._settle(self._refused_at, now)
            if self.limit is not None:
                self._next_at = now + 1 / self.limit

    def _settle(self, refused_at: float, now: float) -> None:
        """Choose the limit after a refusal, once the requests in flight at that time have been answered.

        The requests granted since the previous pause, divided by that time plus the new pause, are what the host grants
        in the long run, whether it counts in windows or fills a bucket.
        """
        seconds = refused_at - self._began_at + self._requested_pause
        chosen = _MARGIN * max(1, self._granted) / max(seconds, _IDLE_SECONDS)
        self._acceleration = _FIRST_ACCELERATION if self.limit is None else _ACCELERATION
        if self.limit is not None:
            chosen = min(max(chosen, _LARGEST_CUT * self.limit), _MARGIN * self.limit)
        self.limit = max(chosen, self._min_limit)
        self._refused_at = None
        self._began_at = self._answered_at = self._settled_at = self._grown_at = now
        self._granted = 0

    def _grow(self, limit: float, now: float) -> None:
        # A limit that no request waits for is not tested.
        if self._is_contended(now):
            growth = min(_FASTEST_GROWTH, self._acceleration * (now - self._settled_at))
            limit *= 1 + growth * min(now - self._grown_at, _IDLE_SECONDS)
            self.limit = limit if limit < _UNLIMITED else None
        self._grown_at = now

    def _is_contended(self, now: float) -> bool:
        """Return whether a new request would have to wait."""
        return self._next_at > now or self._queue.locked()


class HostLimiters:
    """The limiters of the other hosts of a registry: its storage and its token server.

    Args:
        sleep: waits for seconds.
    """

    def __init__(self, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._sleep = sleep
        self._limiters: dict[Hashable, RequestLimiter] = {}

    def of(self, host: Hashable) -> RequestLimiter:
        """Return a host's limiter; the oldest of more than `MAX_HOSTS` is dropped."""
        if host not in self._limiters:
            while len(self._limiters) >= MAX_HOSTS:
                del self._limiters[next(iter(self._limiters))]
            self._limiters[host] = RequestLimiter(sleep=self._sleep)
        return self._limiters[host]
