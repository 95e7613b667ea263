"""Measure tagferry's embedded registry and docker-registry: the workload REG."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from bench.client import RegistryClient
from bench.content import MIB, layer
from bench.measure import cpu_of, peak_rss_of
from bench.registries import docker_registry
from bench.served import ORGANIZATION, served

_REPOSITORY = f"{ORGANIZATION}/reg"


@dataclass(frozen=True)
class Exercise:
    """One run against a registry.

    Attributes:
        push: seconds for the blob, stored durably.
        pull: seconds for the blob.
        manifests: seconds for all manifests, sequentially on one connection.
        push_cpu: seconds of the server's CPU for the push.
        rss: bytes of the server's memory at the peak.
    """

    push: float
    pull: float
    manifests: float
    push_cpu: float
    rss: int


@dataclass(frozen=True)
class Embedded:
    """All runs, by registry.

    Attributes:
        size: bytes of the blob.
        requests: those in docker-registry's access log for one run; both registries get the same.
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
    """Measure both registries in turn, each with an empty disk every time."""
    blob = folder / "blob"
    size, manifests = _amount(quick=quick)
    digest = _write(blob, size)
    outcome = Embedded(size=blob.stat().st_size, manifests=manifests)
    try:
        for _ in range(runs):
            for name, start in (("tagferry", _tagferry), ("docker-registry", _docker_registry)):
                with start(folder / "server") as server:
                    exercise = _exercise(server, blob, digest, outcome.manifests)
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


def _exercise(server: _Server, blob: Path, digest: str, manifests: int) -> Exercise:
    with RegistryClient(server.address, server.login) as client:
        # The first login is slow on purpose, and is not measured.
        client.ping()
        used = cpu_of(server.process_id)
        push = _timed(lambda: client.push_file(_REPOSITORY, blob, digest))
        used = cpu_of(server.process_id) - used
        sizes: list[int] = []
        pull = _timed(lambda: sizes.append(client.pull(_REPOSITORY, digest)))
        if sizes != [blob.stat().st_size]:
            raise RuntimeError(f"{server.address} gave {sizes} bytes of {blob.stat().st_size}")
        config = client.push_bytes(_REPOSITORY, b"{}")
        documents = [_manifest(config, digest, sizes[0], number) for number in range(manifests)]

        def push_manifests() -> None:
            for number, document in enumerate(documents):
                client.push_manifest(_REPOSITORY, f"v{number}", document)

        seconds = _timed(push_manifests)
    return Exercise(push=push, pull=pull, manifests=seconds, push_cpu=used, rss=peak_rss_of(server.process_id))


@contextmanager
def _tagferry(folder: Path) -> Iterator[_Server]:
    with served(folder) as server:
        yield _Server(server.address, server.process_id, server.login, None)


@contextmanager
def _docker_registry(folder: Path) -> Iterator[_Server]:
    with docker_registry(folder) as registry:
        registry.forget_requests()
        yield _Server(registry.address, registry.process_id, None, lambda: len(registry.requests()))


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


def _timed(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
