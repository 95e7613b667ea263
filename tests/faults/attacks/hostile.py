"""A registry that an attack scripts: it answers each request with given bytes, slowly, or not at all."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

Answering = Callable[["Question", asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Question:
    """A received request; header names are lowercase."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Hostile:
    """Listens on two addresses: the registry's own, and another host's.

    Attributes:
        url: the registry's.
        elsewhere: the other host's.
        answer: handles a request; by default does nothing.
        asked: the number of requests for each method and path.
        leaked: credentials that were sent to the other host.
    """

    def __init__(self) -> None:
        self.url = self.elsewhere = ""
        self.forget()

    def forget(self) -> None:
        """Be silent again, and reset the counts."""
        self.answer: Answering = silence
        self.asked: Counter[str] = Counter()
        self.leaked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_elsewhere: bool) -> None:
        """Answer the requests of one connection."""
        with suppress(OSError, EOFError, asyncio.LimitOverrunError, ValueError, asyncio.CancelledError):
            while True:
                question = await _read(reader)
                self.asked[f"{question.method} {question.path.partition('?')[0]}"] += 1
                if is_elsewhere:
                    credentials = question.headers.get("authorization", "") or question.body.decode(errors="replace")
                    if credentials:
                        self.leaked.append(credentials)
                    await reply(writer, 200, b'{"token": "stolen"}')
                    continue
                await self.answer(question, writer)
                await writer.drain()
        writer.close()


async def silence(question: Question, writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.sleep(3600)


async def reply(
    writer: asyncio.StreamWriter, status: int, body: bytes = b"", *, head: bool = False, **headers: str
) -> None:
    """Answer with a body, or only its head."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if head else body))
    await writer.drain()


@asynccontextmanager
async def hostile_registry() -> AsyncIterator[Hostile]:
    """Run a hostile registry on free ports of two loopback addresses."""
    hostile = Hostile()

    def handler(is_elsewhere: bool) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        return lambda reader, writer: hostile.serve(reader, writer, is_elsewhere=is_elsewhere)

    own = await asyncio.start_server(handler(False), "127.0.0.1", 0)
    other = await asyncio.start_server(handler(True), "127.0.0.3", 0)
    hostile.url = "http://{}:{}".format(*own.sockets[0].getsockname())
    hostile.elsewhere = "http://{}:{}".format(*other.sockets[0].getsockname())
    try:
        yield hostile
    finally:
        own.close()
        other.close()


async def _read(reader: asyncio.StreamReader) -> Question:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Question(method, path, headers, body)
