"""Whether bytes of a connection move: those that a client sends, and those that it takes."""

import asyncio
import socket

from tagferry import bounds

# `tcpi_bytes_acked` of Linux's `struct tcp_info`.
_ACKNOWLEDGED = slice(120, 128)


class Progress:
    """Whether bytes move at the least rate, measured over windows of time."""

    __slots__ = ("_mark", "_seconds", "_since")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._mark = 0

    def restart(self) -> None:
        """Begin a new window with the next look."""
        self._since = None

    def is_stalled(self, now: float, moved: int) -> bool:
        """Look at the bytes that have moved by now in all; whether a whole window had too few."""
        if self._since is None:
            self._since, self._mark = now, moved
        elif now - self._since >= self._seconds:
            if moved - self._mark < bounds.TRANSFER_RATE * self._seconds:
                return True
            self._since, self._mark = now, moved
        return False


def taken(transport: asyncio.Transport) -> int | None:
    """Return how many bytes the client's system has taken in all; None where the system does not know."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is None or not hasattr(socket, "TCP_INFO"):
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.stop)
    except OSError:
        return None
    return int.from_bytes(info[_ACKNOWLEDGED], "little") if len(info) == _ACKNOWLEDGED.stop else None
