"""The access log of docker-registry (CNCF distribution): what it was asked, by its own account."""

import re
import time
from dataclasses import dataclass
from pathlib import Path

_ACCESS = re.compile(rb'^127\.0\.0\.1 \S+ \S+ \[[^]]*\] "(\w+) (\S+) HTTP/1\.1" (\d+)', re.MULTILINE)
_KINDS = (("/blobs/uploads/", "upload"), ("/blobs/", "blob"), ("/manifests/", "manifest"), ("/tags/list", "tags"))


@dataclass(frozen=True)
class Seen:
    """A request as the log has it."""

    method: str
    path: str
    status: int

    @property
    def kind(self) -> str:
        """Method, what it is about, and status, as in `PUT upload 201`."""
        about = next((name for part, name in _KINDS if part in self.path), "other")
        return f"{self.method} {about} {self.status}"


class AccessLog:
    """The file that a running registry writes to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark = 0

    def forget(self) -> None:
        """Let `requests` begin here."""
        self._settle()
        self._mark = self._path.stat().st_size

    def requests(self) -> list[Seen]:
        """Return the requests since the start or the last `forget`, once nothing more is written."""
        self._settle()
        with self._path.open("rb") as log:
            log.seek(self._mark)
            return [Seen(m.decode(), path.decode(), int(status)) for m, path, status in _ACCESS.findall(log.read())]

    def _settle(self) -> None:
        for _ in range(40):
            size = self._path.stat().st_size
            time.sleep(0.05)
            if size == self._path.stat().st_size:
                return
