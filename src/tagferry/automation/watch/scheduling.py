"""What is to be done when, and how long to leave alone what went wrong."""

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

import structlog

from tagferry.errors import TagferryError

Work = TypeVar("Work", bound=Hashable)
Clock = Callable[[], float]

log = structlog.get_logger(__name__)


class DelayQueue(Generic[Work]):
    """Works that are due at some time, each at most once.

    Args:
        limit: works that it holds; what is more is not taken.
        clock: seconds.
    """

    def __init__(self, limit: int, clock: Clock = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._due: dict[Work, float] = {}
        self._heap: list[tuple[float, int, Work]] = []
        self._numbers = count()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    def add(self, work: Work, at: float | None = None) -> bool:
        """Let a work be done at a time, at once by default; the earlier time counts. False where there is no room."""
        due = self._clock() if at is None else at
        known = self._due.get(work)
        if known is None and len(self._due) >= self._limit:
            return False
        if known is None or due < known:
            self._due[work] = due
            heapq.heappush(self._heap, (due, next(self._numbers), work))
            self._changed.set()
        return True

    def pop(self) -> Work | None:
        """A work that is due, which is then no longer on the agenda."""
        self._drop_outdated()
        if not self._heap or self._heap[0][0] > self._clock():
            return None
        _, _, work = heapq.heappop(self._heap)
        del self._due[work]
        return work

    async def take(self) -> Work:
        """Wait for a work that is due."""
        while (work := self.pop()) is None:
            self._changed.clear()
            seconds = self._heap[0][0] - self._clock() if self._heap else None
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            except TimeoutError:
                continue
        return work

    def _drop_outdated(self) -> None:
        """Let the heap begin with what is on the agenda for that time."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)


class DelayQueues(Generic[Work]):
    """Agendas side by side, each with workers of its own, so that works which take long keep only their lane waiting.

    Args:
        limit: works that each lane holds.
        lane_of: the lane of a work, such as the region that it asks.
        clock: seconds.
    """

    def __init__(self, limit: int, partition_of: Callable[[Work], Hashable], clock: Clock = time.monotonic) -> None:
        self._limit = limit
        self._partition_of = partition_of
        self._clock = clock
        self._partitions: dict[Hashable, DelayQueue[Work]] = {}
        self._has_more = asyncio.Event()

    def add(self, work: Work, at: float | None = None) -> bool:
        """See `DelayQueue.add`."""
        lane = self._partition_of(work)
        if lane not in self._partitions:
            self._partitions[lane] = DelayQueue(self._limit, self._clock)
            self._has_more.set()
        return self._partitions[lane].add(work, at)

    async def serve(self, do: Callable[[Work], Awaitable[None]], *, at_once: int) -> None:
        """Do what is due, a number of works of each lane at once; it does not end by itself."""
        served: set[Hashable] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                self._has_more.clear()
                for lane in self._partitions.keys() - served:
                    served.add(lane)
                    for _ in range(at_once):
                        group.create_task(_serve(self._partitions[lane], do))
                await self._has_more.wait()


async def _serve(queue: DelayQueue[Work], do: Callable[[Work], Awaitable[None]]) -> None:
    while True:
        await do(await queue.take())


@dataclass(slots=True)
class _Failures:
    failures: int
    reason: str
    until: float


class Backoff:
    """Leaves alone what went wrong: for `initial` seconds at first, then twice as long each time, up to `maximum`."""

    def __init__(self, *, initial: float, maximum: float, clock: Clock = time.monotonic) -> None:
        self._initial = initial
        self._maximum = maximum
        self._clock = clock
        self._failures: dict[Hashable, _Failures] = {}

    def retry_at(self, key: Hashable) -> float | None:
        """The time before which it is to be left alone, if that has not come yet."""
        trouble = self._failures.get(key)
        return trouble.until if trouble is not None and trouble.until > self._clock() else None

    def failed(self, key: Hashable, reason: str = "") -> tuple[float, bool]:
        """It went wrong; returns when to try again, and whether the reason is news.

        What goes wrong while it is to be left alone had begun before, and makes the wait no longer.
        """
        known = self._failures.get(key)
        is_news = known is None or known.reason != reason
        if known is not None and self.retry_at(key) is not None:
            known.reason = reason
            return known.until, is_news
        failures = known.failures + 1 if known else 0
        until = self._clock() + min(self._initial * 2.0 ** min(failures, 32), self._maximum)
        self._failures[key] = _Failures(failures, reason, until)
        return until, is_news

    def succeeded(self, key: Hashable) -> bool:
        """It went well; returns whether it had gone wrong before."""
        return self._failures.pop(key, None) is not None


@dataclass(frozen=True, slots=True)
class Recheck:
    """When to look again, in the clock's seconds; None where there is no reason to.

    Attributes:
        at_tag: at the tag, since something there has to end first.
        at_source: at everything there, since something cannot be done for now.
    """

    tag_at: float | None = None
    source_at: float | None = None


def reason_of(error: Exception) -> str:
    """What went wrong, for a person."""
    return error.message if isinstance(error, TagferryError) else f"{type(error).__name__}: {error}"


def log_error(error: Exception, event: str, **names: object) -> None:
    """Log what went wrong: its reason, and where nobody has foreseen it, where it happened."""
    unforeseen = None if isinstance(error, TagferryError) else error
    log.warning(event, reason=reason_of(error), exc_info=unforeseen, **names)
