"""Measure whether a connection moves bytes, in either direction."""

import asyncio
import socket

from tagferry import bounds

# `tcpi_bytes_acked` of Linux's `struct tcp_info`.
_ACKNOWLEDGED = slice(120, 128)


class Progress:
    """Compares the bytes moved in windows of time with `TRANSFER_RATE`."""

    __slots__ = ("_mark", "_seconds", "_since")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._mark = 0

    def restart(self) -> None:
        """Begin a new window with the next measurement."""
        self._since = None

    def is_stalled(self, now: float, moved: int) -> bool:
        """Note how many bytes have moved in all; return whether a whole window had too few."""
        if self._since is None:
            self._since, self._mark = now, moved
        elif now - self._since >= self._seconds:
            if moved - self._mark < bounds.TRANSFER_RATE * self._seconds:
                return True
            self._since, self._mark = now, moved
        return False


def acknowledged_bytes(transport: asyncio.Transport) -> int | None:
    """Return how many bytes the client's system has taken in all; None where the system does not know."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is None or not hasattr(socket, "TCP_INFO"):
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.stop)
    except OSError:
        return None
    return int.from_bytes(info[_ACKNOWLEDGED], "little") if len(info) == _ACKNOWLEDGED.stop else None
