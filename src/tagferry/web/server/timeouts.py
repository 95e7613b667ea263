"""The deadlines of a connection, and the minimum rates at which its client sends and reads content."""

import asyncio
import math
import socket

from tagferry import bounds
from tagferry.settings import LimitSettings
from tagferry.web.server.file_responses import FileResponses

# `tcpi_bytes_acked` of Linux's `struct tcp_info`.
_ACKNOWLEDGED = slice(120, 128)


class Timeouts:
    """The timeouts of one connection. Times are seconds of the event loop's clock.

    Args:
        limits: the limits.
    """

    __slots__ = ("_body", "_deadline", "_limits", "_response")

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self._deadline = math.inf
        self._body = _Progress(limits.stall_timeout_seconds)
        self._response = _Progress(limits.stall_timeout_seconds)

    def await_head(self, now: float) -> None:
        """Set the deadline of a head; the body behind it is measured from its first byte."""
        self._body.restart()
        self._deadline = now + self._limits.header_timeout_seconds

    def await_request(self, now: float) -> None:
        """Set the deadline of the next request's first byte."""
        self._deadline = now + self._limits.keep_alive_timeout_seconds

    def await_end(self, now: float) -> None:
        """Set the deadline by which the client must stop sending after a response."""
        self._deadline = now + bounds.LINGER_SECONDS

    def clear_deadline(self) -> None:
        """Expect nothing but content, which has a minimum rate."""
        self._deadline = math.inf

    def has_expired(self, now: float) -> bool:
        """Return whether the deadline has passed."""
        return now > self._deadline

    def restart_body(self) -> None:
        """Measure the body from now on, since it was not read until now."""
        self._body.restart()

    def is_body_stalled(self, now: float, received: int) -> bool:
        """Return whether the client sends a body too slowly; `received` is the number of bytes so far."""
        return self._body.is_stalled(now, received)

    def is_response_stalled(self, now: float, transport: asyncio.Transport, files: FileResponses | None) -> bool:
        """Return whether the client reads the response too slowly."""
        is_waiting = transport.get_write_buffer_size() or (files is not None and files.wait_for_client)
        moved = _acknowledged_bytes(transport) if is_waiting else None
        if moved is None:
            self._response.restart()
            return False
        return self._response.is_stalled(now, moved)


class _Progress:
    """Compares the bytes transferred in each time window with `TRANSFER_RATE`."""

    __slots__ = ("_mark", "_seconds", "_since")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._mark = 0

    def restart(self) -> None:
        """Start a new window at the next measurement."""
        self._since = None

    def is_stalled(self, now: float, moved: int) -> bool:
        """Record the total number of bytes transferred. Return whether a whole window had too few."""
        if self._since is None:
            self._since, self._mark = now, moved
        elif now - self._since >= self._seconds:
            if moved - self._mark < bounds.TRANSFER_RATE * self._seconds:
                return True
            self._since, self._mark = now, moved
        return False


def _acknowledged_bytes(transport: asyncio.Transport) -> int | None:
    """Return the number of bytes that the client's system has acknowledged, or None if unknown."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is None or not hasattr(socket, "TCP_INFO"):
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.stop)
    except OSError:
        return None
    return int.from_bytes(info[_ACKNOWLEDGED], "little") if len(info) == _ACKNOWLEDGED.stop else None
