"""Measure whether a connection moves bytes, in either direction."""

import asyncio
import socket

from tagferry import bounds

# `tcpi_bytes_acked` of Linux's `struct tcp_info`.
_ACKNOWLEDGED = slice(120, 128)


class Progress:
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


def acknowledged_bytes(transport: asyncio.Transport) -> int | None:
    """Return the number of bytes that the client's system has acknowledged, or None if unknown."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is None or not hasattr(socket, "TCP_INFO"):
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.stop)
    except OSError:
        return None
    return int.from_bytes(info[_ACKNOWLEDGED], "little") if len(info) == _ACKNOWLEDGED.stop else None
