"""One HTTP/1.1 connection: requests follow one another on it, bodies stream both ways (RFC 9112).

Bytes of a body go through untouched and uncopied; what is not read stops the sender, what is not taken stops the
source. Why this is not left to a general client library: docs/decisions/0005.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import cast

import httptools

from tagferry.oci.images import Flow
from tagferry.remote.headers import Headers
from tagferry.remote.splice import IS_AVAILABLE, BodyFlow, Splice
from tagferry.remote.waiting import Waiting

HEAD_LIMIT = 64 * 1024
"""Bytes that an answer may have before its body begins."""
READ_AHEAD = 256 * 1024
"""Bytes of an answer that wait to be read, beyond which its sender is stopped."""
WRITE_AHEAD = 256 * 1024
"""Bytes of a request that wait to be sent, beyond which its source is stopped."""


class Broken(Exception):
    """The connection failed, or could not be made; the text says how."""


class Silent(Broken):
    """The other side moved no byte for too long."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A request body that is sent as it comes; errors of its source pass through.

    Attributes:
        pieces: chunks, and flows that are spliced where both connections bear it.
        size: bytes in all.
        idle: seconds in which the other side must take some of it.
    """

    pieces: AsyncIterator[bytes | Flow]
    size: int
    idle: float


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
        self._answer: Response | None = None
        self._fault: Broken | None = None
        self._sent = True
        self._is_blocked = False
        self._waiting = Waiting(lambda: self.fail(Silent("nothing moved in time")))
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

    async def request(
        self, head: bytes, body: bytes | Stream, *, url: str, bodiless: bool, silence: float
    ) -> "Response":
        """Send a request and wait until its answer's head is there.

        Where the answer comes before the body has been sent, the rest of the body is not sent.

        Args:
            head: the request's line and headers, the empty line included.
            body: what follows it; a stream's errors pass through.
            url: where the answer comes from.
            bodiless: whether the answer has no body whatever its headers say (HEAD).
            silence: seconds to wait for the answer's head, and later for each part of its body.

        Raises:
            Broken: the connection failed before an answer was there.
        """
        answer = self._answer = Response(self, url=url, bodiless=bodiless, silence=silence)
        self._sent = False
        self.exchanges += 1
        try:
            if isinstance(body, Stream):
                self._write(head)
                await self._send(body, answer)
            else:
                self._write(head + body)
                self._sent = True
            while not answer.begun:
                await self.wait(silence)
        except BaseException:
            self.abort()
            raise
        return answer

    async def wait(self, seconds: float | None) -> None:
        """Wait until something happens, for so long at most if there is a limit; raises what went wrong."""
        if self._fault is not None:
            raise self._fault
        await self._waiting.wait(seconds)

    def wake(self) -> None:
        """Let who waits look again."""
        self._waiting.wake()

    def release(self, *, reusable: bool) -> None:
        """End the exchange; the connection serves another one, or is closed."""
        self._answer = None
        if reusable and self._sent and self.is_usable:
            self.resume_reading()
            self._on_free(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once, whatever is on its way."""
        self._fault = self._fault or Broken("the connection was closed")
        if self._transport is not None:
            self._transport.abort()
        self.wake()

    def fail(self, fault: Broken) -> None:
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
        if self._answer is None or self._answer.ended:
            self.fail(Broken("the connection brought an answer to no question"))
        else:
            self._answer.feed(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None:
            self._answer.feed_end()
        self._fault = self._fault or Broken(str(exc) if exc else "the connection was closed by the other side")
        self._waiting.end()
        if not self.closed.done():
            self.closed.set_result(None)
        self.wake()
        self._on_lost(self)

    def pause_writing(self) -> None:
        self._is_blocked = True

    def resume_writing(self) -> None:
        self._is_blocked = False
        self.wake()

    async def _send(self, body: Stream, answer: "Response") -> None:
        async for piece in body.pieces:
            if answer.begun:
                return
            if isinstance(piece, bytes):
                self._write(piece)
                while self._is_blocked and not answer.begun:
                    await self.wait(body.idle)
            elif isinstance(piece, BodyFlow) and not await self._splice(piece, body.idle, answer):
                return
        self._sent = True

    async def _splice(self, flow: BodyFlow, idle: float, answer: "Response") -> bool:
        """Let the kernel bring a flow after all that was written before; where it cannot, the flow is left.

        Returns:
            False where the answer came in the middle.
        """
        if self._transport is None or self.plain_socket is None:
            return True
        self._transport.set_write_buffer_limits(high=0)
        while self._is_blocked and not answer.begun:
            await self.wait(idle)
        self._transport.set_write_buffer_limits(high=WRITE_AHEAD)
        source, target = flow.socket(), self.plain_socket
        if source is None or target is None:
            return True
        with Splice(flow, source, target, silence=idle, on_end=self.wake) as way:
            while not (way.has_ended or answer.begun):
                await self.wait(None)
        if way.target_fault is not None and not answer.begun:
            fault = _broken(way.target_fault)
            self.fail(fault)
            raise fault
        return flow.moved == flow.size or not answer.begun

    def _write(self, data: bytes) -> None:
        if self._fault is not None or self._transport is None:
            raise self._fault or Broken("the connection is not made yet")
        self._transport.write(data)


class Response:
    """An answer: its head, and its body as it comes.

    Attributes:
        url: what answered.
        begun: whether the head is there.
        ended: whether all of it has come in.
    """

    def __init__(self, connection: Connection, *, url: str, bodiless: bool, silence: float) -> None:
        self.url = url
        self.status = 0
        self.headers = Headers()
        self.begun = False
        self.ended = False
        self._connection = connection
        self._bodiless = bodiless
        self._silence = silence
        self._parser = httptools.HttpResponseParser(self)
        self._head_size = 0
        self._left: int | None = None
        self._until_closed = False
        self._keep = False
        self._chunks: deque[bytes] = deque()
        self._waiting = 0
        self._is_paused = False
        self._is_released = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they come in; raises Broken where they do not come to their end."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._waiting -= len(chunk)
                if self._is_paused and self._waiting <= READ_AHEAD // 2:
                    self._is_paused = False
                    self._connection.resume_reading()
                yield chunk
            if self.ended:
                return
            await self._connection.wait(self._silence)

    @property
    def can_flow(self) -> bool:
        """Whether what has not come in yet can be had as a flow."""
        return bool(self._left) and self._connection.plain_socket is not None

    async def pieces(self) -> AsyncIterator[bytes | Flow]:
        """The body as `chunks` gives it, but what has not come in yet as a flow where it can be one."""
        if self.can_flow:
            self._pause()
            while self._chunks:
                chunk = self._chunks.popleft()
                self._waiting -= len(chunk)
                yield chunk
            flow = BodyFlow(lambda: self._connection.plain_socket, self._left or 0, silence=self._silence)
            yield flow
            if flow.fault is not None:
                raise _broken(flow.fault)
            self._left = flow.size - flow.moved
            if not self._left:
                self._end()
            self._is_paused = False
            self._connection.resume_reading()
        async for chunk in self.chunks():
            yield chunk

    def close(self) -> None:
        """Give the connection back if the answer has come to its end, else close it."""
        if not self._is_released:
            self._is_released = True
            self._connection.release(reusable=self.ended and self._keep)

    def feed(self, data: bytes) -> None:
        """Take what the connection brings."""
        if self._left is not None:
            # A body of known length needs no parser, and a parser would copy it.
            self._take(data)
            return
        if not self.begun:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._connection.fail(Broken("the answer is not HTTP"))
            return
        if not self.begun and self._head_size > HEAD_LIMIT:
            self._connection.fail(Broken(f"the answer's head has more than {HEAD_LIMIT} bytes"))
        elif self.begun and not self.ended and self._left is None:
            self._left = self._announced()

    def feed_end(self) -> None:
        """Take note that nothing more comes."""
        if self._until_closed and not self.ended:
            self._end()

    def on_message_begin(self) -> None:
        # What follows the answer answers nothing: it must not be taken for the next request's answer.
        self._keep = self._keep and not self.ended

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.begun:
            return
        self.headers.add(name.decode("latin-1"), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self.begun:
            return
        if status < 200:
            self.headers.clear()
            return
        self.status = status
        connection = self.headers.get("Connection", "").lower()
        is_old = self._parser.get_http_version() == "1.0"
        self._keep = "keep-alive" in connection if is_old else "close" not in connection
        self.begun = True
        if self._bodiless:
            self._end()
        elif "Content-Length" not in self.headers and "Transfer-Encoding" not in self.headers:
            self._until_closed = status not in (204, 304)
        self._connection.wake()

    def on_body(self, body: bytes) -> None:
        if self.ended:
            self._keep = False
        else:
            self._append(body)

    def on_message_complete(self) -> None:
        if self.begun and not self.ended:
            self._end()

    def _announced(self) -> int | None:
        """How many bytes of a body of known length are still to come, after those that came with the head."""
        if "Transfer-Encoding" in self.headers or "Content-Length" not in self.headers:
            return None
        return int(self.headers["Content-Length"]) - self._waiting

    def _take(self, data: bytes) -> None:
        left = (self._left or 0) - len(data)
        if left < 0:
            self._keep = False
            data = data[:left]
        self._left = max(0, left)
        self._append(data)
        if self._left == 0:
            self._end()

    def _append(self, data: bytes) -> None:
        self._chunks.append(data)
        self._waiting += len(data)
        if self._waiting > READ_AHEAD:
            self._pause()
        self._connection.wake()

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._connection.pause_reading()

    def _end(self) -> None:
        self.ended = True
        self._connection.wake()


def _broken(error: Exception) -> Broken:
    return Silent(str(error)) if isinstance(error, TimeoutError) else Broken(str(error))
