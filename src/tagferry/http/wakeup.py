"""Waiting for events with a timeout."""

import asyncio
from collections.abc import Callable


class Wakeup:
    """A wake-up event for one waiter at a time.

    Args:
        on_timeout: called when the waiter's timeout passes.
    """

    def __init__(self, on_timeout: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_silence = on_timeout
        self._wakeup: asyncio.Future[None] | None = None
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, seconds: float | None) -> None:
        """Wait for `wake`. After this many seconds, if given, call `on_timeout`, which may wake the waiter."""
        self._wakeup = self._loop.create_future()
        if seconds is not None:
            self._expect_within(seconds)
        try:
            await self._wakeup
        finally:
            self._wakeup = None
            self._deadline = None

    def wake(self) -> None:
        """Wake the waiter."""
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def end(self) -> None:
        """Cancel the timer."""
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
        # One timer serves many waits: it is rescheduled only when it fires.
        self._timer = None
        if self._deadline is None:
            return
        if self._deadline <= self._loop.time():
            self._on_silence()
        else:
            self._timer = self._loop.call_at(self._deadline, self._check_deadline)
