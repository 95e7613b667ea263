"""The state that one run of `tagferry copy` leaves to the next: upload sessions, and what registries support.

Sessions of interrupted uploads are continued, and what a registry supports is not tried out again.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable

from tagferry.direct.state_file import StateFile, file_name, prune, read, replace
from tagferry.names import Digest, RepositoryName
from tagferry.remote.capabilities import Capabilities

KEPT_SECONDS = 24 * 3600.0
"""Seconds after which a session is forgotten; registries expire their sessions after hours or days."""


class FileCapabilities:
    """The `CapabilityStore` of one registry, in a file.

    Args:
        file: the file. Of several processes, the one that learns last is remembered.
    """

    def __init__(self, file: StateFile) -> None:
        self._file = file

    async def load(self) -> Capabilities:
        """Implement `CapabilityStore.load`."""
        try:
            return Capabilities.from_json(dict(self._file.load()))
        except (ValueError, TypeError, AttributeError):
            return Capabilities()

    async def save(self, capabilities: Capabilities) -> None:
        """Implement `CapabilityStore.save`."""
        self._file.save(capabilities.to_json())


class FileUploadCheckpoints:
    """The `UploadCheckpointStore` of one registry, in a directory: a file for each session.

    Without access to the directory, uploads start again from the beginning.

    Args:
        directory: the directory, created by the first session.
        registry: the registry's address.
        is_leaving: returns whether this process was interrupted.
        clock: seconds since the epoch.
    """

    saves_at_once = True

    def __init__(
        self,
        directory: str,
        registry: str,
        *,
        is_leaving: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._registry = registry
        self._is_leaving = is_leaving
        self._clock = clock
        self._is_pruned = False

    @property
    def is_stopping(self) -> bool:
        """Implement `UploadCheckpointStore.is_stopping`."""
        return self._is_leaving()

    async def load(self, repository: RepositoryName, digest: Digest) -> str | None:
        """Implement `UploadCheckpointStore.load`."""
        path = self._path(repository, digest)
        try:
            if os.stat(path).st_mtime < self._clock() - KEPT_SECONDS:  # noqa: PTH116
                return None
            session = json.loads(read(path))
        except (OSError, ValueError):
            return None
        location = session.get("location") if isinstance(session, dict) else None
        return location if isinstance(location, str) else None

    async def save(self, repository: RepositoryName, digest: Digest, location: str) -> None:
        """Implement `UploadCheckpointStore.save`; the first one also deletes expired sessions."""
        session = {
            "registry": self._registry,
            "repository": repository,
            "digest": digest,
            "location": location,
        }
        with contextlib.suppress(OSError):
            replace(self._path(repository, digest), session)
            if not self._is_pruned:
                self._is_pruned = True
                prune(self._directory, self._clock() - KEPT_SECONDS)

    async def clear(self, repository: RepositoryName, digest: Digest) -> None:
        """Implement `UploadCheckpointStore.clear`."""
        with contextlib.suppress(OSError):
            os.unlink(self._path(repository, digest))  # noqa: PTH108

    def _path(self, repository: RepositoryName, digest: Digest) -> str:
        return f"{self._directory}/{file_name(f'{self._registry} {repository} {digest}')}"
