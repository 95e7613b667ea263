"""Measure tagferry's embedded registry, docker-registry 2.8 and distribution 3: the workload REG."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path

from bench.client import RegistryClient
from bench.content import MIB, layer
from bench.measure import cpu_of, peak_rss_of
from bench.registries import PROGRAM, docker_registry
from bench.served import ORGANIZATION, served
from tests.interop.programs import DISTRIBUTION, built

_REPOSITORY = f"{ORGANIZATION}/reg"
_BLOCK = 512
"""Bytes of a block of `st_blocks`."""


@dataclass(frozen=True)
class Exercise:
    """One run against a registry.

    Attributes:
        push: seconds for the blob, stored durably.
        pull: seconds for the blob.
        manifests: seconds for all manifests, sequentially on one connection.
        push_cpu: seconds of the server's CPU for the push.
        pull_cpu: the same for the pull.
        rss: bytes of the server's memory at the peak.
        disk: bytes of the server's disk that are in use at the end.
    """

    push: float
    pull: float
    manifests: float
    push_cpu: float
    pull_cpu: float
    rss: int
    disk: int


@dataclass(frozen=True)
class Embedded:
    """All runs, by registry.

    Attributes:
        size: bytes of the blob.
        requests: those in docker-registry's access log for one run; all registries get the same.
    """

    size: int
    manifests: int
    exercises: dict[str, list[Exercise]] = field(default_factory=dict)
    requests: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Server:
    address: str
    process_id: int
    login: tuple[str, str] | None
    count_requests: Callable[[], int] | None


def says(*, quick: bool) -> str:
    """The description for the table."""
    size, manifests = _amount(quick=quick)
    return f"one blob of {size // MIB} MiB pushed and pulled, {manifests} manifests pushed, by one client"


def measure(folder: Path, *, runs: int, quick: bool) -> Embedded:
    """Measure the registries in turn, each with an empty disk every time."""
    blob = folder / "blob"
    size, manifests = _amount(quick=quick)
    digest = _write(blob, size)
    outcome = Embedded(size=blob.stat().st_size, manifests=manifests)
    try:
        for _ in range(runs):
            for name, start in _registries().items():
                place = folder / "server"
                with start(place) as server:
                    exercise = _exercise(server, place, blob, digest, outcome.manifests)
                    if server.count_requests is not None:
                        outcome.requests.append(server.count_requests())
                outcome.exercises.setdefault(name, []).append(exercise)
                os.sync()
                print(
                    f"{'REG':12}{name:16} push {exercise.push:.2f} s, pull {exercise.pull:.2f} s, "
                    f"{outcome.manifests} manifests {exercise.manifests:.2f} s",
                    file=sys.stderr,
                )
    finally:
        blob.unlink()
    return outcome


def _amount(*, quick: bool) -> tuple[int, int]:
    """Return the bytes of the blob, and the number of manifests."""
    return (64 * MIB, 10) if quick else (1024 * MIB, 100)


def _exercise(server: _Server, folder: Path, blob: Path, digest: str, manifests: int) -> Exercise:
    with RegistryClient(server.address, server.login) as client:
        # The first login is slow on purpose, and is not measured.
        client.ping()
        push, push_cpu = _timed(server, lambda: client.push_file(_REPOSITORY, blob, digest))
        sizes: list[int] = []
        pull, pull_cpu = _timed(server, lambda: sizes.append(client.pull(_REPOSITORY, digest)))
        if sizes != [blob.stat().st_size]:
            raise RuntimeError(f"{server.address} gave {sizes} bytes of {blob.stat().st_size}")
        config = client.push_bytes(_REPOSITORY, b"{}")
        documents = [_manifest(config, digest, sizes[0], number) for number in range(manifests)]

        def push_manifests() -> None:
            for number, document in enumerate(documents):
                client.push_manifest(_REPOSITORY, f"v{number}", document)

        seconds, _ = _timed(server, push_manifests)
    return Exercise(
        push=push,
        pull=pull,
        manifests=seconds,
        push_cpu=push_cpu,
        pull_cpu=pull_cpu,
        rss=peak_rss_of(server.process_id),
        disk=_disk_of(folder),
    )


def _registries() -> dict[str, Callable[[Path], AbstractContextManager[_Server]]]:
    """Return what starts each registry; distribution 3 is built, so it needs Go."""
    registries: dict[str, Callable[[Path], AbstractContextManager[_Server]]] = {
        "tagferry": _tagferry,
        "docker-registry": partial(_distribution, PROGRAM),
    }
    if shutil.which("go"):
        registries["distribution"] = partial(_distribution, built(DISTRIBUTION))
    return registries


@contextmanager
def _tagferry(folder: Path) -> Iterator[_Server]:
    with served(folder) as server:
        yield _Server(server.address, server.process_id, server.login, None)


@contextmanager
def _distribution(program: str, folder: Path) -> Iterator[_Server]:
    with docker_registry(folder, program=program) as registry:
        registry.forget_requests()
        # Distribution 3 writes another kind of log.
        count = (lambda: len(registry.requests())) if program == PROGRAM else None
        yield _Server(registry.address, registry.process_id, None, count)


def _manifest(config: str, blob: str, size: int, number: int) -> dict[str, object]:
    return {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": blob, "size": size}],
        "annotations": {"number": str(number)},
    }


def _write(path: Path, size: int) -> str:
    running = sha256()
    with path.open("wb") as file:
        for piece in layer("reg", size):
            running.update(piece)
            file.write(piece)
        os.fsync(file.fileno())
    return f"sha256:{running.hexdigest()}"


def _timed(server: _Server, work: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds of some work, and those of the server's CPU."""
    used, begun = cpu_of(server.process_id), time.perf_counter()
    work()
    return time.perf_counter() - begun, cpu_of(server.process_id) - used


def _disk_of(folder: Path) -> int:
    """Return the bytes that the files of a folder take; names of one file count once."""
    files = {state.st_ino: state.st_blocks for path in folder.rglob("*") if (state := path.lstat())}
    return sum(files.values()) * _BLOCK
