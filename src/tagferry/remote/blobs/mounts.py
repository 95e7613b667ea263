"""The outcomes of blob mounts, so that no mount is requested in vain."""

import time
from collections.abc import Callable

from tagferry.names import RepositoryName

REFUSED_SECONDS = 600.0
"""Seconds until a repository that refused a mount is tried again."""
_MAX_REPOSITORIES = 1000
_MAX_FAULTS = 2


class MountHistory:
    """The outcomes of mounts from each repository of one registry.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._refused_until: dict[RepositoryName, float] = {}
        self._faults: dict[RepositoryName, int] = {}

    def may_succeed(self, repository: RepositoryName) -> bool:
        """Return whether a mount from this repository may succeed."""
        return self._clock() >= self._refused_until.get(repository, 0.0)

    def record_success(self, repository: RepositoryName) -> None:
        """Record that the registry handled a mount from this repository as specified."""
        self._refused_until.pop(repository, None)
        self._faults.pop(repository, None)

    def record_refusal(self, repository: RepositoryName) -> None:
        """Record that the registry refused a mount from this repository, which does not concern others."""
        if len(self._refused_until) >= _MAX_REPOSITORIES:
            self._refused_until.clear()
        self._refused_until[repository] = self._clock() + REFUSED_SECONDS

    def record_fault(self, repository: RepositoryName) -> None:
        """Record a temporary failure of a mount from this repository; several in a row count as a refusal."""
        if len(self._faults) >= _MAX_REPOSITORIES:
            self._faults.clear()
        self._faults[repository] = self._faults.get(repository, 0) + 1
        if self._faults[repository] >= _MAX_FAULTS:
            self.record_refusal(repository)
