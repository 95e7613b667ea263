"""Files in which one run of `tagferry copy` leaves something to the next: it is only an optimization."""

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping

UPLOADS = "uploads"
LAYOUTS = "layouts"
REGISTRIES = "registries"
COPIES = "copies"
"""The subdirectories."""
_KEPT_DOCUMENTS_SECONDS = 90 * 24 * 3600.0
"""Seconds after which a document that was not written again is deleted."""
_PRUNING_SECONDS = 24 * 3600.0
"""Seconds between two searches for such documents, which look at every file."""
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
        self._path = f"{directory}/{file_name(name)}"
        self._clock = clock

    def load(self) -> Mapping[str, object]:
        """Return the document; an empty one if there is none, or it is damaged."""
        try:
            document = json.loads(read(self._path))
        except (OSError, ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}

    def save(self, document: Mapping[str, object]) -> None:
        """Replace the document; once a day, delete those that were not written for months."""
        with contextlib.suppress(OSError):
            replace(self._path, document)
            if self._may_have_old_ones():
                prune(self._directory, self._clock() - _KEPT_DOCUMENTS_SECONDS)

    def _may_have_old_ones(self) -> bool:
        """Return whether the directory was not searched for a day; the time of a file beside it says when that was."""
        path, now = f"{self._directory}.pruned", self._clock()
        with contextlib.suppress(FileNotFoundError):
            if 0 <= now - os.stat(path).st_mtime < _PRUNING_SECONDS:  # noqa: PTH116
                return False
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        os.utime(path, (now, now))
        return True


def file_name(name: str) -> str:
    """Return the name of the file of a document."""
    return f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def read(path: str) -> bytes:
    """Return the content of a file; raises OSError."""
    with open(path, "rb") as file:  # noqa: PTH123 - a copy starts without pathlib
        return file.read(_DOCUMENT_BYTES)


def replace(path: str, document: Mapping[str, object]) -> None:
    """Write a document that only this user can read, since it may contain a secret of a registry; raises OSError."""
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


def prune(directory: str, oldest: float) -> None:
    """Delete the files that were last written before this time, in seconds since the epoch; raises OSError."""
    with os.scandir(directory) as entries:
        for entry in entries:
            # Another process may delete it, or replace another file with it.
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < oldest:
                    os.unlink(entry.path)  # noqa: PTH108
