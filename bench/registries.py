"""docker-registry (CNCF distribution) on loopback, and the requests in its access log."""

import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.access_log import AccessLog, Seen
from tests.support.processes import free_port, stop, tied, wait_until_it_listens

PROGRAM = "docker-registry"


class DockerRegistry:
    """A running registry.

    Attributes:
        address: HOST:PORT.
        process_id: the server's.
    """

    def __init__(self, address: str, log: AccessLog, process_id: int) -> None:
        self.address = address
        self.process_id = process_id
        self._log = log

    def forget_requests(self) -> None:
        """Reset `requests`."""
        self._log.forget()

    def requests(self) -> list[Seen]:
        """Return the requests since the start or the last `forget_requests`."""
        return self._log.requests()


def by_kind(requests: Sequence[Seen]) -> dict[str, int]:
    """Return the number of requests of each kind, most first."""
    return dict(Counter(seen.kind for seen in requests).most_common())


def repeated_downloads(requests: Sequence[Seen]) -> int:
    """Return how often blobs were read again as a whole; parts of a blob are answered 206."""
    reads = Counter(seen.path for seen in requests if seen.kind == "GET blob 200")
    return sum(reads.values()) - len(reads)


@contextmanager
def docker_registry(folder: Path, *, program: str = PROGRAM) -> Iterator[DockerRegistry]:
    """Run a registry, by default Debian's, with its data and log in a new folder, which is put aside at the end."""
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
            process = subprocess.Popen(tied([program, "serve", str(config)]), stdout=output, stderr=subprocess.STDOUT)
            try:
                wait_until_it_listens(process, address)
                yield DockerRegistry(address, AccessLog(log), process.pid)
            finally:
                stop(process)
    finally:
        put_aside(folder)


def put_aside(folder: Path) -> None:
    """Empty the files of a folder and rename it, so that there can be another one of that name.

    Its parent is a temporary folder, which is deleted at the end of the benchmark. Each file that ext4 without a
    journal creates costs a search through the files that were deleted in the last minutes: deleting what one run has
    written would slow down the next ones.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)
    folder.rename(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))


def free_address() -> str:
    """Return an address on loopback that was free a moment ago."""
    return f"127.0.0.1:{free_port()}"
