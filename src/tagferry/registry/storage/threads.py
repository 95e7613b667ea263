"""Run blocking disk operations in threads."""

import asyncio
import errno
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import repeat
from typing import Any, ParamSpec, Protocol, TypeVar

from tagferry.errors import StorageUnavailable
from tagferry.events import SparseEvents

_log = SparseEvents(__name__)

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Closable(Protocol):
    """An object that holds an open file."""

    def close(self) -> None:
        """Close the file."""
        ...


_Opened = TypeVar("_Opened", bound=Closable)

DISK_FULL = "the registry's disk is full; free space or enlarge it, then try again"
DISK_FAILED = "the registry's disk failed; its operator has to check it, and the log names the directory"
DISK_READ_ONLY = "the registry's disk is read-only; make it writable, then try again"


class DiskUnavailable(StorageUnavailable):
    """The registry's disk cannot be read or written at present."""


class DiskFull(DiskUnavailable):
    """The disk has no space for a write."""


class DiskReadOnly(DiskUnavailable):
    """The disk is read-only."""


class DiskFailed(DiskUnavailable):
    """The disk reported a fault, and may have lost data."""


_REFUSALS: dict[int, tuple[type[DiskUnavailable], str]] = {
    errno.ENOSPC: (DiskFull, DISK_FULL),
    errno.EDQUOT: (DiskFull, "the registry's disk quota is exhausted; free space or raise it, then try again"),
    errno.EFBIG: (DiskFull, "the file is larger than the registry's file system, or its process's limit, allows"),
    errno.EROFS: (DiskReadOnly, DISK_READ_ONLY),
    errno.EIO: (DiskFailed, "the registry's disk failed; check the disk and the system's log"),
    errno.EMFILE: (DiskUnavailable, "the registry has too many files open; try again later"),
    errno.ENFILE: (DiskUnavailable, "the registry's machine has too many files open; try again later"),
    errno.ENOMEM: (DiskUnavailable, "the registry has no memory left; try again later"),
    errno.EXDEV: (DiskFailed, "the registry's directory spans several file systems; put all of it on one"),
}


def error_class(error: OSError) -> type[DiskUnavailable]:
    """Return the class that a system error is mapped to."""
    return _REFUSALS[error.errno][0] if error.errno in _REFUSALS else DiskFailed


class DiskThreads:
    """Runs blocking work in threads.

    Args:
        threads: the number of threads.
        on_fault: called in the thread with each system error that work raises, except FileNotFoundError.
    """

    def __init__(self, threads: int = 16, *, on_fault: Callable[[OSError], None] | None = None) -> None:
        self._on_fault = on_fault
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="registry-disk")
        self._optional_slots = max(1, threads // 4)
        self._short: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []

    def submit(
        self, work: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> asyncio.Future[_Result]:
        """Start work; await the future with `settled`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Result] = loop.create_future()
        reported = partial(work, *args, **kwargs)

        # Fewer steps in the event loop than `run_in_executor`, which chains two futures.
        def run() -> None:
            loop.call_soon_threadsafe(end_future, future, *self._outcome(reported))

        self._executor.submit(run)
        return future

    def submit_optional(
        self, work: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> asyncio.Future[_Result] | None:
        """Start optional work; return None if a quarter of the threads have optional work already."""
        if not self._optional_slots:
            return None
        future = self.submit(work, *args, **kwargs)
        self._optional_slots -= 1
        future.add_done_callback(self._release_slot)
        return future

    async def run(
        self, work: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """Run work and return its result.

        Raises:
            DiskUnavailable: the disk is full, read-only or failing.
        """
        return await settled(self.submit(work, *args, **kwargs))

    async def run_short(
        self, work: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """Run short work as `run` does, in one thread with the short work that others ask for at the same time.

        A switch to a thread and back costs more than to look at a few files.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Result] = loop.create_future()
        self._short.append((partial(work, *args, **kwargs), future))
        if len(self._short) == 1:
            loop.call_soon(self._start_short)
        with translated():
            return await future

    async def run_to_end(
        self, work: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """Run work as `run` does, and await it with `ended`."""
        return await ended(self.submit(work, *args, **kwargs))

    async def open(
        self, work: Callable[_Parameters, _Opened], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Opened:
        """Run work that opens a file; if the caller is cancelled, the file is closed."""
        opening = self.submit(work, *args, **kwargs)
        try:
            return await settled(opening)
        except asyncio.CancelledError:
            # The thread still opens the file, and the caller no longer closes it.
            opening.add_done_callback(_close)
            raise

    def _start_short(self) -> None:
        gathered, self._short = self._short, []

        def run() -> list[tuple[Any, BaseException | None]]:
            return [self._outcome(work) for work, _ in gathered]

        def end(ran: asyncio.Future[list[tuple[Any, BaseException | None]]]) -> None:
            outcomes = repeat((None, ran.exception())) if ran.exception() is not None else ran.result()
            for (_, future), outcome in zip(gathered, outcomes, strict=False):
                end_future(future, *outcome)

        try:
            ran = asyncio.get_running_loop().run_in_executor(self._executor, run)
        except RuntimeError as error:
            # The threads have ended.
            for _, future in gathered:
                end_future(future, None, error)
            return
        ran.add_done_callback(end)

    def _outcome(self, work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
        try:
            return self._reporting(work), None
        except BaseException as error:
            return None, error

    def report(self, error: OSError) -> None:
        """Report a system error of work, unless a file does not exist."""
        if self._on_fault is not None and not isinstance(error, FileNotFoundError):
            self._on_fault(error)

    def _reporting(self, work: Callable[[], _Result]) -> _Result:
        """Run work, and report its system error."""
        try:
            return work()
        except OSError as error:
            self.report(error)
            raise

    def _release_slot(self, _: asyncio.Future[Any]) -> None:
        self._optional_slots += 1

    def close(self) -> None:
        """Wait for running work, and end the threads."""
        self._executor.shutdown(wait=True)


async def settled(future: asyncio.Future[_Result]) -> _Result:
    """Await a thread's result without cancelling the future: a thread cannot be cancelled, only abandoned.

    Raises:
        DiskUnavailable: the disk is full, read-only or failing.
    """
    try:
        with translated():
            return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(_retrieve_error)
        raise


@contextmanager
def translated() -> Iterator[None]:
    """Raise DiskUnavailable instead of a system error, except FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unavailable(error) from error


async def ended(future: asyncio.Future[_Result]) -> _Result:
    """Await a result as `settled` does; a cancelled caller waits for the thread, too, and keeps its locks meanwhile."""
    try:
        return await settled(future)
    except asyncio.CancelledError:
        while not future.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait((future,))
        raise


def _unavailable(error: OSError) -> DiskUnavailable:
    """Log a system error, and return what it means to callers."""
    failed = (DiskFailed, f"the registry's disk failed ({error.strerror}); its operator has to check it")
    kind, message = _REFUSALS.get(error.errno or 0, failed)
    _log.warning(message, error=error.strerror, path=error.filename)
    return kind(message)


@contextmanager
def ignoring_read_only() -> Iterator[None]:
    """Suppress the errors of writes to a read-only disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise


def end_future(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    """Give a future its result or error, unless it was cancelled."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _retrieve_error(future: asyncio.Future[Any]) -> None:
    """Retrieve the error of abandoned work: a cancelled caller may have removed the file that the thread works on."""
    if not future.cancelled():
        future.exception()


def _close(opening: asyncio.Future[_Opened]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
