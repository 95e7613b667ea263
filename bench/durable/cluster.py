"""CLUSTER: the same request with more and more workers, to a registry with high latency."""

import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path

import uvloop

from bench.client import RegistryClient
from bench.content import KIB, Author, Images
from bench.durable.call import sync_images
from bench.durable.installation import install
from bench.figures import Figures
from bench.link import Link, linked
from bench.measure import Failed
from bench.registries import DockerRegistry, by_kind, docker_registry
from bench.served import ORGANIZATION
from tests.support.postgres import PostgresServer

_REPOSITORY = "cluster"
_LINK = Link(rtt=0.1, rate=1e9 / 8)
_SHARED, _LAYER = 2, 20 * KIB
SLOTS = 2
"""The slots of each worker."""


def measure(folder: Path, postgres: PostgresServer, *, tags: int, workers: tuple[int, ...]) -> Figures:
    """Copy the same tags to an empty registry with each number of workers."""
    figures: Figures = {"tags": tags, "slots": SLOTS, "rtt_ms": round(_LINK.rtt * 1000), "workers": {}}
    with docker_registry(folder / "source") as source:
        images = _images(source, tags)
        figures["blobs"] = images.blobs
        for number in workers:
            seconds, requests = _run(folder, postgres, source, images, number)
            figures["workers"][str(number)] = {
                "s": round(seconds, 2),
                "speed_up": round(figures["workers"]["1"]["s"] / seconds, 2) if number > 1 else 1.0,
                "blobs_sent": requests.get("PUT upload 201", 0),
                "requests": sum(requests.values()),
                "requests_by_kind": requests,
            }
            sent = figures["workers"][str(number)]["blobs_sent"]
            print(f"CLUSTER   {number} workers {seconds:.2f} s, {sent} of {images.blobs} blobs sent", file=sys.stderr)
    return figures


def _images(source: DockerRegistry, tags: int) -> Images:
    """Push tags with a layer and a config of their own, and two layers that all share."""
    with RegistryClient(source.address) as client:
        author = Author(client, f"{ORGANIZATION}/{_REPOSITORY}")
        shared = author.layers(_SHARED, _LAYER)
        for serial in range(tags):
            author.image([*shared, *author.layers(1, _LAYER)], tag=f"v{serial}")
    return author.images()


def _run(
    folder: Path, postgres: PostgresServer, source: DockerRegistry, images: Images, workers: int
) -> tuple[float, dict[str, int]]:
    with docker_registry(folder / "target") as target, ExitStack() as stack:
        far = stack.enter_context(linked(_LINK, target.address))
        url = postgres.url(postgres.new_database())
        installation = install(folder / f"cluster-{workers}", url, source=source.address, target=far)
        stack.enter_context(installation.serve("--max-concurrent-tags", "0"))
        for number in range(workers):
            stack.enter_context(installation.worker(number, "--max-concurrent-tags", str(SLOTS)))
        target.forget_requests()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            begun, ended = runner.run(sync_images(installation, _REPOSITORY, images.tags))
        requests = by_kind(target.requests())
        with RegistryClient(target.address) as client:
            for tag, digest in images.digests.items():
                if (found := client.digest_of(images.repository, tag)) != digest:
                    raise Failed(f"{images.repository}:{tag} arrived as {found} instead of {digest}")
    return ended - begun, requests
