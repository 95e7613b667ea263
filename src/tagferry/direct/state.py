"""The upload sessions of interrupted copies, as small files, so that the next copy continues them."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping

from tagferry.names import Digest, RepositoryName

KEPT_SECONDS = 24 * 3600.0
"""Seconds after which a session is forgotten; registries expire their sessions after hours or days."""


def state_directory(environment: Mapping[str, str] = os.environ) -> str:
    """Return the directory for the sessions (XDG Base Directory Specification)."""
    base = environment.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111
    return f"{base}/tagferry/uploads"


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
            session = json.loads(_read(path))
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
        path = self._path(repository, digest)
        draft = f"{path}.{os.getpid()}"
        # A session is only an optimization.
        with contextlib.suppress(OSError):
            os.makedirs(self._directory, mode=0o700, exist_ok=True)  # noqa: PTH103
            self._prune()
            # A location may contain a secret of the registry.
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps(session).encode())
            os.replace(draft, path)  # noqa: PTH105

    async def clear(self, repository: RepositoryName, digest: Digest) -> None:
        """Implement `UploadCheckpointStore.clear`."""
        with contextlib.suppress(OSError):
            os.unlink(self._path(repository, digest))  # noqa: PTH108

    def _path(self, repository: RepositoryName, digest: Digest) -> str:
        key = f"{self._registry} {repository} {digest}"
        return f"{self._directory}/{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"

    def _prune(self) -> None:
        if self._is_pruned:
            return
        self._is_pruned = True
        oldest = self._clock() - KEPT_SECONDS
        for entry in os.scandir(self._directory):
            if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < oldest:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.path)  # noqa: PTH108


def _read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - a copy starts without pathlib
        return file.read()
