"""Waiting for something to happen, and not for ever."""

import asyncio
from collections.abc import Callable


class Waiting:
    """One who waits at a time.

    Args:
        on_silence: called when nothing has happened for as long as somebody would wait.
    """

    def __init__(self, on_silence: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_silence = on_silence
        self._wakeup: asyncio.Future[None] | None = None
        self._deadline: float | None = None
        self._watch: asyncio.TimerHandle | None = None

    async def wait(self, seconds: float | None) -> None:
        """Wait until `wake`; after this many seconds, if given, `on_silence` is called, who wakes us if it wants to."""
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
        if self._watch is not None:
            self._watch.cancel()

    def _expect_within(self, seconds: float) -> None:
        self._deadline = self._loop.time() + seconds
        if self._watch is not None and self._watch.when() > self._deadline:
            self._watch.cancel()
            self._watch = None
        if self._watch is None:
            self._watch = self._loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        # One timer serves many waits: it is set again only when it runs out.
        self._watch = None
        if self._deadline is None:
            return
        if self._deadline <= self._loop.time():
            self._on_silence()
        else:
            self._watch = self._loop.call_at(self._deadline, self._look)
