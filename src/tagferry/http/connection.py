"""One HTTP/1.1 connection that serves one exchange at a time and streams bodies both ways (RFC 9112).

Bodies are neither changed nor copied. Unread response bytes pause the sender; unsent request bytes pause the source.
docs/decisions/0005 explains why this is not left to a general client library.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import cast

from tagferry.http.faults import ConnectionFailed, ConnectionTimedOut, connection_failure
from tagferry.http.response import Response
from tagferry.http.splice import IS_AVAILABLE, BodyFlow, Splice
from tagferry.http.wakeup import Wakeup
from tagferry.streams import Flow

CONTINUE_SECONDS = 1.0
"""The longest wait for `100 Continue` before the body is sent anyway, as in curl."""
WRITE_AHEAD = 256 * 1024
"""Bytes of a request that may be buffered before its source is paused."""


class Stream:
    """A request body that is sent as it is produced; errors of its source propagate.

    Attributes:
        pieces: chunks, and flows that are spliced if both connections support it.
        size: total number of bytes.
        idle_timeout: seconds within which the server must accept some bytes.
        min_rate: minimum bytes per second that the server must accept, measured over `idle_timeout`.
        expects_continue: send `Expect: 100-continue`, so that the server can refuse or redirect the request before the
            body is sent (RFC 9110, section 10.1.1).
        got_continue: whether the server responded to `Expect`; None if it was not sent.
        has_begun: whether some of it has been consumed, so that it cannot be sent again.
    """

    def __init__(
        self, pieces: AsyncIterator[bytes | Flow], size: int, *, idle_timeout: float, min_rate: float = 0.0
    ) -> None:
        self.pieces = pieces
        self.size = size
        self.idle_timeout = idle_timeout
        self.min_rate = min_rate
        self.expects_continue = False
        self.got_continue: bool | None = None
        self.has_begun = False


class Connection(asyncio.Protocol):
    """A connection and its current exchange.

    Args:
        on_lost: called when the connection is closed.
        on_free: called when an exchange has ended and another may begin.
    """

    def __init__(self, *, on_lost: Callable[["Connection"], None], on_free: Callable[["Connection"], None]) -> None:
        self._on_lost = on_lost
        self._on_free = on_free
        self._transport: asyncio.Transport | None = None
        self._response: Response | None = None
        self._fault: ConnectionFailed | None = None
        self._sent = True
        self._is_write_paused = False
        self._wakeup = Wakeup(lambda: self.fail(ConnectionTimedOut("no data was transferred in time")))
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.exchanges = 0
        self.idle_since = 0.0

    @property
    def is_usable(self) -> bool:
        """Return whether a request may be sent."""
        return self._fault is None and self._transport is not None and not self._transport.is_closing()

    @property
    def plain_socket(self) -> int | None:
        """The socket's descriptor if it carries plain bytes; None with TLS."""
        if not IS_AVAILABLE or not self.is_usable or self._transport is None:
            return None
        if self._transport.get_extra_info("sslcontext") is not None:
            return None
        return int(self._transport.get_extra_info("socket").fileno())

    @property
    def peer(self) -> str | None:
        """The peer's IP address; None if it has none."""
        name = self._transport.get_extra_info("peername") if self._transport is not None else None
        return str(name[0]) if isinstance(name, tuple) else None

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's certificate in DER; None without TLS."""
        encryption = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        return None if encryption is None else encryption.getpeercert(binary_form=True)

    async def request(
        self,
        head: bytes,
        body: bytes | Stream,
        *,
        url: str,
        bodiless: bool,
        idle_timeout: float,
        min_rate: float = 0.0,
    ) -> Response:
        """Send a request and wait for the head of its response.

        If the response arrives before the body is sent, the rest of the body is not sent.

        Args:
            head: the request line and headers, including the empty line.
            body: the body; errors of a stream propagate.
            url: the URL of the response.
            bodiless: whether the response has no body, whatever its headers say (HEAD).
            idle_timeout: seconds to wait for the response's head, and then for each part of its body.
            min_rate: minimum bytes per second of the response's body, measured over `idle_timeout`.

        Raises:
            ConnectionFailed: the connection failed before the response arrived.
        """
        answer = self._response = Response(
            self, url=url, bodiless=bodiless, idle_timeout=idle_timeout, min_rate=min_rate
        )
        loop = asyncio.get_running_loop()
        started = loop.time()
        self._sent = False
        self.exchanges += 1
        try:
            if isinstance(body, Stream):
                self._write(head)
                if body.expects_continue:
                    body.got_continue = await self._await_continue(answer)
                if not answer.begun:
                    await self._send(body, answer)
            else:
                self._write(head + body)
                self._sent = True
            await self._until(lambda: answer.begun, idle_timeout)
            answer.latency = loop.time() - started
        except BaseException:
            self.abort()
            raise
        return answer

    async def wait(self, seconds: float | None) -> None:
        """Wait for the next event, at most for this many seconds; raise the connection's fault, if any."""
        if self._fault is not None:
            raise self._fault
        await self._wakeup.wait(seconds)

    async def _until(self, is_over: Callable[[], bool], seconds: float) -> None:
        """Wait for a condition; other events, such as an interim response, do not extend the deadline."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not is_over():
            await self.wait(max(0.0, deadline - loop.time()))

    def wake(self) -> None:
        """Wake the waiter."""
        self._wakeup.wake()

    def release(self, *, reusable: bool) -> None:
        """End the exchange, and reuse or close the connection."""
        self._response = None
        if reusable and self._sent and self.is_usable:
            self.resume_reading()
            self._on_free(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Close the connection at once and discard unsent data."""
        self._fault = self._fault or ConnectionFailed("the connection was closed")
        if self._transport is not None:
            self._transport.abort()
        self.wake()

    def fail(self, fault: ConnectionFailed) -> None:
        """Close the connection because of a fault."""
        self._fault = self._fault or fault
        self.abort()

    def pause_reading(self) -> None:
        """Pause reading, so that the peer stops sending once the buffers are full."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading; has no effect unless paused."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_AHEAD)

    def data_received(self, data: bytes) -> None:
        if self._response is None or self._response.ended:
            self.fail(ConnectionFailed("the connection received unsolicited data"))
        else:
            self._response.feed(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._response is not None:
            self._response.feed_end()
        self._fault = self._fault or (
            connection_failure(exc) if exc else ConnectionFailed("the connection was closed by the other side")
        )
        self._wakeup.end()
        if not self.closed.done():
            self.closed.set_result(None)
        self.wake()
        self._on_lost(self)

    def pause_writing(self) -> None:
        self._is_write_paused = True

    def resume_writing(self) -> None:
        self._is_write_paused = False
        self.wake()

    async def _await_continue(self, answer: Response) -> bool:
        """Wait briefly for `100 Continue` or the response; False if the server ignores `Expect`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CONTINUE_SECONDS):
                while not (answer.begun or answer.has_continue):
                    await self.wait(None)
        return answer.begun or answer.has_continue

    async def _send(self, body: Stream, answer: Response) -> None:
        body.has_begun = True
        async for piece in body.pieces:
            if answer.begun:
                return
            if isinstance(piece, bytes):
                self._write(piece)
                if self._is_write_paused:
                    await self._until(lambda: answer.begun or not self._is_write_paused, body.idle_timeout)
            elif isinstance(piece, BodyFlow) and not await self._splice(piece, body, answer):
                return
        self._sent = True

    async def _splice(self, flow: BodyFlow, body: Stream, answer: Response) -> bool:
        """Splice a flow after everything written before; if it cannot be spliced, leave it unread.

        Returns:
            False if the response arrived before the end of the flow.
        """
        if self._transport is None or self.plain_socket is None:
            return True
        self._transport.set_write_buffer_limits(high=0)
        await self._until(lambda: answer.begun or not self._is_write_paused, body.idle_timeout)
        self._transport.set_write_buffer_limits(high=WRITE_AHEAD)
        source, target = flow.socket(), self.plain_socket
        if source is None or target is None:
            return True
        with Splice(
            flow, source, target, idle_timeout=body.idle_timeout, min_rate=body.min_rate, on_end=self.wake
        ) as splice:
            while not (splice.has_ended or answer.begun):
                await self.wait(None)
        if splice.target_fault is not None and not answer.begun:
            fault = connection_failure(splice.target_fault)
            self.fail(fault)
            raise fault
        return flow.moved == flow.size or not answer.begun

    def _write(self, data: bytes) -> None:
        if self._fault is not None or self._transport is None:
            raise self._fault or ConnectionFailed("the connection is not open")
        self._transport.write(data)
