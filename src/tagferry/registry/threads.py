"""The threads in which the disk is waited for."""

import asyncio
import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, Protocol, TypeVar

from tagferry.errors import Unavailable

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Closable(Protocol):
    """A file, or what holds one."""

    def close(self) -> None:
        """Give the file back."""
        ...


_Opened = TypeVar("_Opened", bound=Closable)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class DiskFull(Unavailable):
    """There is no room for what was to be written."""


class DiskThreads:
    """Runs blocking work beside the event loop."""

    def __init__(self, threads: int = 16) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="registry-disk")
        self._spare = max(1, threads // 4)

    def submit(
        self, work: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> asyncio.Future[_Result]:
        """Start work; give the future to `settled`."""
        return asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(*args, **kwargs))

    def submit_spare(
        self, work: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> asyncio.Future[_Result] | None:
        """Start work that can as well be left out, unless a quarter of the threads have such work already."""
        if not self._spare:
            return None
        future = self.submit(work, *args, **kwargs)
        self._spare -= 1
        future.add_done_callback(self._give_back)
        return future

    async def run(
        self, work: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """Run work to its end.

        Raises:
            DiskFull: there is no room.
        """
        return await settled(self.submit(work, *args, **kwargs))

    async def open(
        self, work: Callable[_Parameters, _Opened], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Opened:
        """Run work that opens a file; who is cancelled meanwhile need not care for it."""
        opening = self.submit(work, *args, **kwargs)
        try:
            return await settled(opening)
        except asyncio.CancelledError:
            # The thread opens it all the same, and then nobody else would close it.
            opening.add_done_callback(_close)
            raise

    def _give_back(self, _: asyncio.Future[Any]) -> None:
        self._spare += 1

    def close(self) -> None:
        """Wait for what runs and end the threads."""
        self._executor.shutdown(wait=True)


async def settled(future: asyncio.Future[_Result]) -> _Result:
    """Wait for a thread's result without cancelling the future: a thread cannot be cancelled, only abandoned.

    Raises:
        DiskFull: there is no room.
    """
    await asyncio.wait((future,))
    try:
        return future.result()
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull("the registry's disk is full; free space or enlarge it, then try again") from error
        raise


def _close(opening: asyncio.Future[_Opened]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
