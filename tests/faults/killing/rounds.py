"""A round: fresh images of every kind at the source, and the requests that copy them to the target."""

import random
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tagferry.names import Digest
from tests.faults.killing.cluster import EMBEDDED, TARGET, Cluster
from tests.faults.killing.jobs import Job, JobTable
from tests.faults.killing.observer import Watched
from tests.faults.killing.registry import Login, RegistryClient
from tests.support.images import SampleImage, artifact, image, index

END_SECONDS = 180.0
_KIB = 1024
_EMPTY = Digest.of(b"{}")
"""The one blob that rounds share: the config of their signatures."""
_PLATFORMS = (("linux", "amd64"), ("linux", "arm64"), ("linux", "s390x"))


@dataclass(frozen=True)
class Registries:
    """The source and the target.

    Attributes:
        folders: the data of the two registries, from which finished rounds are removed.
    """

    source: str
    target: str
    folders: tuple[Path, ...]
    embedded: str | None = None
    login: Login | None = None


@dataclass(frozen=True)
class Order:
    """A request, and the share of the round's time after which it is sent."""

    at: float
    repository: str
    tags: tuple[str, ...]
    override: bool = False
    region: str = TARGET


@dataclass
class Round:
    """One round, in its own organization."""

    number: int
    registries: Registries
    images: dict[tuple[str, str], SampleImage]
    standing: dict[tuple[str, str], SampleImage]
    orders: tuple[Order, ...]
    job_ids: set[int] = field(default_factory=set)
    began: float = 0.0

    @property
    def organization(self) -> str:
        return f"r{self.number:04}"

    @property
    def ways(self) -> set[tuple[str, str, str]]:
        """Every requested region, repository and tag."""
        return {(order.region, order.repository, tag) for order in self.orders for tag in order.tags}

    @property
    def needed(self) -> dict[tuple[str, str], int]:
        """The blobs that have to be sent to the target, each once, by repository and digest, with their sizes."""
        standing = {(repository, digest) for (repository, _), s in self.standing.items() for digest in s.all_blobs}
        return {
            (self._name(repository), digest): len(content)
            for (repository, _), sample in self.images.items()
            for digest, content in sample.all_blobs.items()
            if (repository, digest) not in standing
        }

    def prepare(self) -> None:
        """Fill the source, and the part of the target that exists beforehand."""
        for url, images in ((self.registries.source, self.images), (self.registries.target, self.standing)):
            with RegistryClient(url) as client:
                for (repository, tag), sample in images.items():
                    client.push(self._name(repository), sample, tag)

    def begin(self, cluster: Cluster, seconds: float) -> None:
        """Send the requests in their own thread, over the given time."""
        self.began = time.time()

        def send() -> None:
            for order in self.orders:
                time.sleep(max(self.began + order.at * seconds - time.time(), 0.0))
                body = {
                    "imageTag": list(order.tags),
                    "override": order.override,
                    "remoteNamespace": self.organization,
                    "remoteRegionId": order.region,
                }
                self.job_ids.update(cluster.request(self.organization, order.repository, body))

        self._sender = threading.Thread(target=send)
        self._sender.start()

    def finish(self, table: JobTable) -> list[Job]:
        """Wait until all accepted jobs have ended; returns the jobs, also of requests without a response."""
        deadline = time.monotonic() + END_SECONDS
        self._sender.join(END_SECONDS)
        while True:
            jobs = table.jobs(self.organization)
            still = [job for job in jobs if job.is_open]
            if not still and not self._sender.is_alive():
                return jobs
            if time.monotonic() > deadline:
                raise RuntimeError(f"after {END_SECONDS:g} s these have not ended: {still}")
            time.sleep(0.05)

    def watched(self) -> Iterator[Watched]:
        """The tags that an observer reads, and finally has to find."""
        for region, repository, tag in sorted(self.ways):
            sample = self.images[repository, tag]
            signature = _signature_tag(sample)
            is_embedded = region == EMBEDDED
            yield Watched(
                url=(self.registries.embedded or "") if is_embedded else self.registries.target,
                repository=self._name(repository),
                tag=tag,
                digest=sample.digest,
                signature=signature if (repository, signature) in self.images else None,
                login=self.registries.login if is_embedded else None,
            )

    def remove(self) -> None:
        """Free the disk of both registries."""
        for folder in self.registries.folders:
            data = folder / "data/docker/registry/v2"
            shutil.rmtree(data / "repositories" / self.organization, ignore_errors=True)
            for sample in (*self.images.values(), *self.standing.values()):
                for digest in sample.all_blobs.keys() - {_EMPTY}:
                    hexadecimal = digest.partition(":")[2]
                    shutil.rmtree(data / "blobs/sha256" / hexadecimal[:2] / hexadecimal, ignore_errors=True)

    def _name(self, repository: str) -> str:
        return f"{self.organization}/{repository}"


def new_round(number: int, registries: Registries, rng: random.Random, *, large: int) -> Round:
    """Create a round's content; no two rounds share a blob.

    Args:
        number: the round's number.
        registries: the source and the target.
        rng: determines the content.
        large: bytes of the large layer.
    """
    seed = f"round {number} {rng.random()}"

    def layers(count: int, kib: int) -> list[bytes]:
        return [rng.randbytes(kib * _KIB) for _ in range(count)]

    shared = layers(3, 300)
    web = {("web", f"v{n}"): image(*shared, *layers(1, 100), seed=f"{seed} {n}") for n in range(1, 7)}
    signed = image(*layers(2, 200), seed=f"{seed} signed")
    placed = image(*layers(1, 200), seed=f"{seed} placed")
    moved = image(*layers(1, 200), seed=f"{seed} moved")
    images: dict[tuple[str, str], SampleImage] = {
        **web,
        ("multi", "all"): index(*(image(*layers(2, 200), seed=f"{seed} {p}", platform=p) for p in _PLATFORMS)),
        ("signed", "v1"): signed,
        ("signed", _signature_tag(signed)): artifact(payload=seed.encode()),
        ("large", "v1"): image(rng.randbytes(large), *layers(1, 100), seed=f"{seed} large"),
        ("placed", "v1"): placed,
        ("moved", "latest"): moved,
    }
    standing = {
        ("placed", "v1"): placed,
        ("moved", "latest"): image(*layers(1, 200), seed=f"{seed} before"),
    }
    orders = [
        Order(0.0, "large", ("v1",)),
        Order(0.0, "web", ("v1", "v2", "v3")),
        Order(0.1, "signed", ("v1",)),
        Order(0.2, "multi", ("all",)),
        Order(0.3, "web", ("v3", "v4", "v5", "v6")),
        Order(0.4, "moved", ("latest",), override=True),
        Order(0.5, "placed", ("v1",)),
        Order(0.7, "large", ("v1",)),
        Order(0.8, "web", ("v1", "v6")),
        Order(0.9, "multi", ("all",)),
    ]
    if registries.embedded:
        orders += [
            Order(0.25, "signed", ("v1",), region=EMBEDDED),
            Order(0.45, "web", ("v1", "v2"), region=EMBEDDED),
            Order(0.6, "multi", ("all",), region=EMBEDDED),
        ]
    return Round(number, registries, images, standing, tuple(sorted(orders, key=lambda order: order.at)))


def _signature_tag(sample: SampleImage) -> str:
    """Return cosign's tag for an image's signature."""
    return f"{sample.digest.replace(':', '-')}.sig"
