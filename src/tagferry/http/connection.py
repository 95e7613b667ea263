"""One HTTP/1.1 connection: requests follow one another on it, bodies stream both ways (RFC 9112).

Bytes of a body go through untouched and uncopied; what is not read stops the sender, what is not taken stops the
source. Why this is not left to a general client library: docs/decisions/0005.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from tagferry.http.faults import ConnectionFailed, ConnectionTimedOut, connection_failure
from tagferry.http.response import Response
from tagferry.http.splice import IS_AVAILABLE, BodyFlow, Splice
from tagferry.http.wakeup import Wakeup
from tagferry.streams import Flow

CONTINUE_SECONDS = 1.0
"""The longest wait for an invitation before a body that asks first is sent, as curl does it."""
WRITE_AHEAD = 256 * 1024
"""Bytes of a request that wait to be sent, beyond which its source is stopped."""


@dataclass(slots=True)
class Stream:
    """A request body that is sent as it comes; errors of its source pass through.

    Attributes:
        pieces: chunks, and flows that are spliced where both connections bear it.
        size: bytes in all.
        idle_timeout: seconds in which the other side must take some of it.
        min_rate: bytes a second that it must take at least, measured over `idle_timeout`.
        expects_continue: whether to let the other side refuse it, or lead it elsewhere, before any of it is sent
            (RFC 9110, section 10.1.1).
        got_continue: whether the other side said something when it was asked first; None while it was not asked.
        has_begun: whether some of it has been taken, so that it cannot be sent again.
    """

    pieces: AsyncIterator[bytes | Flow]
    size: int
    idle_timeout: float
    min_rate: float = 0.0
    expects_continue: bool = False
    got_continue: bool | None = None
    has_begun: bool = False


class Connection(asyncio.Protocol):
    """A connection and the exchange that is on it.

    Args:
        on_lost: called when the connection is gone.
        on_free: called when an exchange is over and another may begin.
    """

    def __init__(self, *, on_lost: Callable[["Connection"], None], on_free: Callable[["Connection"], None]) -> None:
        self._on_lost = on_lost
        self._on_free = on_free
        self._transport: asyncio.Transport | None = None
        self._response: Response | None = None
        self._fault: ConnectionFailed | None = None
        self._sent = True
        self._is_write_paused = False
        self._wakeup = Wakeup(lambda: self.fail(ConnectionTimedOut("nothing moved in time")))
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.exchanges = 0
        self.idle_since = 0.0

    @property
    def is_usable(self) -> bool:
        """Whether a request may be sent."""
        return self._fault is None and self._transport is not None and not self._transport.is_closing()

    @property
    def plain_socket(self) -> int | None:
        """The descriptor of the socket, where its bytes are those that are sent; None where TLS changes them."""
        if not IS_AVAILABLE or not self.is_usable or self._transport is None:
            return None
        if self._transport.get_extra_info("sslcontext") is not None:
            return None
        return int(self._transport.get_extra_info("socket").fileno())

    @property
    def peer(self) -> str | None:
        """The IP address of the other side; None where it has none."""
        name = self._transport.get_extra_info("peername") if self._transport is not None else None
        return str(name[0]) if isinstance(name, tuple) else None

    @property
    def peer_certificate(self) -> bytes | None:
        """The certificate that the other side showed, in DER; None without TLS."""
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
        """Send a request and wait until its answer's head is there.

        Where the answer comes before the body has been sent, the rest of the body is not sent.

        Args:
            head: the request's line and headers, the empty line included.
            body: what follows it; a stream's errors pass through.
            url: where the answer comes from.
            bodiless: whether the answer has no body whatever its headers say (HEAD).
            idle_timeout: seconds to wait for the answer's head, and later for each part of its body.
            min_rate: bytes a second that its body must bring at least, measured over `idle_timeout`.

        Raises:
            ConnectionFailed: the connection failed before an answer was there.
        """
        answer = self._response = Response(
            self, url=url, bodiless=bodiless, idle_timeout=idle_timeout, min_rate=min_rate
        )
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
        except BaseException:
            self.abort()
            raise
        return answer

    async def wait(self, seconds: float | None) -> None:
        """Wait until something happens, for so long at most if there is a limit; raises what went wrong."""
        if self._fault is not None:
            raise self._fault
        await self._wakeup.wait(seconds)

    async def _until(self, is_over: Callable[[], bool], seconds: float) -> None:
        """Wait until something is over; what else happens meanwhile, such as an interim answer, gives no more time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not is_over():
            await self.wait(max(0.0, deadline - loop.time()))

    def wake(self) -> None:
        """Let who waits look again."""
        self._wakeup.wake()

    def release(self, *, reusable: bool) -> None:
        """End the exchange; the connection serves another one, or is closed."""
        self._response = None
        if reusable and self._sent and self.is_usable:
            self.resume_reading()
            self._on_free(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once, whatever is on its way."""
        self._fault = self._fault or ConnectionFailed("the connection was closed")
        if self._transport is not None:
            self._transport.abort()
        self.wake()

    def fail(self, fault: ConnectionFailed) -> None:
        """Close because of this."""
        self._fault = self._fault or fault
        self.abort()

    def pause_reading(self) -> None:
        """Stop the other side from sending more than fits between here and there."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Let it go on; harmless where it was not stopped."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_AHEAD)

    def data_received(self, data: bytes) -> None:
        if self._response is None or self._response.ended:
            self.fail(ConnectionFailed("the connection brought an answer to no question"))
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
        """Wait for `100 Continue` or the answer, for a moment; False where the server does not know it is asked."""
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
        """Let the kernel bring a flow after all that was written before; where it cannot, the flow is left.

        Returns:
            False where the answer came in the middle.
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
            raise self._fault or ConnectionFailed("the connection is not made yet")
        self._transport.write(data)
