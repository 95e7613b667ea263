"""TCP connections that begin before the modules that use them are loaded.

A program in Python loads its modules for a tenth of a second. A handshake with a remote host takes as long, and needs
no module but this one.
"""

import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

Address = tuple[int, int, int, str, tuple[Any, ...]]
"""An address as `socket.getaddrinfo` returns it."""

KEPT_SECONDS = 5.0
"""Seconds after which a socket or an address is no longer used, because the host may close the one or get another."""
_IS_AVAILABLE = sys.platform == "linux"
"""Elsewhere, a socket whose connection is already made cannot be passed to an event loop."""


class EarlySockets:
    """The early connections of one process, and the number of all its connections.

    Args:
        clock: seconds, monotonic.

    Attributes:
        used: the number of connections that were needed to each host and port, early or not.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._addresses: dict[tuple[str, int], tuple[float, list[Address]]] = {}
        self._sockets: dict[tuple[Any, ...], list[tuple[float, socket.socket]]] = {}
        self._is_closed = False
        self.used: Counter[tuple[str, int]] = Counter()

    def open(self, host: str, port: int, count: int) -> None:
        """Begin this many connections to a host, in a thread because its name may have to be resolved first.

        A host that cannot be reached is no error here: the connection is made again when it is needed, and fails then.
        """
        if _IS_AVAILABLE:
            threading.Thread(target=self._open, args=(host, port, count), daemon=True).start()

    def addresses(self, host: str, port: int) -> list[Address] | None:
        """Count a connection that is needed now, and return the addresses of its host if they are known already."""
        self.used[host, port] += 1
        with self._lock:
            resolved_at, addresses = self._addresses.get((host, port), (0.0, None))
        return addresses if self._clock() - resolved_at < KEPT_SECONDS else None

    def take(self, address: Address) -> socket.socket:
        """Return a socket for an address: one whose connection has begun, if there is one, or a new one."""
        family, kind, protocol, _, target = address
        with self._lock:
            waiting = self._sockets.get(target, [])
            while waiting:
                began_at, early = waiting.pop()
                if self._clock() - began_at < KEPT_SECONDS:
                    return early
                early.close()
        return socket.socket(family, kind, protocol)

    def close(self) -> None:
        """Close the sockets that were not taken, and open no more."""
        with self._lock:
            self._is_closed = True
            for _, early in [pair for pairs in self._sockets.values() for pair in pairs]:
                early.close()
            self._sockets.clear()

    def _open(self, host: str, port: int, count: int) -> None:
        with suppress(OSError, UnicodeError):
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            with self._lock:
                self._addresses[host, port] = self._clock(), [*addresses]
            for _ in range(count):
                with self._lock:
                    if self._is_closed:
                        return
                    self._connect(addresses[0])

    def _connect(self, address: Address) -> None:
        family, kind, protocol, _, target = address
        early = socket.socket(family, kind, protocol)
        try:
            early.setblocking(False)
            with suppress(BlockingIOError):
                early.connect(target)
        except OSError:
            early.close()
            raise
        self._sockets.setdefault(target, []).append((self._clock(), early))
