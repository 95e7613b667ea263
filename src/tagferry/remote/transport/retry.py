"""Retries: exponential backoff with full jitter, and the pauses that a registry asks for.

A caller's operation may take several requests, some nested in others. Their failures are counted together, so that an
unavailable registry gets as many requests for an upload as for a single request.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, TypeVar

from tagferry import bounds
from tagferry.errors import Unavailable

T = TypeVar("T")

OnRetry = Callable[[Unavailable], None]


def _random() -> float:
    # Imported here: most copies end without a retry.
    from random import random

    return random()  # noqa: S311 - a pause need not be secret


class Retry(NamedTuple):
    """A retry policy.

    Attributes:
        attempts: maximum number of attempts, including the first. Refusals with a time to wait are not counted.
        base_delay: seconds; the first pause is a random part of it, and each further one doubles the range.
        max_delay: seconds; the longest pause that the registry has not asked for.
        max_wait: seconds that one operation waits in all because the registry asked for it. Beyond them it fails, and
            the error says when to retry.
        sleep: waits for seconds.
        jitter: returns a number from 0 to 1.
    """

    attempts: int = 5
    base_delay: float = 0.5
    max_delay: float = 20.0
    max_wait: float = 120.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = _random

    def delay(self, failures: int) -> float | None:
        """Return the seconds to wait after this many failures, or None if no attempt is left."""
        if failures >= self.attempts:
            return None
        return self.jitter() * min(self.max_delay, self.base_delay * 2.0 ** (failures - 1))


class RetryBudget:
    """The budget of all retries at one registry, so that retries do not overload a struggling registry.

    Args:
        capacity: maximum number of consecutive retries.
        per_second: retries that are added each second.
        per_success: retries that are added by each successful request.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        capacity: float = 100.0,
        per_second: float = 10.0,
        per_success: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity = capacity
        self._per_second = per_second
        self._per_success = per_success
        self._clock = clock
        self._tokens = capacity
        self._counted_at = clock()

    def earn(self) -> None:
        """Record a successful request."""
        self._tokens = min(self._capacity, self._tokens + self._per_success)

    def spend(self) -> bool:
        """Take one retry; False if none is left."""
        now = self._clock()
        self._tokens = min(self._capacity, self._tokens + (now - self._counted_at) * self._per_second)
        self._counted_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Attempts:
    """The attempts of one operation at one registry, over all of its requests.

    Args:
        policy: the retry policy.
        budget: the budget of all retries at the registry.
        on_retry: called with each failure after which there is another attempt.
    """

    def __init__(self, policy: Retry, budget: RetryBudget, on_retry: OnRetry) -> None:
        self._policy = policy
        self._budget = budget
        self._on_retry = on_retry
        self._failures = 0
        self._waited = 0.0
        self._gained = 0

    @property
    def left(self) -> int:
        """The number of attempts left, including the current one."""
        return self._policy.attempts - self._failures

    def record_progress(self, size: int) -> None:
        """Record progress in bytes; after enough of it, earlier failures no longer count."""
        self._gained += size
        if self._gained >= bounds.PROGRESS_BYTES:
            self._failures = self._gained = 0

    async def pause(self, failure: Unavailable) -> None:
        """Wait before the next attempt.

        Raises:
            Unavailable: the failure, if no attempt is left. It is marked as final, so that enclosing operations, also
                at other registries, are not retried because of it.
        """
        delay = None if failure.is_final else self._delay(failure)
        if delay is None:
            failure.is_final = True
            raise failure
        self._on_retry(failure)
        await self._policy.sleep(delay)

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Make attempts until one succeeds or fails finally."""
        while True:
            try:
                result = await attempt()
            except Unavailable as failure:
                await self.pause(failure)
            else:
                self._budget.earn()
                return result

    def _delay(self, failure: Unavailable) -> float | None:
        if pause := failure.retry_after:
            self._waited += pause
            if self._waited > self._policy.max_wait:
                return None
            # Jitter is added, so that clients do not all return at the same instant.
            return pause + self._policy.jitter() * min(self._policy.base_delay, pause)
        self._failures += 1
        delay = self._policy.delay(self._failures)
        return None if delay is None or not self._budget.spend() else delay


class Retries:
    """A retry policy applied to one registry; the arguments are those of `Attempts`."""

    def __init__(self, policy: Retry, budget: RetryBudget, *, on_retry: OnRetry = lambda failure: None) -> None:
        self._policy = policy
        self._budget = budget
        self._on_retry = on_retry

    def attempts(self) -> Attempts:
        """Return the attempts of a new operation."""
        return Attempts(self._policy, self._budget, self._on_retry)

    @contextmanager
    def operation(self) -> Iterator[Attempts]:
        """Count the failures at this registry within this block as attempts of one operation.

        A nested block of the same registry is a part of the enclosing operation.
        """
        outer = _operation.get()
        if outer is not None and outer[0] is self:
            yield outer[1]
            return
        attempts = self.attempts()
        token = _operation.set((self, attempts))
        try:
            yield attempts
        finally:
            _operation.reset(token)

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Make attempts until one succeeds or fails finally, as a part of the enclosing operation if there is one."""
        with self.operation() as attempts:
            return await attempts.run(attempt)


_operation: ContextVar[tuple[Retries, Attempts] | None] = ContextVar("operation", default=None)
"""The current task's operation and its registry."""
