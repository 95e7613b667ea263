"""Bodies of responses that the kernel takes from files, by ASGI's extension `http.response.zerocopysend`."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from tagferry.registry.api.asgi import SEND_FILE
from tagferry.web.server.file_transfer import IS_AVAILABLE, ConnectionLost, FileTransfer

EXTENSIONS: dict[str, dict[object, object]] = {SEND_FILE: {}}
"""The extensions in the scope of a request whose response may have such a body."""

_POLL_SECONDS = 0.1


class _Cycle(Protocol):
    """The parts of uvicorn's cycle of a request and its response that are used."""

    disconnected: bool
    expected_content_length: int


class FileResponses:
    """The responses of one connection without TLS.

    Args:
        transport: the connection.
        drained: waits until fewer bytes than the transport's limit are left to write.
    """

    def __init__(self, transport: asyncio.Transport, drained: Callable[[], Awaitable[None]]) -> None:
        self._transport = transport
        self._drained = drained
        self._transfer: FileTransfer | None = None

    @classmethod
    def on(cls, transport: asyncio.Transport, drained: Callable[[], Awaitable[None]]) -> "FileResponses | None":
        """Return the responses of a connection, or None if it has TLS or the system lacks sendfile."""
        is_plain = transport.get_extra_info("sslcontext") is None
        return cls(transport, drained) if IS_AVAILABLE and is_plain else None

    @property
    def wait_for_client(self) -> bool:
        """Return whether a file is being sent, and the client has to read before more can be."""
        return self._transfer is not None and self._transfer.waits_for_client

    def stop(self) -> None:
        """End the transfer, since the connection is lost."""
        if self._transfer is not None:
            self._transfer.stop()

    async def send(self, cycle: _Cycle, *, file: int, offset: int, count: int) -> None:
        """Send a part of a file, given by its descriptor; raises OSError and EOFError of the disk."""
        await self._flush()
        if cycle.disconnected or self._transport.is_closing():
            return
        if count > cycle.expected_content_length:
            raise RuntimeError("the part of the file is longer than Content-Length")
        connection: Any = self._transport.get_extra_info("socket")
        self._transfer = FileTransfer(connection.fileno(), file, offset=offset, count=count)
        try:
            await self._transfer.run()
        except ConnectionLost:
            # The rest of the response is dropped.
            self._transport.abort()
            cycle.disconnected = True
        else:
            cycle.expected_content_length -= count
        finally:
            self._transfer = None

    async def _flush(self) -> None:
        """Wait until everything that was written before is in the kernel."""
        # uvloop writes at the end of the event loop's turn.
        await asyncio.sleep(0)
        if self._transport.get_write_buffer_size():
            # The client has not read the responses to earlier requests yet.
            self._transport.set_write_buffer_limits(0)
            await self._drained()
            while self._transport.get_write_buffer_size() and not self._transport.is_closing():  # noqa: ASYNC110
                await asyncio.sleep(_POLL_SECONDS)
            self._transport.set_write_buffer_limits()
