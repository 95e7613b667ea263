"""Circuit breakers for hosts that accept requests and do not respond.

A refused connection fails at once, but an unresponsive host costs each request its whole timeout. Jobs for such a
registry would hold all slots of a process, and delay the jobs of other registries.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from tagferry.http.faults import CircuitOpen, ConnectionFailed, ConnectionTimedOut
from tagferry.http.urls import Origin

_THRESHOLD = 2
"""Consecutive requests without a response after which a circuit opens."""
_MAX_HOSTS = 32
"""Maximum number of remembered hosts."""
_UNGUARDED: AbstractContextManager[None] = nullcontext()


class _Circuit:
    """Consecutive requests that a host did not respond to.

    Attributes:
        is_needed: whether every request to the registry needs the host.
        is_probing: whether a request is currently probing the host.
    """

    def __init__(self, *, is_needed: bool) -> None:
        self.is_needed = is_needed
        self.count = 0
        self.reason = ""
        self.is_probing = False

    @property
    def is_open(self) -> bool:
        """Return whether the host counts as unresponsive."""
        return self.count >= _THRESHOLD

    @contextmanager
    def probe(self) -> Iterator[None]:
        """Probe the host within this block; raise CircuitOpen if another request does."""
        if self.is_probing:
            raise CircuitOpen(self.reason)
        self.is_probing = True
        try:
            yield
        finally:
            self.is_probing = False


class CircuitBreakers:
    """The circuit breakers of one registry's hosts.

    While a circuit is open, one request at a time probes the host, and all others fail at once.
    """

    def __init__(self) -> None:
        self._open: dict[Origin, _Circuit] = {}

    def guard(self) -> AbstractContextManager[None]:
        """Return the guard of a request and everything it needs, such as a token.

        Entering it raises CircuitOpen if a host that every request needs is unresponsive, and another request is
        probing it.
        """
        needed = next((one for one in self._open.values() if one.is_needed and one.is_open), None)
        return _UNGUARDED if needed is None else needed.probe()

    @contextmanager
    def request(self, origin: Origin, *, is_needed: bool) -> Iterator[None]:
        """Record the outcome of one request; leave this block when the response begins.

        Args:
            origin: the host.
            is_needed: whether every request to the registry needs the host, as the registry itself or its token server.

        Raises:
            CircuitOpen: the host is unresponsive, and another request is probing it.
        """
        circuit = None if is_needed else self._open.get(origin)
        try:
            with circuit.probe() if circuit is not None and circuit.is_open else _UNGUARDED:
                yield
        except ConnectionTimedOut as fault:
            self._record(origin, str(fault), is_needed=is_needed)
            raise
        except CircuitOpen:
            raise
        except ConnectionFailed:
            # The host fails at once now, so no request has to wait for it.
            self._open.pop(origin, None)
            raise
        else:
            self._open.pop(origin, None)

    def is_open(self, origin: Origin) -> bool:
        """Return whether a host is unresponsive."""
        circuit = self._open.get(origin)
        return circuit is not None and circuit.is_open

    def _record(self, origin: Origin, reason: str, *, is_needed: bool) -> None:
        while origin not in self._open and len(self._open) >= _MAX_HOSTS:
            del self._open[next(iter(self._open))]
        circuit = self._open.setdefault(origin, _Circuit(is_needed=is_needed))
        circuit.count += 1
        circuit.reason = reason
