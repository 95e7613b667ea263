"""The state that one run of `tagferry copy` leaves to the next, as small files: it is only an optimization.

Sessions of interrupted uploads are continued, files of layouts that were verified are not read again, and what a
registry supports is not tried out again.
"""

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping

from tagferry.names import Digest, RepositoryName
from tagferry.remote.capabilities import Capabilities

KEPT_SECONDS = 24 * 3600.0
"""Seconds after which a session is forgotten; registries expire their sessions after hours or days."""


UPLOADS = "uploads"
LAYOUTS = "layouts"
REGISTRIES = "registries"
"""The subdirectories."""
_KEPT_DOCUMENTS_SECONDS = 90 * 24 * 3600.0
"""Seconds after which a document that was not written again is deleted."""
_DOCUMENT_BYTES = 32 * 1024 * 1024


def state_directory(environment: Mapping[str, str] = os.environ) -> str:
    """Return the directory of all that is remembered (XDG Base Directory Specification)."""
    base = environment.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111
    return f"{base}/tagferry"


class StateFile:
    """A JSON document in a file of its own. Without access to it, there is none.

    It is replaced as a whole, so a reader sees one of the documents that several processes write.

    Args:
        directory: the directory, created by the first document.
        name: what the document is about; the file is named by its hash.
        clock: seconds since the epoch.
    """

    def __init__(self, directory: str, name: str, *, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._path = f"{directory}/{_hash(name)}.json"
        self._clock = clock

    def load(self) -> Mapping[str, object]:
        """Return the document; an empty one if there is none, or it is damaged."""
        try:
            document = json.loads(_read(self._path))
        except (OSError, ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}

    def save(self, document: Mapping[str, object]) -> None:
        """Replace the document, and delete those that were not written for months."""
        with contextlib.suppress(OSError):
            _replace(self._path, document)
            _prune(self._directory, self._clock() - _KEPT_DOCUMENTS_SECONDS)


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
        with contextlib.suppress(OSError):
            _replace(self._path(repository, digest), session)
            if not self._is_pruned:
                self._is_pruned = True
                _prune(self._directory, self._clock() - KEPT_SECONDS)

    async def clear(self, repository: RepositoryName, digest: Digest) -> None:
        """Implement `UploadCheckpointStore.clear`."""
        with contextlib.suppress(OSError):
            os.unlink(self._path(repository, digest))  # noqa: PTH108

    def _path(self, repository: RepositoryName, digest: Digest) -> str:
        return f"{self._directory}/{_hash(f'{self._registry} {repository} {digest}')}.json"


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - a copy starts without pathlib
        return file.read(_DOCUMENT_BYTES)


def _replace(path: str, document: Mapping[str, object]) -> None:
    """Write a document that only this user can read, since it may contain a secret of a registry."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
    draft = f"{path}.{os.getpid()}-{threading.get_ident()}"
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(json.dumps(document, separators=(",", ":")).encode())
        os.replace(draft, path)  # noqa: PTH105
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)  # noqa: PTH108
        raise


def _prune(directory: str, oldest: float) -> None:
    with os.scandir(directory) as entries:
        for entry in entries:
            # Another process may delete it, or replace another file with it.
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < oldest:
                    os.unlink(entry.path)  # noqa: PTH108
