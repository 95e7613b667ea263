"""Receive large bodies of requests in large pieces, from the kernel right into the memory that the application gets.

uvicorn copies each byte of a body four times in the event loop, and passes it on in pieces of some 100 KiB, each of
which wakes the application and stops and continues the reading. A body whose length is known needs no parser.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

LARGE_BYTES = 1024 * 1024
"""The length of the smallest body that is received in this way."""
PIECE_BYTES = 512 * 1024
"""The size of a piece, unless the client is slow; at most two are in memory, and one more with the application."""

_PATIENCE_SECONDS = 0.005
"""The time for which a piece is waited for before the application gets a part of it."""


class _Flow(Protocol):
    """The part of uvicorn's flow control that is used."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class LargeBody(asyncio.BufferedProtocol):
    """The protocol of a connection while the rest of a body arrives.

    Args:
        connection: the protocol that is replaced; it gets all other events.
        flow: stops and continues the reading.
        size: the bytes to receive; no byte behind them is read.
        received: called with each number of bytes; returns whether the application gets them.
        arrived: called when `take` has got something, and at the end.
        ended: called once with the last byte, to restore the connection's protocol.
    """

    def __init__(
        self,
        connection: asyncio.Protocol,
        flow: _Flow,
        size: int,
        *,
        received: Callable[[int], bool],
        arrived: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._flow = flow
        self._left = size
        self._received = received
        self._arrived = arrived
        self._ended = ended
        self._full: bytearray | None = None
        self._buffer: bytearray | None = None
        self._filled = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False

    @property
    def has_piece(self) -> bool:
        """Return whether the application should take a piece."""
        return self._full is not None or (self._filled > 0 and (self._is_due or not self._left))

    @property
    def is_complete(self) -> bool:
        """Return whether all bytes were received and taken."""
        return not self._left and self._full is None and not self._filled

    def take(self) -> memoryview:
        """Return what has arrived, up to a piece, which may be empty; the reading continues."""
        if self._full is not None:
            piece = memoryview(self._full)
            self._full = None
            if self._buffer is not None and self._filled == len(self._buffer):
                self._full, self._buffer, self._filled = self._buffer, None, 0
        else:
            piece = memoryview(self._buffer or b"")[: self._filled]
            self._buffer, self._filled, self._is_due = None, 0, False
        if self._left:
            self._flow.resume_reading()
        return piece

    # The protocol

    def get_buffer(self, sizehint: int) -> memoryview:
        """Implement `BufferedProtocol`."""
        if self._buffer is None:
            self._buffer, self._filled = bytearray(min(PIECE_BYTES, self._left)), 0
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Implement `BufferedProtocol`."""
        self._left -= nbytes
        if not self._received(nbytes):
            # The buffer is used again; its size was the most that was left.
            self._buffer, self._filled = None, 0
        else:
            self._add(nbytes)
        if not self._left:
            self._ended()
            self._arrived()

    def _add(self, size: int) -> None:
        self._filled += size
        if self._buffer is not None and self._filled == len(self._buffer):
            if self._full is None:
                self._full, self._buffer, self._filled, self._is_due = self._buffer, None, 0, False
                self._arrived()
            elif self._left:
                self._flow.pause_reading()
        elif self._timer is None and not self._is_due:
            self._timer = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, self._end_patience)

    def _end_patience(self) -> None:
        self._timer = None
        if self._filled:
            self._is_due = True
            self._arrived()

    def eof_received(self) -> bool | None:
        """Implement `BufferedProtocol`."""
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Implement `BufferedProtocol`."""
        if self._timer is not None:
            self._timer.cancel()
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Implement `BufferedProtocol`."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Implement `BufferedProtocol`."""
        self._connection.resume_writing()
