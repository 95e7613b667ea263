"""FIRST: from a request to the first byte of a blob."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import quantiles

import uvloop

from bench.client import RegistryClient
from bench.content import KIB, Author
from bench.durable.call import sync_images
from bench.durable.installation import Installation, install
from bench.durable.tap import Tap
from bench.figures import Figures
from bench.measure import Failed, middle
from bench.registries import DockerRegistry, docker_registry, free_address
from bench.served import ORGANIZATION
from tests.support.postgres import PostgresServer

_REPOSITORY = "first"
_WARM_UP = 3
_PAUSE_SECONDS = 0.1
"""Pause between two requests, so that the server has finished the one before."""
DIRECT, QUEUED = 0.030, 0.100
"""The goals in seconds, if the server itself runs the jobs and if a worker does."""


def measure(folder: Path, postgres: PostgresServer, *, requests: int) -> Figures:
    """Request one new image after the other at three kinds of installations."""
    total = _WARM_UP + requests
    with docker_registry(folder / "source") as source:
        tags = _images(source, total)
        return {
            "requests": requests,
            "sqlite": _one(folder, "", source, tags, workers=0, goal=DIRECT),
            "postgresql": _one(folder, postgres.url(postgres.new_database()), source, tags, workers=0, goal=DIRECT),
            "queue": _one(folder, postgres.url(postgres.new_database()), source, tags, workers=1, goal=QUEUED),
        }


def _images(source: DockerRegistry, number: int) -> list[str]:
    with RegistryClient(source.address) as client:
        author = Author(client, f"{ORGANIZATION}/{_REPOSITORY}")
        for serial in range(number):
            author.image(author.layers(1, KIB), tag=f"v{serial}")
    return author.images().tags


def _one(
    folder: Path, database: str, source: DockerRegistry, tags: Sequence[str], *, workers: int, goal: float
) -> Figures:
    tap, address = Tap(source.address), free_address()
    with docker_registry(folder / "target") as target, ExitStack() as stack:
        name = f"first-{'sqlite' if not database else 'queue' if workers else 'postgresql'}"
        installation = install(folder / name, database, source=address, target=target.address)
        stack.enter_context(installation.serve(*(["--max-concurrent-tags", "0"] if workers else [])))
        for number in range(workers):
            stack.enter_context(installation.worker(number))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            asked, moved = runner.run(_requests(installation, tap, address, tags))
    p95 = quantiles(moved, n=20, method="inclusive")[-1]
    print(f"FIRST     {name:20} {middle(moved) * 1000:.1f} ms, p95 {p95 * 1000:.1f} ms", file=sys.stderr)
    return {
        "median_ms": round(middle(moved) * 1000, 1),
        "p95_ms": round(p95 * 1000, 1),
        "worst_ms": round(max(moved) * 1000, 1),
        "first_question_median_ms": round(middle(asked) * 1000, 1),
        "goal_ms": round(goal * 1000),
        "all_ms": [round(one * 1000, 1) for one in moved],
    }


async def _requests(
    installation: Installation, tap: Tap, address: str, tags: Sequence[str]
) -> tuple[list[float], list[float]]:
    """Return the seconds to the first request to the source, and to the first one for a blob, of each request."""
    asked, moved = [], []
    async with tap.listening(address):
        for tag in tags:
            await asyncio.sleep(_PAUSE_SECONDS)
            tap.forget()
            begun, _ = await sync_images(installation, _REPOSITORY, [tag])
            if tap.first is None or tap.first_blob is None:
                raise Failed(f"nothing of {tag} was read from the source")
            asked.append(tap.first - begun)
            moved.append(tap.first_blob - begun)
    return asked[_WARM_UP:], moved[_WARM_UP:]
