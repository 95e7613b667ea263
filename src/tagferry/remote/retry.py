"""When to try again: exponential backoff with full jitter, and the registry's own wishes."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import TypeVar

from tagferry.errors import Unavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often and after which pauses a request is repeated.

    Attributes:
        attempts: requests in all, the first one included.
        shortest: seconds; the first pause is a random part of it, and each further one doubles the range.
        longest: seconds; no pause of our own choosing is longer.
        patience: seconds; a registry that asks for a longer pause is not waited for: the error tells when.
        sleep: waits for seconds.
        chance: a number from 0 to 1.
    """

    attempts: int = 5
    shortest: float = 0.5
    longest: float = 20.0
    patience: float = 60.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random

    def delay(self, attempt: int, failure: Unavailable) -> float | None:
        """Seconds until the attempt after this one (counted from 1), or None where the failure is final."""
        asked = failure.retry_after or 0.0
        if attempt >= self.attempts or asked > self.patience:
            return None
        reach = min(self.longest, self.shortest * 2.0 ** (attempt - 1))
        # A little is added to what the registry asked for, lest all clients come back in the same instant.
        return asked + self.chance() * min(reach, asked or reach)


class Budget:
    """What one registry's retries may cost together, lest they keep down a registry that is on its knees.

    Args:
        most: retries that may follow one another at once.
        a_second: retries that come to it in each second.
        a_success: retries that come to it with each request that went well.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        most: float = 100.0,
        a_second: float = 10.0,
        a_success: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._a_second = a_second
        self._a_success = a_success
        self._clock = clock
        self._left = most
        self._counted_at = clock()

    def earn(self) -> None:
        """Note that a request went well."""
        self._left = min(self._most, self._left + self._a_success)

    def spend(self) -> bool:
        """Take one retry; False where none is left."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._counted_at) * self._a_second)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Retries:
    """A policy at work at one registry."""

    def __init__(self, policy: Retry, budget: Budget) -> None:
        self._policy = policy
        self._budget = budget

    async def pause(self, attempt: int, failure: Unavailable) -> None:
        """Wait before the next attempt; raises the failure where there shall be none."""
        delay = self._policy.delay(attempt, failure)
        if delay is None or not self._budget.spend():
            raise failure
        await self._policy.sleep(delay)

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Make attempts until one succeeds, or fails for good."""
        for number in count(1):
            try:
                result = await attempt()
            except Unavailable as failure:
                await self.pause(number, failure)
            else:
                self._budget.earn()
                return result
        raise AssertionError("pause() raises the last failure")


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a `Retry-After` header asks for, in either of its forms (RFC 9110, section 10.2.3)."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    # Loaded here: a date is rare, and these modules would cost every start some milliseconds.
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
