"""Moves bytes between sockets inside the kernel (splice(2), Linux).

The kernel passes references to its buffers through a pipe, so this process neither copies nor sees the bytes, and
cannot hash them. `upload` decides when the target may verify them instead (docs/decisions/0011).
"""

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

from tagferry.http.faults import FlowTooSlow
from tagferry.http.minimum_rate import MinimumRate

if sys.platform == "linux":
    import fcntl

IS_AVAILABLE = sys.platform == "linux"

PIPE = 1024 * 1024
"""Maximum number of bytes between the sockets."""
_ROUNDS = 4
"""Full pipes that are moved before other tasks run."""
_CHECK_SECONDS = 1.0
"""Seconds between checks for progress."""
_FLAGS = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE if IS_AVAILABLE else 0


class BodyFlow:
    """The rest of a response body in its connection's socket; see `oci.images.Flow`.

    Args:
        socket: returns the socket's descriptor, or None if its bytes cannot be spliced.
        size: number of bytes.
        idle_timeout: seconds without a byte after which the flow fails.
        min_rate: minimum bytes per second, measured over `idle_timeout`.

    Attributes:
        moved: bytes that have reached the target.
        fault: why the remaining bytes cannot be moved.
    """

    def __init__(
        self, socket: Callable[[], int | None], size: int, *, idle_timeout: float, min_rate: float = 0.0
    ) -> None:
        self.socket = socket
        self.size = size
        self.idle_timeout = idle_timeout
        self.min_rate = min_rate
        self.moved = 0
        self.fault: Exception | None = None
        self._counts: list[Callable[[int], None]] = []

    def watch(self, count: Callable[[int], None]) -> None:
        self._counts.append(count)

    def move(self, size: int) -> None:
        """Count bytes that have reached the target."""
        self.moved += size
        for count in self._counts:
            count(size)


class Splice:
    """Splices a flow into a socket while this context is entered.

    The caller owns both sockets and may close them, but must not read from the source or write to the target meanwhile.
    A flow that is left before its end is lost and has a fault.

    Args:
        flow: the bytes to move.
        source: the descriptor of the flow's socket; non-blocking.
        target: the descriptor of the target's socket; non-blocking.
        idle_timeout: seconds within which the target must accept some bytes.
        min_rate: minimum bytes per second that the target must accept, measured over `idle_timeout`.
        on_end: called when the splice has ended.

    Attributes:
        has_ended: whether all bytes have been moved, or no more can be.
        target_fault: why the target accepts no more bytes, if so.
    """

    def __init__(
        self,
        flow: BodyFlow,
        source: int,
        target: int,
        *,
        idle_timeout: float,
        min_rate: float = 0.0,
        on_end: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._flow = flow
        self._descriptors = (source, target)
        self._idle_timeout = idle_timeout
        self._on_end = on_end
        self._source_rate = MinimumRate(flow.min_rate, flow.idle_timeout)
        self._target_rate = MinimumRate(min_rate, idle_timeout)
        self._left = flow.size
        self._in_pipe = 0
        self._files = ExitStack()
        self._watched: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.has_ended = False
        self.target_fault: Exception | None = None

    def __enter__(self) -> Self:
        try:
            self._open()
        except OSError as error:
            self._end(source_fault=error)
        else:
            self._moved_at = self._checked_at = self._loop.time()
            self._timer = self._loop.call_later(0, self._check)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._files.close()
        if self._flow.moved < self._flow.size and self._flow.fault is None:
            self._flow.fault = ConnectionError("the flow was abandoned")

    def _open(self) -> None:
        # A descriptor can be watched only once, and the transports watch the originals.
        self._source, self._target = (
            self._files.enter_context(socket.socket(fileno=os.dup(number))) for number in self._descriptors
        )
        self._outlet, self._inlet = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for descriptor in (self._outlet, self._inlet):
            self._files.callback(os.close, descriptor)
        with suppress(OSError):  # The number of large pipes per user is limited; a small pipe works, too.
            fcntl.fcntl(self._inlet, fcntl.F_SETPIPE_SZ, PIPE)

    def _pump(self) -> None:
        for _ in range(_ROUNDS):
            if not (self._in_pipe or self._fill()) or not self._drain():
                return
        self._wait_for(self._source)

    def _fill(self) -> bool:
        """Read from the source into the pipe; False if nothing is available now."""
        try:
            self._in_pipe = os.splice(self._source.fileno(), self._inlet, min(self._left, PIPE), flags=_FLAGS)
        except BlockingIOError:
            return self._wait_for(self._source)
        except OSError as error:
            return self._end(source_fault=error)
        if not self._in_pipe:
            return self._end(source_fault=EOFError("the connection was closed by the other side"))
        self._left -= self._in_pipe
        self._source_rate.record(self._in_pipe)
        self._moved_at = self._loop.time()
        return True

    def _drain(self) -> bool:
        """Write the pipe to the target; False if the target does not accept all of it now, or after the last bytes."""
        while self._in_pipe:
            try:
                taken = os.splice(self._outlet, self._target.fileno(), self._in_pipe, flags=_FLAGS)
            except BlockingIOError:
                return self._wait_for(self._target)
            except OSError as error:
                return self._end(target_fault=error)
            self._in_pipe -= taken
            self._target_rate.record(taken)
            self._moved_at = self._loop.time()
            self._flow.move(taken)
        return self._left > 0 or self._end()

    def _check(self) -> None:
        limit = self._idle_timeout if self._in_pipe else self._flow.idle_timeout
        now = self._loop.time()
        rate = self._target_rate if self._in_pipe else self._source_rate
        is_too_slow = rate.record_wait(now - self._checked_at)
        self._checked_at = now
        if is_too_slow:
            fault = FlowTooSlow()
            self._end(target_fault=fault) if self._in_pipe else self._end(source_fault=fault)
        elif now - self._moved_at < limit:
            self._timer = self._loop.call_later(min(_CHECK_SECONDS, limit), self._check)
            self._pump()
        elif self._in_pipe:
            self._end(target_fault=TimeoutError("no data was transferred in time"))
        else:
            self._end(source_fault=TimeoutError("no data was transferred in time"))

    def _wait_for(self, side: socket.socket | None) -> bool:
        if side is self._watched:
            return False
        if self._watched is not None:
            stop = self._loop.remove_reader if self._watched is self._source else self._loop.remove_writer
            stop(self._watched)
        self._watched = side
        if side is not None:
            watch = self._loop.add_reader if side is self._source else self._loop.add_writer
            watch(side, self._pump)
        return False

    def _end(self, *, source_fault: Exception | None = None, target_fault: Exception | None = None) -> bool:
        self._flow.fault = source_fault
        self.target_fault = target_fault
        self._stop()
        self._on_end()
        return False

    def _stop(self) -> None:
        self.has_ended = True
        self._wait_for(None)
        if self._timer is not None:
            self._timer.cancel()
