"""TCP connections that begin before the modules that use them are loaded.

A program in Python loads its modules for a tenth of a second. A handshake with a remote host takes as long, and needs
no module but this one.
"""

import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from tagferry import open_files

Address = tuple[int, int, int, str, tuple[Any, ...]]
"""An address as `socket.getaddrinfo` returns it."""

KEPT_SECONDS = 5.0
"""Seconds after which a socket or an address is no longer used, because the host may close the one or get another."""
FILE_PARTS = 16
"""The sockets to one host may be one of so many parts of the files that this process may have open."""
_IS_AVAILABLE = sys.platform == "linux"
"""Elsewhere, a socket whose connection is already made cannot be passed to an event loop."""


class _Begun(NamedTuple):
    """A connection that has begun.

    Attributes:
        began_at: seconds, by the clock of its owner.
        address: the address of its host.
        sock: its socket.
    """

    began_at: float
    address: tuple[Any, ...]
    sock: socket.socket

    @property
    def is_made(self) -> bool:
        """True if the handshake has succeeded."""
        try:
            self.sock.getpeername()
        except OSError:
            return False
        return True

    @property
    def has_ended(self) -> bool:
        """True if the handshake has failed, or the host has closed the connection."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True


class EarlySockets:
    """The early connections of one process.

    Args:
        clock: seconds, monotonic.

    Attributes:
        needed: the maximum number of connections that were open at once, early or not, by host and port.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._addresses: dict[tuple[str, int], tuple[float, list[Address]]] = {}
        self._waiting: dict[tuple[str, int], list[_Begun]] = {}
        self._is_closed = False
        self.needed: dict[tuple[str, int], int] = {}

    def open(self, host: str, port: int, count: int) -> None:
        """Begin connections to a host, in a thread because its name may have to be resolved first.

        A host that cannot be reached is no error here: the connection is made again when it is needed, and fails then.

        Args:
            host: a name or an address.
            port: the port.
            count: how many. Fewer begin if this process may open only a few files.
        """
        if _IS_AVAILABLE:
            # Without another thread, connections begin when they are needed.
            with suppress(RuntimeError):
                begun = min(count, open_files.share(FILE_PARTS))
                threading.Thread(target=self._open, args=(host, port, begun), daemon=True).start()

    def take(self, host: str, port: int) -> socket.socket | None:
        """Return a connection that is made, if there is one; the caller closes it."""
        return self._take(host, port, lambda one: one.is_made)

    def has_begun(self, host: str, port: int) -> bool:
        """Return whether a connection to a host has begun, and was not taken."""
        return bool(self._waiting.get((host, port)))

    def addresses(self, host: str, port: int) -> list[Address] | None:
        """Return the addresses of a host if they are known already."""
        with self._lock:
            resolved_at, addresses = self._addresses.get((host, port), (0.0, None))
        return addresses if self._clock() - resolved_at < KEPT_SECONDS else None

    def connecting(self, host: str, port: int, address: Address) -> socket.socket:
        """Return a socket to connect to an address: one whose connection has begun, or a new one."""
        family, kind, protocol, _, target = address
        return self._take(host, port, lambda one: one.address == target) or socket.socket(family, kind, protocol)

    def record(self, host: str, port: int, count: int) -> None:
        """Record that so many connections to a host are open."""
        self.needed[host, port] = max(count, self.needed.get((host, port), 0))

    def close(self) -> None:
        """Close the sockets that were not taken, and open no more."""
        with self._lock:
            self._is_closed = True
            for one in [one for waiting in self._waiting.values() for one in waiting]:
                one.sock.close()
            self._waiting.clear()

    def _take(self, host: str, port: int, is_wanted: Callable[[_Begun], bool]) -> socket.socket | None:
        with self._lock:
            waiting = self._waiting.get((host, port), [])
            for one in [*waiting]:
                if one.has_ended or self._clock() - one.began_at >= KEPT_SECONDS:
                    waiting.remove(one)
                    one.sock.close()
                elif is_wanted(one):
                    waiting.remove(one)
                    return one.sock
        return None

    def _open(self, host: str, port: int, count: int) -> None:
        with suppress(OSError, UnicodeError):
            # A str would load the codec for international names, which takes 2 ms.
            name = host.encode() if host.isascii() else host
            addresses = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
            with self._lock:
                self._addresses[host, port] = self._clock(), [*addresses]
            for _ in range(count):
                with self._lock:
                    if self._is_closed:
                        return
                    self._waiting.setdefault((host, port), []).append(self._begin(addresses[0]))

    def _begin(self, address: Address) -> _Begun:
        family, kind, protocol, _, target = address
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.connect(target)
        except OSError:
            sock.close()
            raise
        return _Begun(self._clock(), target, sock)
