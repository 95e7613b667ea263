"""A request and its response on a connection: uvicorn's cycle, with responses in as few writes as possible."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE, RequestResponseCycle

from tagferry.concurrency import EXTERNAL_WAIT
from tagferry.registry.api.asgi import SEND_FILE, Message
from tagferry.web.server.file_responses import FileResponses
from tagferry.web.server.large_bodies import LargeBody

_WITHOUT_BODY = frozenset({204, 304})


class ResponseCycle(RequestResponseCycle):
    """A request and its response.

    The head is written together with the first part of the body, so that a small response takes one system call, and
    wakes the client once. It waits for that until the event loop's next turn at most. While the client does not read,
    the request does not count as work of this process.

    Args:
        files: sends parts of files; None if the connection cannot.
        arguments: of uvicorn's cycle.

    Attributes:
        large_body: what receives the request's body, if it is large.
    """

    def __init__(self, files: FileResponses | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._files = files
        self._head = b""
        self.large_body: LargeBody | None = None

    async def receive(self) -> Any:
        """Receive a part of the request's body, as ASGI defines it; what has arrived comes before a disconnection."""
        large = self.large_body
        if large is None:
            return await super().receive()
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        while not (self.body or large.has_piece or self.disconnected or self.response_complete):
            self.flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        if self.response_complete:
            return {"type": "http.disconnect"}
        # The parser got the first bytes together with the head.
        body, self.body = self.body, bytearray()
        piece = bytes(body) if body else large.take()
        if not piece:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": not large.is_complete}

    async def send(self, message: Any) -> None:
        """Send a part of the response, as ASGI defines it; after the client has disconnected, nothing happens."""
        if self.flow.write_paused and not self.disconnected:
            with EXTERNAL_WAIT.get():
                await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if self.response_complete or (kind == "http.response.start") is self.response_started:
            raise RuntimeError(f"the application sent {kind} out of order")
        if kind == "http.response.start":
            self._start(message)
        elif kind == "http.response.body":
            self._send_body(message.get("body", b""), is_last=not message.get("more_body", False))
        elif kind == SEND_FILE and self._files is not None:
            self._flush()
            with EXTERNAL_WAIT.get():
                await self._files.send(self, file=message["file"], offset=message["offset"], count=message["count"])
        else:
            raise RuntimeError(f"the application sent {kind}, which is not supported")

    def _start(self, message: Message) -> None:
        self.response_started, self.waiting_for_100_continue = True, False
        status = message["status"]
        lines, is_closing = [STATUS_LINE[status]], False
        headers = [*self.default_headers, *message.get("headers", ())]
        names, values = zip(*headers, strict=True)
        if HEADER_RE.search(b"".join(names)) or HEADER_VALUE_RE.search(b"".join(values)):
            raise RuntimeError("the application sent an invalid header")
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
            lower = name.lower()
            if lower == b"content-length" and self.chunked_encoding is None:
                self.expected_content_length, self.chunked_encoding = int(value), False
            elif lower == b"transfer-encoding" and value.lower() == b"chunked":
                self.expected_content_length, self.chunked_encoding = 0, True
            elif lower == b"connection" and b"close" in value.lower():
                self.keep_alive, is_closing = False, True
        if not self.keep_alive and not is_closing:
            lines.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in _WITHOUT_BODY:
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        self._head = b"".join(lines)
        asyncio.get_running_loop().call_soon(self._flush)

    def _send_body(self, body: bytes, *, is_last: bool) -> None:
        if self.scope["method"] == "HEAD":
            self.expected_content_length, body = 0, b""
        elif self.chunked_encoding:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if is_last:
                body += b"0\r\n\r\n"
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("the response is longer than its Content-Length")
        self._write(body)
        if not is_last:
            return
        if self.expected_content_length != 0:
            raise RuntimeError("the response is shorter than its Content-Length")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _write(self, content: bytes) -> None:
        """Write content behind the head, if that is still to be written."""
        if self._head:
            content, self._head = self._head + content, b""
        if content:
            self.transport.write(content)

    def _flush(self) -> None:
        """Write the head alone, if it is still to be written."""
        if self._head and not self.transport.is_closing():
            self._write(b"")
