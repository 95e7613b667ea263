"""Waiting for something to happen, and not for ever."""

import asyncio
from collections.abc import Callable


class Wakeup:
    """One who waits at a time.

    Args:
        on_timeout: called when nothing has happened for as long as somebody would wait.
    """

    def __init__(self, on_timeout: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_silence = on_timeout
        self._wakeup: asyncio.Future[None] | None = None
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, seconds: float | None) -> None:
        """Wait until `wake`; after this many seconds, if given, `on_timeout` is called, who wakes us if it wants to."""
        self._wakeup = self._loop.create_future()
        if seconds is not None:
            self._expect_within(seconds)
        try:
            await self._wakeup
        finally:
            self._wakeup = None
            self._deadline = None

    def wake(self) -> None:
        """Let who waits look again."""
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def end(self) -> None:
        """Give the timer back."""
        if self._timer is not None:
            self._timer.cancel()

    def _expect_within(self, seconds: float) -> None:
        self._deadline = self._loop.time() + seconds
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._check_deadline)

    def _check_deadline(self) -> None:
        # One timer serves many waits: it is set again only when it runs out.
        self._timer = None
        if self._deadline is None:
            return
        if self._deadline <= self._loop.time():
            self._on_silence()
        else:
            self._timer = self._loop.call_at(self._deadline, self._check_deadline)
