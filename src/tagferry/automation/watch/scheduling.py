"""Delay queues, exponential backoff per key, and logging of errors that are retried."""

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError

from tagferry.db.batches import error_summary
from tagferry.errors import TagferryError, is_by_caller
from tagferry.supervision import surfacing

Item = TypeVar("Item", bound=Hashable)
Clock = Callable[[], float]

log = structlog.get_logger(__name__)


class DelayQueue(Generic[Item]):
    """A queue of items with due times, which holds each item at most once.

    Args:
        limit: maximum number of items; further ones are refused.
        clock: returns the time in seconds.
    """

    def __init__(self, limit: int, clock: Clock = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._due: dict[Item, float] = {}
        self._heap: list[tuple[float, int, Item]] = []
        self._numbers = count()
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._due)

    def add(self, item: Item, at: float | None = None) -> bool:
        """Schedule an item, by default immediately; the earlier time counts. Return False if the queue is full."""
        due = self._clock() if at is None else at
        known = self._due.get(item)
        if known is None and len(self._due) >= self._limit:
            return False
        if known is None or due < known:
            self._due[item] = due
            heapq.heappush(self._heap, (due, next(self._numbers), item))
            self._changed.set()
        return True

    def pop(self) -> Item | None:
        """Remove and return an item that is due, or return None."""
        self._drop_outdated()
        if not self._heap or self._heap[0][0] > self._clock():
            return None
        _, _, item = heapq.heappop(self._heap)
        del self._due[item]
        return item

    async def take(self) -> Item:
        """Wait for a due item, remove it and return it."""
        # One caller at a time looks at the clock. Otherwise all would wake for each item.
        async with self._turn:
            while (item := self.pop()) is None:
                self._changed.clear()
                seconds = self._heap[0][0] - self._clock() if self._heap else None
                try:
                    async with asyncio.timeout(seconds):
                        await self._changed.wait()
                except TimeoutError:
                    continue
            return item

    def _drop_outdated(self) -> None:
        """Remove entries from the top of the heap that no longer match their item's due time."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)


class DelayQueues(Generic[Item]):
    """Delay queues by partition, each with its own workers, so that a slow partition does not delay the others.

    Args:
        limit: maximum number of items in each partition.
        partition_of: returns the partition of an item, such as its region.
        clock: returns the time in seconds.
    """

    def __init__(self, limit: int, partition_of: Callable[[Item], Hashable], clock: Clock = time.monotonic) -> None:
        self._limit = limit
        self._partition_of = partition_of
        self._clock = clock
        self._partitions: dict[Hashable, DelayQueue[Item]] = {}
        self._partition_added = asyncio.Event()

    def add(self, item: Item, at: float | None = None) -> bool:
        """Schedule an item in its partition, as `DelayQueue.add` does."""
        partition = self._partition_of(item)
        if partition not in self._partitions:
            self._partitions[partition] = DelayQueue(self._limit, self._clock)
            self._partition_added.set()
        return self._partitions[partition].add(item, at)

    async def serve(self, handle: Callable[[Item], Awaitable[None]], *, concurrency: int) -> None:
        """Process due items until cancelled, up to `concurrency` of each partition at once."""
        served: set[Hashable] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                self._partition_added.clear()
                for partition in self._partitions.keys() - served:
                    served.add(partition)
                    for _ in range(concurrency):
                        group.create_task(surfacing(_serve(self._partitions[partition], handle)))
                await self._partition_added.wait()


async def _serve(queue: DelayQueue[Item], handle: Callable[[Item], Awaitable[None]]) -> None:
    while True:
        await handle(await queue.take())


@dataclass(slots=True)
class _Failures:
    failures: int
    reason: str
    until: float


class Backoff:
    """Exponential backoff per key: from `initial` seconds, doubled after each failure, up to `maximum`."""

    def __init__(self, *, initial: float, maximum: float, clock: Clock = time.monotonic) -> None:
        self._initial = initial
        self._maximum = maximum
        self._clock = clock
        self._failures: dict[Hashable, _Failures] = {}

    def retry_at(self, key: Hashable) -> float | None:
        """Return the time before which the key must not be retried, or None if it may be retried now."""
        failure = self._failures.get(key)
        return failure.until if failure is not None and failure.until > self._clock() else None

    def failed(self, key: Hashable, reason: str = "") -> tuple[float, bool]:
        """Record a failure; return when to retry, and whether the reason is new.

        A failure during the backoff belongs to an attempt that began before it, and does not extend it.
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

    def reset(self) -> None:
        """Let every key be retried now, since the cause of its failures may be gone."""
        for failure in self._failures.values():
            failure.until = self._clock()

    def succeeded(self, key: Hashable) -> bool:
        """Record a success; return whether the key had failed before."""
        return self._failures.pop(key, None) is not None


@dataclass(frozen=True, slots=True)
class Recheck:
    """When to check again, in seconds of the clock; None if no check is needed.

    Attributes:
        tag_at: when to check the tag again, because a job for it has to end first.
        source_at: when to check the whole repository again, because an action cannot run now.
        found: the tag's digest, empty if the tag does not exist; None if the registry was not asked.
    """

    tag_at: float | None = None
    source_at: float | None = None
    found: str | None = None


def reason_of(error: Exception) -> str:
    """Return an error's message for a log."""
    return error.message if isinstance(error, TagferryError) else f"{type(error).__name__}: {error}"


def log_error(error: Exception, event: str, **fields: object) -> None:
    """Log an error with its reason: one that users caused as information, an unexpected one with its traceback."""
    if isinstance(error, TagferryError):
        (log.info if is_by_caller(error) else log.warning)(event, reason=reason_of(error), **fields)
    elif isinstance(error, SQLAlchemyError):
        log.warning(event, reason=error_summary(error), **fields)
    else:
        log.error(event, reason=reason_of(error), exc_info=error, **fields)
