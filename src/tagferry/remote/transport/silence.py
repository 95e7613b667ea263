"""Hosts that take requests and answer none, so that not every caller waits for them.

A refused connection fails at once, but a silent host costs each request the whole time for which an answer is waited
for. Jobs for one such registry would hold all slots of a process, and keep other registries' jobs waiting.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from tagferry.http.faults import Broken, Silent, Unheard
from tagferry.http.urls import Origin

_ENOUGH = 2
"""Requests in a row without an answer after which a host counts as silent."""
_HOSTS = 32
"""Hosts that are remembered."""


@dataclass(slots=True)
class _Silence:
    """Requests that a host did not answer, one after another.

    Attributes:
        is_needed: whether no request to the registry can do without that host.
        is_probed: whether a request is under way to find out more.
    """

    is_needed: bool
    count: int = 0
    reason: str = ""
    is_probed: bool = False

    @property
    def is_silent(self) -> bool:
        """Return whether there are enough of them for the host to count as silent."""
        return self.count >= _ENOUGH

    @contextmanager
    def probed(self) -> Iterator[None]:
        """Find out more within this block; raises Unheard where another request does."""
        if self.is_probed:
            raise Unheard(self.reason)
        self.is_probed = True
        try:
            yield
        finally:
            self.is_probed = False


class Silences:
    """The silent hosts of one registry.

    While a host is silent, one request at a time finds out whether it answers again, and all others fail at once.
    """

    def __init__(self) -> None:
        self._silent: dict[Origin, _Silence] = {}

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Get a request answered within this block, with all that is needed for that, such as a token.

        Raises:
            Unheard: a host that every request needs is silent, and another request is finding out for how long.
        """
        needed = next((one for one in self._silent.values() if one.is_needed and one.is_silent), None)
        with nullcontext() if needed is None else needed.probed():
            yield

    @contextmanager
    def listening(self, origin: Origin, *, is_needed: bool) -> Iterator[None]:
        """Send a request within this block, and leave it when the answer begins.

        Args:
            origin: where to.
            is_needed: whether every request to the registry needs that host, as itself or its token server.

        Raises:
            Unheard: the host is silent, and another request is finding out for how long.
        """
        silence = None if is_needed else self._silent.get(origin)
        try:
            with silence.probed() if silence is not None and silence.is_silent else nullcontext():
                yield
        except Silent as fault:
            self._note(origin, str(fault), is_needed=is_needed)
            raise
        except Unheard:
            raise
        except Broken:
            # The host fails at once and is no longer silent, so that no request waits for it.
            self._silent.pop(origin, None)
            raise
        else:
            self._silent.pop(origin, None)

    def is_silent(self, origin: Origin) -> bool:
        """Return whether a host has not answered its last requests."""
        silence = self._silent.get(origin)
        return silence is not None and silence.is_silent

    def _note(self, origin: Origin, reason: str, *, is_needed: bool) -> None:
        while origin not in self._silent and len(self._silent) >= _HOSTS:
            del self._silent[next(iter(self._silent))]
        silence = self._silent.setdefault(origin, _Silence(is_needed))
        silence.count += 1
        silence.reason = reason
