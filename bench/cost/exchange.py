"""Requests as bytes on one kept connection, so that the client's own time is negligible."""

import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count
from types import TracebackType
from typing import Self

from bench.served import Tagferry
from tagferry import signing

_TIMEOUT = 300.0
_PIECE = 256 * 1024


class Connection:
    """Talks to a server at `address` (HOST:PORT)."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._address = address
        self._socket = socket.create_connection((host, int(port)), timeout=_TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = memoryview(bytearray(_PIECE))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"", *, expect: int) -> bytes:
        """Send a request, read the response and return its head; raises RuntimeError for another status."""
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        if "Host" not in headers:
            lines.append(f"Host: {self._address}")
        if "Content-Length" not in headers and method in ("POST", "PUT"):
            lines.append(f"Content-Length: {len(body)}")
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            if not (piece := self._socket.recv(65536)):
                raise RuntimeError(f"{method} {path} was not answered")
            answer += piece
        head, _, content = answer.partition(b"\r\n\r\n")
        if head.split(b" ", 2)[1] != str(expect).encode():
            raise RuntimeError(f"{method} {path} was answered {answer[:500].decode('latin-1')}")
        left = 0 if method == "HEAD" else header(head, b"content-length", b"0")
        left = int(left) - len(content)
        while left > 0:
            if not (count := self._socket.recv_into(self._buffer)):
                raise RuntimeError(f"the answer to {method} {path} was cut")
            left -= count
        return head


class Signed:
    """Sends signed requests to a server's management API."""

    def __init__(self, server: Tagferry) -> None:
        self._server = server
        self._connection = Connection(server.address)
        self._serial = count()

    def ask(
        self,
        method: str,
        path: str,
        query: str = "",
        body: bytes = b"",
        *,
        expect: int = 200,
        prefer: str = "wait=300",
    ) -> bytes:
        """Make a request that must succeed; returns the head of the response."""
        # Signatures within one second would be the same without the serial number.
        headers = {
            "Host": self._server.address,
            "Content-Type": "application/json",
            "Prefer": prefer,
            "X-Serial": str(next(self._serial)),
        }
        request = signing.Request(method=method, path=path, query=query, headers=list(headers.items()), body=body)
        headers |= signing.sign(request, self._server.access_key, self._server.secret_key, now=datetime.now(UTC))
        target = f"{path}?{query}" if query else path
        return self._connection.ask(method, target, headers, body, expect=expect)


def header(head: bytes, name: bytes, default: bytes | None = None) -> bytes:
    """Return a header of a response; raises KeyError if it is missing and there is no default."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    if default is None:
        raise KeyError(name)
    return default
