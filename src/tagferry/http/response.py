"""A response as it arrives: its head and its body (RFC 9112, sections 4 to 7)."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httptools

from tagferry import bounds
from tagferry.http.faults import ConnectionFailed, TransferTooSlow, connection_failure
from tagferry.http.headers import Headers
from tagferry.http.minimum_rate import MinimumRate
from tagferry.http.splice import BodyFlow
from tagferry.streams import Flow

if TYPE_CHECKING:
    from tagferry.http.connection import Connection

READ_AHEAD = 256 * 1024
"""Unread bytes of a response beyond which the sender is paused."""


class Response:
    """A response whose body is read as it arrives.

    Attributes:
        url: the URL of the response.
        begun: whether the head has arrived.
        ended: whether the whole body has arrived.
        has_continue: whether the server sent `100 Continue`.
        latency: seconds from the start of the request to the first byte of the response, without connecting.
    """

    def __init__(
        self, connection: "Connection", *, url: str, bodiless: bool, idle_timeout: float, min_rate: float = 0.0
    ) -> None:
        self.url = url
        self.status = 0
        self.headers = Headers()
        self.begun = False
        self.ended = False
        self.has_continue = False
        self.latency = 0.0
        self._connection = connection
        self._bodiless = bodiless
        self._idle_timeout, self._min_rate = idle_timeout, min_rate
        self._rate = MinimumRate(min_rate, idle_timeout)
        self._parser = self._new_parser()
        self._head = b""
        self._is_malformed = False
        self._left: int | None = None
        self._until_closed = False
        self._keep_alive = False
        self._framing_bytes = 0
        self._is_at_last_chunk = False
        self._chunks: deque[bytes] = deque()
        self._waiting = 0
        self._is_paused = False
        self._is_released = False

    @property
    def peer(self) -> str | None:
        """The IP address of the peer, which may be a proxy."""
        return self._connection.peer

    @property
    def peer_certificate(self) -> bytes | None:
        """The certificate of the peer in DER; None without TLS."""
        return self._connection.peer_certificate

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; raise ConnectionFailed if it is incomplete."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._waiting -= len(chunk)
                self._resume_if_read()
                yield chunk
            if self.ended:
                return
            self._resume_if_read()
            await self._wait()

    async def _wait(self) -> None:
        """Wait for more of the body; raise ConnectionFailed if it falls below the minimum rate."""
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        await self._connection.wait(self._idle_timeout)
        if self._rate.record_wait(loop.time() - began_at) and not self.ended:
            self._connection.fail(TransferTooSlow())
            await self._connection.wait(self._idle_timeout)

    @property
    def can_flow(self) -> bool:
        """Return whether the rest of the body can be read as a flow."""
        return bool(self._left) and self._connection.plain_socket is not None

    async def pieces(self) -> AsyncIterator[bytes | Flow]:
        """Yield the body; bytes that have not arrived yet come as a flow if possible."""
        if self.can_flow:
            self._pause()
            while self._chunks:
                chunk = self._chunks.popleft()
                self._waiting -= len(chunk)
                yield chunk
            flow = BodyFlow(
                lambda: self._connection.plain_socket,
                self._left or 0,
                idle_timeout=self._idle_timeout,
                min_rate=self._min_rate,
            )
            yield flow
            if flow.fault is not None:
                raise connection_failure(flow.fault)
            self._left = flow.size - flow.moved
            if not self._left:
                self._end()
            self._is_paused = False
            self._connection.resume_reading()
        async for chunk in self.chunks():
            yield chunk

    def close(self) -> None:
        """Return the connection to the pool if the response is complete; otherwise close it."""
        if not self._is_released:
            self._is_released = True
            self._connection.release(reusable=self.ended and self._keep_alive)

    def feed(self, data: bytes) -> None:
        """Process received bytes."""
        if self._left is not None:
            # A body of known length needs no parser, and the parser would copy it.
            self._take(data)
            return
        if not self.begun:
            self._head += data
        self._framing_bytes += len(data)
        try:
            if not self._is_malformed:
                self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail()
        except httptools.HttpParserError:
            if self.begun:
                self._end_or_fail()
            self._is_malformed = not self.begun
        if self._is_malformed:
            self._feed_normalized()
        if self.begun:
            self._head = b""
        if not self.begun and len(self._head) > bounds.RESPONSE_HEAD_BYTES:
            self._connection.fail(
                ConnectionFailed(f"the response's head has more than {bounds.RESPONSE_HEAD_BYTES} bytes")
            )
        elif self.begun and not self.ended and self._framing_bytes > bounds.RESPONSE_HEAD_BYTES:
            self._connection.fail(
                ConnectionFailed(
                    f"the response has more than {bounds.RESPONSE_HEAD_BYTES} bytes between two parts of its body"
                )
            )
        elif self.begun and not self.ended and self._left is None:
            self._left = self._announced()
            if (self._left or 0) > READ_AHEAD // 2 and self.can_flow:
                # The reader decides whether the rest stays in the kernel.
                self._pause()

    def _feed_normalized(self) -> None:
        """Normalize a head that the parser refused and parse it again, once it is complete."""
        # Imported here: most servers send proper heads.
        from tagferry.http.lenient_heads import may_be_http, normalized

        data = normalized(self._head)
        if data is None:
            if not may_be_http(self._head):
                self._fail()
            return
        self._is_malformed = False
        self.headers.clear()
        self._parser = self._new_parser()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail()

    def _new_parser(self) -> httptools.HttpResponseParser:
        parser = httptools.HttpResponseParser(self)
        # Old servers pad chunk sizes with blanks.
        parser.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True)
        return parser

    def _end_or_fail(self) -> None:
        """End the body if it is complete, even if its trailer is malformed; otherwise fail."""
        if self._is_at_last_chunk and not self.ended:
            self._keep_alive = False
            self._end()
        else:
            self._fail()

    def _fail(self) -> None:
        from tagferry.http.lenient_heads import TLS_RECORDS

        is_tls = self._head.startswith(TLS_RECORDS)
        message = "is TLS; use an https:// URL" if is_tls else "is not HTTP"
        self._connection.fail(ConnectionFailed(f"the response {message}"))

    def feed_end(self) -> None:
        """Process the end of the connection's data."""
        if self._until_closed and not self.ended:
            self._end()

    def on_message_begin(self) -> None:
        # Data after the response must not be taken for the next response.
        self._keep_alive = self._keep_alive and not self.ended

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
            if status == 100:
                self.has_continue = True
                self._connection.wake()
            return
        self.status = status
        connection = self.headers.get("Connection", "").lower()
        is_old = self._parser.get_http_version() == "1.0"
        self._keep_alive = "keep-alive" in connection if is_old else "close" not in connection
        self.begun = True
        if self._bodiless:
            self._end()
        elif (
            "Content-Length" not in self.headers and "chunked" not in self.headers.get("Transfer-Encoding", "").lower()
        ):
            self._until_closed = status not in (204, 304)
        self._connection.wake()

    def on_chunk_header(self) -> None:
        # The last chunk is the one without data.
        self._is_at_last_chunk = True

    def on_body(self, body: bytes) -> None:
        self._framing_bytes, self._is_at_last_chunk = 0, False
        if self.ended:
            self._keep_alive = False
        else:
            self._append(body)

    def on_message_complete(self) -> None:
        if self.begun and not self.ended:
            self._end()

    def _announced(self) -> int | None:
        """Return the missing bytes of a body of known length, after those that arrived with the head."""
        if "Transfer-Encoding" in self.headers or "Content-Length" not in self.headers:
            return None
        return int(self.headers["Content-Length"]) - self._waiting

    def _take(self, data: bytes) -> None:
        left = (self._left or 0) - len(data)
        if left < 0:
            self._keep_alive = False
            data = data[:left]
        self._left = max(0, left)
        self._append(data)
        if self._left == 0:
            self._end()

    def _append(self, data: bytes) -> None:
        self._chunks.append(data)
        self._waiting += len(data)
        self._rate.record(len(data))
        if self._waiting > READ_AHEAD:
            self._pause()
        self._connection.wake()

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._connection.pause_reading()

    def _resume_if_read(self) -> None:
        if self._is_paused and self._waiting <= READ_AHEAD // 2:
            self._is_paused = False
            self._connection.resume_reading()

    def _end(self) -> None:
        self.ended = True
        self._connection.wake()
