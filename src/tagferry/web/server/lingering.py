"""The end of a connection, in which the client can still read the last response (RFC 9112, section 9.6)."""

import asyncio
from collections.abc import Callable

from tagferry import bounds


class LingeringClose:
    """Drops the input of a connection that is about to be closed.

    A socket that is closed with unread input is reset, and the client could lose the response. So the connection is
    closed for writing first, and its input is read and dropped for a while.

    Attributes:
        is_dropping: whether further input is dropped.
        has_begun: whether the last response was written.
    """

    __slots__ = ("_dropped_bytes", "has_begun", "is_dropping")

    def __init__(self) -> None:
        self.is_dropping = self.has_begun = False
        self._dropped_bytes = 0

    def drop(self, size: int) -> bool:
        """Count dropped input; False once it is too much."""
        self._dropped_bytes += size
        return self._dropped_bytes <= bounds.LINGER_BYTES

    def begin(self, transport: asyncio.Transport) -> None:
        """Close for writing, after the last response."""
        self.is_dropping = self.has_begun = True
        self._dropped_bytes = 0
        if transport.can_write_eof():
            transport.write_eof()


class ResponseTransport:
    """The transport that a request writes its response to. The protocol closes the connection."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close
