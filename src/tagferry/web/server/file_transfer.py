"""Send a part of a file to a client inside the kernel (sendfile(2)), without copying it into this process.

A sendfile call on a socket that does not block may still wait for the disk, so threads make the calls.
"""

import asyncio
import errno
import os
import select
from concurrent.futures import ThreadPoolExecutor

IS_AVAILABLE = hasattr(os, "sendfile") and hasattr(select, "poll")

_THREADS = 8
_BURST_BYTES = 16 * 1024 * 1024
"""Bytes after which a thread is free for other transfers."""
_PATIENCE_MILLISECONDS = 5
"""The time for which a thread waits for the client, if no transfer lacks a thread; so a fast client takes few switches
to threads."""
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
"""The errors of sendfile for a file whose file system lacks it, or in a sandbox that does. Source: sendfile(2)."""
_OF_CONNECTIONS = frozenset(
    {
        errno.EPIPE,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ENOTCONN,
        errno.ESHUTDOWN,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.EHOSTDOWN,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
    }
)
"""The errors that a TCP connection can have. A network file system can have the same; all others are the disk's."""
_COPIED_BYTES = 512 * 1024
"""The most bytes of such a file that are copied at once."""

_threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="http-sendfile")


class ConnectionLost(Exception):
    """The connection failed, not the disk."""


class FileTransfer:
    """The transfer of a part of a file to a connection, to which nothing else may be written meanwhile.

    Args:
        connection: the descriptor of the connection's socket, which does not block.
        file: the descriptor of the file.
        offset: the first byte.
        count: the number of bytes.

    Attributes:
        waits_for_client: whether the client has to read before more can be sent; otherwise the disk may be read.
    """

    _active = 0

    def __init__(self, connection: int, file: int, *, offset: int, count: int) -> None:
        self._connection = connection
        self._file = file
        self._offset = offset
        self._left = count
        self._is_stopped = False
        self._writable: asyncio.Future[None] | None = None
        self.waits_for_client = False

    async def run(self) -> None:
        """Send the bytes, until `stop` is called.

        Raises:
            EOFError: the file is shorter.
            OSError: the disk failed.
            ConnectionLost: the connection failed.
        """
        # The event loop's transport watches the socket, and only one can watch a descriptor.
        self._connection = os.dup(self._connection)
        FileTransfer._active += 1
        try:
            while self._left and not self._is_stopped:
                # The wait for a thread is not the client's either.
                self.waits_for_client = False
                burst = asyncio.get_running_loop().run_in_executor(_threads, self._send_some)
                try:
                    await asyncio.wait((burst,))
                except asyncio.CancelledError:
                    # The file is closed next, and its descriptor may be reused.
                    self._is_stopped = True
                    await asyncio.wait((burst,))
                    burst.exception()
                    raise
                if burst.result() and not self._is_stopped:
                    await self._until_writable()
        finally:
            FileTransfer._active -= 1
            os.close(self._connection)

    def stop(self) -> None:
        """End the transfer, since the connection is lost."""
        self._is_stopped = True
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def _send_some(self) -> bool:
        """Send until the client has to read on; return whether it has to. Blocks."""
        most = _BURST_BYTES
        while self._left and most > 0 and not self._is_stopped:
            self.waits_for_client = False
            try:
                sent = self._send(min(self._left, most))
            except BlockingIOError:
                self.waits_for_client = True
                if FileTransfer._active > _THREADS or not self._is_read_soon():
                    return True
                continue
            if not sent:
                raise EOFError
            self._offset += sent
            self._left -= sent
            most -= sent
        return False

    def _send(self, count: int) -> int:
        try:
            return os.sendfile(self._connection, self._file, self._offset, count)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno in _OF_CONNECTIONS and self._is_readable():
                raise ConnectionLost from error
            if error.errno not in _UNSUPPORTED:
                raise
        content = os.pread(self._file, min(count, _COPIED_BYTES), self._offset)
        try:
            return os.write(self._connection, content)
        except BlockingIOError:
            raise
        except OSError as error:
            raise ConnectionLost from error

    def _is_readable(self) -> bool:
        """Return whether the file can be read where the transfer has stopped."""
        try:
            os.pread(self._file, 1, self._offset)
        except OSError:
            return False
        return True

    def _is_read_soon(self) -> bool:
        poll = select.poll()
        poll.register(self._connection, select.POLLOUT)
        return bool(poll.poll(_PATIENCE_MILLISECONDS))

    async def _until_writable(self) -> None:
        loop = asyncio.get_running_loop()
        self._writable = loop.create_future()
        loop.add_writer(self._connection, self._on_writable)
        try:
            await self._writable
        finally:
            loop.remove_writer(self._connection)

    def _on_writable(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
