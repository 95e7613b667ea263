"""A client of raw bytes, for what no proper HTTP client would do: send slowly, never read, hold connections.

```
async with connected(url) as client:
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = await client.answer()
```
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from yarl import URL

_BUFFER_BYTES = 64 * 1024
_WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class RawAnswer:
    """One answer; header names are lowercase, and of repeated ones the last counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RawClient:
    """One connection; everything that waits gives up after a minute, which fails the test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send these bytes as they are; raises ConnectionError once the server has closed."""
        async with asyncio.timeout(_WAIT_SECONDS):
            self.writer.write(data)
            await self.writer.drain()

    async def send_all(self, parts: Iterable[bytes]) -> int:
        """Send the pieces in order until all are sent or the server closes. Return the bytes sent."""
        sent = 0
        with suppress(ConnectionError):
            for part in parts:
                await self.send(part)
                sent += len(part)
        return sent

    async def trickle(self, data: bytes, *, pause: float) -> int:
        """Send a byte every `pause` seconds until all are sent or the server closes. Return the bytes sent."""
        sent = 0
        with suppress(ConnectionError):
            for byte in data:
                if self.reader.at_eof():
                    break
                await self.send(bytes((byte,)))
                sent += 1
                await asyncio.sleep(pause)
        return sent

    async def answer(self, *, has_body: bool = True) -> RawAnswer:
        """The next answer, read to its end; its body is counted, chunked, or what comes before the close."""
        async with asyncio.timeout(_WAIT_SECONDS):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status_line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            status = int(status_line.split()[1])
            body = b""
            if has_body and status >= 200 and status not in (204, 304):
                body = await self._body(headers)
            return RawAnswer(status, headers, body)

    async def answer_begins(self) -> None:
        """Wait for the head of the next answer."""
        async with asyncio.timeout(_WAIT_SECONDS):
            await self.reader.readuntil(b"\r\n\r\n")

    async def rest(self) -> bytes:
        """Everything up to the server's close, or its reset."""
        gathered = bytearray()
        async with asyncio.timeout(_WAIT_SECONDS):
            with suppress(ConnectionError):
                while part := await self.reader.read(_BUFFER_BYTES):
                    gathered += part
        return bytes(gathered)

    def abort(self) -> None:
        """End the connection at once, by a reset where something was not read."""
        self.writer.transport.abort()

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            body = bytearray()
            while size := int((await self.reader.readuntil(b"\r\n")).strip(), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readuntil(b"\r\n")
            return bytes(body)
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        return await self.rest()


@asynccontextmanager
async def connected(
    url: str, *, tls: ssl.SSLContext | None = None, source: str | None = None, buffer: int | None = None
) -> AsyncIterator[RawClient]:
    """One connection to a URL's host and port, which is cut at the end.

    Args:
        url: of which the host and the port count; `https` needs `tls`.
        tls: whom to trust.
        source: the address to connect from, as 127.0.0.2.
        buffer: the bytes that the system and this process may each take before anything is read; by default what
            they choose. A client that never reads holds back a server only where this is small.
    """
    parsed = URL(url)
    raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        raw.setblocking(False)
        if buffer is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        if source is not None:
            raw.bind((source, 0))
        async with asyncio.timeout(_WAIT_SECONDS):
            await asyncio.get_running_loop().sock_connect(raw, (parsed.host or "", parsed.port or 0))
            reader, writer = await asyncio.open_connection(
                sock=raw, ssl=tls, server_hostname=parsed.host if tls else None, limit=buffer or _BUFFER_BYTES
            )
    except BaseException:
        raw.close()
        raise
    client = RawClient(reader, writer)
    try:
        yield client
    finally:
        client.abort()
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(1):
                await writer.wait_closed()


@asynccontextmanager
async def holding(url: str, count: int, first: bytes = b"", *, source: str | None = None) -> AsyncIterator[int]:
    """Hold this many connections open, with these first bytes sent on each; gives how many could be opened."""
    async with AsyncExitStack() as stack:
        opened = 0
        for _ in range(count):
            try:
                client = await stack.enter_async_context(connected(url, source=source))
                if first:
                    await client.send(first)
            except (OSError, TimeoutError):
                continue
            opened += 1
        yield opened
