"""Clocks for tests."""

from datetime import UTC, datetime, timedelta


class Clock:
    """Stands still until a test moves it; sleeping moves it too.

    Attributes:
        now: seconds.
        slept: the pauses that were asked for.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Calendar:
    """Tells the real time until a test moves it on."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead
