"""Open consoles: connections that receive the changes of jobs, read by one thread."""

import html
import re
import selectors
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.console.visitor import Visitor
from bench.served import Tagferry

_LIVE = re.compile(rb'data-live="([^"]+)"')
_TIMEOUT = 60.0


class Consoles:
    """The streams of many open pages.

    Attributes:
        messages: the messages with changes that were received.
        received: the bytes that were received.
        closed: the streams that the server has ended.
    """

    def __init__(self) -> None:
        self.messages = self.received = self.closed = 0
        self._selector = selectors.DefaultSelector()
        self._sockets: list[socket.socket] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def open(self, server: Tagferry, sessions: Sequence[str], number: int) -> None:
        """Open pages of jobs, in turn as each user, and their streams."""
        host, _, port = server.address.rpartition(":")
        for serial in range(number):
            session = sessions[serial % len(sessions)]
            with Visitor(server.address, session) as visitor:
                found = _LIVE.search(visitor.get("/console/jobs").body)
            if found is None:
                raise RuntimeError("the page of jobs has no stream of changes")
            stream = socket.create_connection((host, int(port)), timeout=_TIMEOUT)
            request = f"GET {html.unescape(found[1].decode())} HTTP/1.1\r\nHost: {server.address}\r\n"
            stream.sendall(f"{request}Accept: text/event-stream\r\nCookie: tagferry-session={session}\r\n\r\n".encode())
            head = stream.recv(65_536)
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"a stream was answered {head[:500].decode(errors='replace')}")
            stream.setblocking(False)
            self._sockets.append(stream)
            self._selector.register(stream, selectors.EVENT_READ)
        self._thread.start()

    def close(self) -> None:
        """Close the connections."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
        for stream in self._sockets:
            stream.close()
        self._selector.close()

    def _read(self) -> None:
        while not self._ended.is_set():
            for key, _ in self._selector.select(timeout=0.1):
                stream = key.fileobj
                assert isinstance(stream, socket.socket)  # noqa: S101
                try:
                    piece = stream.recv(262_144)
                except OSError:
                    piece = b""
                if not piece:
                    self._selector.unregister(stream)
                    self.closed += 1
                    continue
                self.received += len(piece)
                self.messages += piece.count(b"event: parts")


@contextmanager
def open_consoles(server: Tagferry, sessions: Sequence[str], number: int) -> Iterator[Consoles]:
    """Open this many consoles."""
    consoles = Consoles()
    try:
        consoles.open(server, sessions, number)
        yield consoles
    finally:
        consoles.close()
