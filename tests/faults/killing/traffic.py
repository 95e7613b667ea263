"""The requests to docker-registry, with the time at which each response was logged."""

import re
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote

from tests.faults.killing.registry import AGENT

_LINE = re.compile(r'^(\S+) \S+ \S+ \[[^]]*\] "(\w+) (\S+) HTTP/1\.1" (\d+) \d+ "[^"]*" "([^"]*)"')
_UPLOAD = re.compile(r"^/v2/(.+)/blobs/uploads/[^?]+\?.*digest=([^&]+)")
_TAG = re.compile(r"^/v2/(.+)/manifests/(?!sha256:)([^?]+)")
_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Request:
    """An answered request.

    Attributes:
        seen_at: when the response was logged, in seconds since the epoch.
        client: the sender's address.
    """

    seen_at: float
    client: str
    method: str
    path: str
    status: int
    agent: str


class Traffic:
    """Follows a registry's log, without the requests of this harness."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._requests: list[Request] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def requests(self) -> list[Request]:
        """Return all requests up to now."""
        return list(self._requests)

    def _follow(self) -> None:
        with self._log.open() as log:
            rest = ""
            while True:
                is_last = self._stop.is_set()
                *lines, rest = (rest + log.read()).split("\n")
                now = time.time()
                for match in filter(None, map(_LINE.match, lines)):
                    client, method, path, status, agent = match.groups()
                    if agent != AGENT:
                        self._requests.append(Request(now, client, method, path, int(status), agent))
                if is_last:
                    return
                self._stop.wait(_LOOK_SECONDS)


def completed_uploads(requests: Iterable[Request]) -> Counter[tuple[str, str]]:
    """Return how often each blob was received completely, by repository and digest."""
    return Counter(
        (match[1], unquote(match[2]))
        for request in requests
        if request.method == "PUT" and request.status == 201 and (match := _UPLOAD.match(request.path))
    )


def broken_uploads(requests: Iterable[Request]) -> int:
    """Return the uploads that were in progress when the connection ended."""
    return sum(
        1
        for request in requests
        if request.method in ("PUT", "PATCH") and request.status >= 400 and _UPLOAD.match(request.path)
    )


def written_tags(requests: Iterable[Request]) -> Counter[tuple[str, str]]:
    """Return how often each tag was written, by repository and tag."""
    return Counter(
        (match[1], match[2])
        for request in requests
        if request.method == "PUT" and request.status == 201 and (match := _TAG.match(request.path))
    )
