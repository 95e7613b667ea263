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
from typing import Any, NamedTuple

Address = tuple[int, int, int, str, tuple[Any, ...]]
"""An address as `socket.getaddrinfo` returns it."""

KEPT_SECONDS = 5.0
"""Seconds after which a socket or an address is no longer used, because the host may close the one or get another."""
_IS_AVAILABLE = sys.platform == "linux"
"""Elsewhere, a socket whose connection is already made cannot be passed to an event loop."""


class _Early(NamedTuple):
    """A connection that has begun.

    Attributes:
        began_at: when, by the clock.
        address: the address of its host.
    """

    began_at: float
    address: tuple[Any, ...]
    socket: socket.socket

    @property
    def is_made(self) -> bool:
        """Whether the handshake has ended."""
        try:
            self.socket.getpeername()
        except OSError:
            return False
        return True


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
        self._waiting: dict[tuple[str, int], list[_Early]] = {}
        self._is_closed = False
        self.used: Counter[tuple[str, int]] = Counter()

    def open(self, host: str, port: int, count: int) -> None:
        """Begin this many connections to a host, in a thread because its name may have to be resolved first.

        A host that cannot be reached is no error here: the connection is made again when it is needed, and fails then.
        """
        if _IS_AVAILABLE:
            threading.Thread(target=self._open, args=(host, port, count), daemon=True).start()

    def take(self, host: str, port: int) -> socket.socket | None:
        """Count a connection that is needed now; return one that is made already, if any."""
        self.used[host, port] += 1
        return self._take(host, port, lambda early: early.is_made)

    def has_begun(self, host: str, port: int) -> bool:
        """Return whether more connections to a host have begun."""
        return bool(self._waiting.get((host, port)))

    def addresses(self, host: str, port: int) -> list[Address] | None:
        """Return the addresses of a host if they are known already."""
        with self._lock:
            resolved_at, addresses = self._addresses.get((host, port), (0.0, None))
        return addresses if self._clock() - resolved_at < KEPT_SECONDS else None

    def connecting(self, host: str, port: int, address: Address) -> socket.socket:
        """Return a socket for an address of a host: one whose connection has begun, if there is one, or a new one."""
        family, kind, protocol, _, target = address
        return self._take(host, port, lambda early: early.address == target) or socket.socket(family, kind, protocol)

    def close(self) -> None:
        """Close the sockets that were not taken, and open no more."""
        with self._lock:
            self._is_closed = True
            for early in [early for waiting in self._waiting.values() for early in waiting]:
                early.socket.close()
            self._waiting.clear()

    def _take(self, host: str, port: int, is_wanted: Callable[[_Early], bool]) -> socket.socket | None:
        with self._lock:
            waiting = self._waiting.get((host, port), [])
            while waiting and self._clock() - waiting[0].began_at >= KEPT_SECONDS:
                waiting.pop(0).socket.close()
            found = next(filter(is_wanted, waiting), None)
            if found is None:
                return None
            waiting.remove(found)
            return found.socket

    def _open(self, host: str, port: int, count: int) -> None:
        with suppress(OSError, UnicodeError):
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            with self._lock:
                self._addresses[host, port] = self._clock(), [*addresses]
            for _ in range(count):
                with self._lock:
                    if self._is_closed:
                        return
                    self._waiting.setdefault((host, port), []).append(self._begun(addresses[0]))

    def _begun(self, address: Address) -> _Early:
        family, kind, protocol, _, target = address
        early = socket.socket(family, kind, protocol)
        try:
            early.setblocking(False)
            with suppress(BlockingIOError):
                early.connect(target)
        except OSError:
            early.close()
            raise
        return _Early(self._clock(), target, early)
