"""Hosts that take requests and answer none, so that not every caller waits for them.

A refused connection fails at once, but a silent host costs each request the whole time for which an answer is waited
for. Jobs for one such registry would hold all slots of a process, and keep other registries' jobs waiting.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from tagferry.http.faults import CircuitOpen, ConnectionFailed, ConnectionTimedOut
from tagferry.http.urls import Origin

_THRESHOLD = 2
"""Requests in a row without an answer after which a host counts as silent."""
_MAX_HOSTS = 32
"""Hosts that are remembered."""


@dataclass(slots=True)
class _Circuit:
    """Requests that a host did not answer, one after another.

    Attributes:
        is_needed: whether no request to the registry can do without that host.
        is_probing: whether a request is under way to find out more.
    """

    is_needed: bool
    count: int = 0
    reason: str = ""
    is_probing: bool = False

    @property
    def is_open(self) -> bool:
        """Return whether there are enough of them for the host to count as silent."""
        return self.count >= _THRESHOLD

    @contextmanager
    def probe(self) -> Iterator[None]:
        """Find out more within this block; raises CircuitOpen where another request does."""
        if self.is_probing:
            raise CircuitOpen(self.reason)
        self.is_probing = True
        try:
            yield
        finally:
            self.is_probing = False


class CircuitBreakers:
    """The silent hosts of one registry.

    While a host is silent, one request at a time finds out whether it answers again, and all others fail at once.
    """

    def __init__(self) -> None:
        self._open: dict[Origin, _Circuit] = {}

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Get a request answered within this block, with all that is needed for that, such as a token.

        Raises:
            CircuitOpen: a host that every request needs is silent, and another request is finding out for how long.
        """
        needed = next((one for one in self._open.values() if one.is_needed and one.is_open), None)
        with nullcontext() if needed is None else needed.probe():
            yield

    @contextmanager
    def request(self, origin: Origin, *, is_needed: bool) -> Iterator[None]:
        """Send a request within this block, and leave it when the answer begins.

        Args:
            origin: where to.
            is_needed: whether every request to the registry needs that host, as itself or its token server.

        Raises:
            CircuitOpen: the host is silent, and another request is finding out for how long.
        """
        circuit = None if is_needed else self._open.get(origin)
        try:
            with circuit.probe() if circuit is not None and circuit.is_open else nullcontext():
                yield
        except ConnectionTimedOut as fault:
            self._record(origin, str(fault), is_needed=is_needed)
            raise
        except CircuitOpen:
            raise
        except ConnectionFailed:
            # The host fails at once and is no longer silent, so that no request waits for it.
            self._open.pop(origin, None)
            raise
        else:
            self._open.pop(origin, None)

    def is_open(self, origin: Origin) -> bool:
        """Return whether a host has not answered its last requests."""
        circuit = self._open.get(origin)
        return circuit is not None and circuit.is_open

    def _record(self, origin: Origin, reason: str, *, is_needed: bool) -> None:
        while origin not in self._open and len(self._open) >= _MAX_HOSTS:
            del self._open[next(iter(self._open))]
        circuit = self._open.setdefault(origin, _Circuit(is_needed))
        circuit.count += 1
        circuit.reason = reason
