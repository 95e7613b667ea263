"""Many open consoles while jobs copy: the server's memory and CPU, the API beside them, and the shutdown."""

import json
import os
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from bench.client import RegistryClient
from bench.console.installation import Installation
from bench.console.streams import open_consoles
from bench.content import Author
from bench.cost.exchange import Signed
from bench.measure import MIB, cpu_of, cpu_of_all
from bench.served import ORGANIZATION, SOURCE_REGION, TARGET_REGION, Tagferry

_IN_PLACE = "in-place"
_LAYER = MIB
_PAUSE_SECONDS = 0.05
"""The pause between two requests to the API, so that they are a light load of their own."""
_EXIT_SECONDS = 60.0
_WITHOUT_DRAIN = ("sync.drain_timeout_seconds = 0",)
_CANCEL = (
    "UPDATE sync_jobs SET status = 'cancel', ended_at = updated_at "
    "WHERE repository = '{repository}' AND status IN ('waiting', 'running')"
)
"""So that the next server does not continue what this one had to copy."""
_LISTED = ("/v2/manage/repos", "limit=10")


@dataclass(frozen=True, slots=True)
class Beside:
    """The figures of a server while jobs copy.

    Attributes:
        consoles: the open consoles.
        memory: bytes of the server's resident memory, the highest that was seen.
        cpu: seconds of CPU for each second, those of PostgreSQL included.
        listed: seconds of each list of repositories by the API.
        in_place: seconds of each sync of a tag that is in place.
        messages: messages with changes that the consoles received each second, all together.
    """

    consoles: int
    memory: int
    cpu: float
    listed: tuple[float, ...]
    in_place: tuple[float, ...]
    messages: float


def measure(installed: Installation, *, consoles: int, requests: int, tags: int) -> list[Beside]:
    """Return the figures without open consoles, and with them.

    Args:
        installed: the installation.
        consoles: how many are open.
        requests: to the API, of each kind, while jobs copy.
        tags: the jobs that copy meanwhile, each of 1 MiB; the rate is limited so that they do not end earlier.
    """
    seconds = requests * 2 * (_PAUSE_SECONDS + 0.05)
    rate = max(1, int(tags * _LAYER / seconds))
    found = []
    for number in (0, consoles):
        repository = f"copied-{number}"
        with installed.serving() as started:
            _push(started.regions[SOURCE_REGION], repository, tags)
        limit = f"max_bytes_per_second = {rate}\n"
        with installed.serving(settings=_WITHOUT_DRAIN, region_settings=limit) as started:
            server = started.regions[SOURCE_REGION]
            _copy(server, repository, tags)
            found.append(_with(installed, server, number, requests))
        installed.rows.execute(_CANCEL.format(repository=repository))
    return found


def seconds_to_exit(installed: Installation, consoles: int) -> float:
    """Return the seconds from SIGTERM to the end of a server with open consoles, which copies nothing."""
    with installed.serving() as started:
        server = started.regions[SOURCE_REGION]
        with open_consoles(server, _sessions(installed), consoles):
            descriptor = os.pidfd_open(server.process_id)
            try:
                begun = time.perf_counter()
                os.kill(server.process_id, signal.SIGTERM)
                ended, _, _ = select.select([descriptor], [], [], _EXIT_SECONDS)
                passed = time.perf_counter() - begun
            finally:
                os.close(descriptor)
    if not ended:
        raise RuntimeError(f"the server did not end within {_EXIT_SECONDS:g} s")
    return passed


def _push(server: Tagferry, repository: str, tags: int) -> None:
    with RegistryClient(server.address, server.login) as client:
        author = Author(client, f"{ORGANIZATION}/{repository}")
        for number in range(tags):
            author.image(author.layers(1, _LAYER), tag=f"v{number}")
        author = Author(client, f"{ORGANIZATION}/{_IN_PLACE}")
        author.image(author.layers(1, 1024), tag="v1")
    server.sync_images(_IN_PLACE, ["v1"])


def _copy(server: Tagferry, repository: str, tags: int) -> None:
    """Start to synchronize the tags. The server stops before they are done."""
    body = {"imageTag": [f"v{number}" for number in range(tags)], **_target()}
    sent = json.dumps(body).encode()
    Signed(server).ask("POST", _sync_path(repository), "", sent, expect=202, prefer="respond-async")


def _with(installed: Installation, server: Tagferry, number: int, requests: int) -> Beside:
    def cpu() -> float:
        return cpu_of(server.process_id) + cpu_of_all(installed.database_process)

    with open_consoles(server, _sessions(installed), number) as consoles:
        listed: list[float] = []
        in_place: list[float] = []
        signed, memory = Signed(server), 0
        body = json.dumps({"imageTag": ["v1"], **_target()}).encode()
        begun, used, messages = time.perf_counter(), cpu(), consoles.messages
        for _ in range(requests):
            listed.append(_timed(signed, "GET", *_LISTED))
            in_place.append(_timed(signed, "POST", _sync_path(_IN_PLACE), "", body))
            memory = max(memory, _rss_of(server.process_id))
        passed = time.perf_counter() - begun
        used, messages = cpu() - used, consoles.messages - messages
        if consoles.closed:
            raise RuntimeError(f"the server has ended {consoles.closed} streams")
    return Beside(number, memory, used / passed, tuple(listed), tuple(in_place), messages / passed)


def _sessions(installed: Installation) -> list[str]:
    return [installed.filled.administrator, *installed.filled.members]


def _timed(signed: Signed, method: str, path: str, query: str, body: bytes = b"") -> float:
    time.sleep(_PAUSE_SECONDS)
    begun = time.perf_counter()
    signed.ask(method, path, query, body)
    return time.perf_counter() - begun


def _target() -> dict[str, object]:
    return {"override": True, "remoteNamespace": ORGANIZATION, "remoteRegionId": TARGET_REGION}


def _sync_path(repository: str) -> str:
    return f"/v2/manage/namespaces/{ORGANIZATION}/repos/{repository}/sync_images"


def _rss_of(process_id: int) -> int:
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
