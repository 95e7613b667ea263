"""docker-registry (CNCF distribution) on loopback, and what its access log tells."""

import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import free_port, stop, wait_until_it_listens

PROGRAM = "docker-registry"
_ACCESS = re.compile(rb'^127\.0\.0\.1 \S+ \S+ \[[^]]*\] "(\w+) (\S+) HTTP/1\.1" (\d+)', re.MULTILINE)
_KINDS = (("/blobs/uploads/", "upload"), ("/blobs/", "blob"), ("/manifests/", "manifest"), ("/tags/list", "tags"))


@dataclass(frozen=True)
class Seen:
    """A request as the access log has it."""

    method: str
    path: str
    status: int

    @property
    def kind(self) -> str:
        """Method, what it is about, and status, as in `PUT upload 201`."""
        about = next((name for part, name in _KINDS if part in self.path), "other")
        return f"{self.method} {about} {self.status}"


class DockerRegistry:
    """A running registry.

    Attributes:
        address: HOST:PORT.
        process_id: the server's.
    """

    def __init__(self, address: str, log: Path, process_id: int) -> None:
        self.address = address
        self.process_id = process_id
        self._log = log
        self._mark = 0

    def forget_requests(self) -> None:
        """Let `requests` begin here."""
        self._settle()
        self._mark = self._log.stat().st_size

    def requests(self) -> list[Seen]:
        """What was asked since the start or the last `forget_requests`."""
        self._settle()
        with self._log.open("rb") as log:
            log.seek(self._mark)
            return [Seen(m.decode(), path.decode(), int(status)) for m, path, status in _ACCESS.findall(log.read())]

    def _settle(self) -> None:
        for _ in range(40):
            size = self._log.stat().st_size
            time.sleep(0.05)
            if size == self._log.stat().st_size:
                return


def by_kind(requests: Sequence[Seen]) -> dict[str, int]:
    """How many requests of each kind, most first."""
    return dict(Counter(seen.kind for seen in requests).most_common())


def repeated_downloads(requests: Sequence[Seen]) -> int:
    """Blobs that were read whole more than once, each time more counted; parts of a blob answer 206."""
    reads = Counter(seen.path for seen in requests if seen.kind == "GET blob 200")
    return sum(reads.values()) - len(reads)


@contextmanager
def docker_registry(folder: Path) -> Iterator[DockerRegistry]:
    """Run a registry whose data and log are in a folder of its own, which is gone afterwards."""
    folder.mkdir(parents=True)
    address = free_address()
    config, log = folder / "registry.yml", folder / "registry.log"
    config.write_text(
        "version: 0.1\n"
        "log: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: '{folder / 'data'}'}}, cache: {{blobdescriptor: inmemory}}}}\n"
        f"http: {{addr: '{address}'}}\n"
    )
    try:
        with log.open("wb") as output:
            process = subprocess.Popen([PROGRAM, "serve", str(config)], stdout=output, stderr=subprocess.STDOUT)
            try:
                wait_until_it_listens(process, address)
                yield DockerRegistry(address, log, process.pid)
            finally:
                stop(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_address() -> str:
    """An address on loopback that was free a moment ago."""
    return f"127.0.0.1:{free_port()}"
