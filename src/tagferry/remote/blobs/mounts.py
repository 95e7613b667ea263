"""The repositories of a registry from which blobs can be mounted, so that no mount is requested in vain."""

import time
from collections.abc import Callable

from tagferry.names import RepositoryName

SPARED_SECONDS = 600.0
"""After this long a repository from which a mount was refused is tried again."""
_MOST = 1000
_FAULTS = 2


class MountOrigins:
    """The outcomes of mounts from each repository of one registry.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spared: dict[RepositoryName, float] = {}
        self._faults: dict[RepositoryName, int] = {}

    def is_worth_asking(self, origin: RepositoryName) -> bool:
        """Return whether a mount from this repository may succeed."""
        return self._clock() >= self._spared.get(origin, 0.0)

    def note_success(self, origin: RepositoryName) -> None:
        """Note that the registry answered a mount from this repository as the specification has it."""
        self._spared.pop(origin, None)
        self._faults.pop(origin, None)

    def note_refusal(self, origin: RepositoryName) -> None:
        """Note that the registry refused a mount from this repository, which says nothing about other ones."""
        if len(self._spared) >= _MOST:
            self._spared.clear()
        self._spared[origin] = self._clock() + SPARED_SECONDS

    def note_fault(self, origin: RepositoryName) -> None:
        """Note that a mount from this repository failed for now; several in a row count as a refusal."""
        if len(self._faults) >= _MOST:
            self._faults.clear()
        self._faults[origin] = self._faults.get(origin, 0) + 1
        if self._faults[origin] >= _FAULTS:
            self.note_refusal(origin)
