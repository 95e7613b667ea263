"""A browser without script that counts: requests, bytes, and the time until the last byte."""

import gzip
import re
import socket
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from bench.cost.exchange import header

_TIMEOUT = 120.0
_ASSET = re.compile(rb"""/console/static/[A-Za-z0-9._-]+""")
"""The files that a page or a style loads. Names in scripts are those of other scripts."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to a request.

    Attributes:
        seconds: from the request to the last byte.
        received: bytes of its head and body, as they were sent.
        body: the decoded body.
    """

    status: int
    seconds: float
    received: int
    head: bytes
    body: bytes


@dataclass(slots=True)
class Loaded:
    """The costs of a page with all of its files, as a browser loads it.

    Attributes:
        requests: those that reached the server.
        received: bytes of the responses.
        decoded: bytes of the decoded bodies.
    """

    requests: int = 0
    received: int = 0
    decoded: int = 0

    def add(self, answer: Answer) -> None:
        """Count a response."""
        self.requests += 1
        self.received += answer.received
        self.decoded += len(answer.body)


@dataclass(slots=True)
class Cache:
    """The files that a browser keeps, with the validators of those that it has to ask for again."""

    fresh: set[bytes] = field(default_factory=set)
    stale: dict[bytes, bytes] = field(default_factory=dict)

    def keep(self, path: bytes, answer: Answer) -> None:
        """Keep a file as its headers allow."""
        control = header(answer.head, b"cache-control", b"")
        if b"immutable" in control or b"max-age" in control:
            self.fresh.add(path)
        elif b"no-store" not in control and (validator := header(answer.head, b"etag", b"")):
            self.stale[path] = validator


class Visitor:
    """A browser on one kept connection.

    Args:
        address: HOST:PORT.
        session: the value of the session's cookie; empty without a session.
    """

    def __init__(self, address: str, session: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=_TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = f"Host: {address}\r\nAccept: text/html,*/*;q=0.8\r\nAccept-Encoding: gzip\r\n"
        if session:
            self._head += f"Cookie: tagferry-session={session}\r\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def get(self, path: str, *, validator: bytes = b"") -> Answer:
        """Make a request; raises RuntimeError unless it is answered by 200 or 304."""
        conditional = b"If-None-Match: " + validator + b"\r\n" if validator else b""
        begun = time.perf_counter()
        self._socket.sendall(f"GET {path} HTTP/1.1\r\n{self._head}".encode() + conditional + b"\r\n")
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive(path)
        head, _, content = received.partition(b"\r\n\r\n")
        parts = [content]
        missing = int(header(head, b"content-length", b"0")) - len(content)
        while missing > 0:
            parts.append(self._receive(path))
            missing -= len(parts[-1])
        seconds = time.perf_counter() - begun
        status, body = int(head.split(b" ", 2)[1]), b"".join(parts)
        decoded = gzip.decompress(body) if header(head, b"content-encoding", b"") == b"gzip" else body
        if status not in (200, 304):
            raise RuntimeError(f"GET {path[:200]} was answered {status}: {_main_part(decoded)}")
        return Answer(status, seconds, len(head) + 4 + len(body), head, decoded)

    def load(self, path: str, cache: Cache) -> Loaded:
        """Open a page with all files that it needs, and that the cache does not have."""
        loaded, left = Loaded(), list[bytes]()
        page = self.get(path)
        loaded.add(page)
        seen: set[bytes] = set()
        left += _ASSET.findall(page.body)
        while left:
            asset = left.pop()
            if asset in seen or asset in cache.fresh:
                continue
            seen.add(asset)
            answer = self.get(asset.decode(), validator=cache.stale.get(asset, b""))
            loaded.add(answer)
            cache.keep(asset, answer)
            left += _ASSET.findall(answer.body)
        return loaded

    def _receive(self, path: str) -> bytes:
        piece = self._socket.recv(262_144)
        if not piece:
            raise RuntimeError(f"the answer to GET {path} was cut")
        return piece


def _main_part(page: bytes) -> str:
    """Return the beginning of a page's text."""
    text = page.decode(errors="replace").partition("<main")[2]
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())[:500]
