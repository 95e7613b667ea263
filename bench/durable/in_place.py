"""SAME: one request of many tags that are up to date."""

import asyncio
import sys
from pathlib import Path

import uvloop

from bench.client import RegistryClient
from bench.content import KIB, many_tags
from bench.durable.call import sync_images
from bench.durable.installation import Installation, install
from bench.figures import Figures
from bench.measure import middle
from bench.registries import docker_registry
from bench.served import ORGANIZATION
from tests.support.postgres import PostgresServer

_REPOSITORY = "same"
GOAL = 0.3
"""Seconds."""


def measure(folder: Path, postgres: PostgresServer, *, tags: int, runs: int) -> Figures:
    """Copy the tags once, then request them repeatedly."""
    figures: Figures = {"tags": tags, "goal_s": GOAL}
    with docker_registry(folder / "source") as source:
        with RegistryClient(source.address) as client:
            images = many_tags(client, f"{ORGANIZATION}/{_REPOSITORY}", tags=tags, layer_size=2 * KIB)
        for name, url in (("sqlite", ""), ("postgresql", postgres.url(postgres.new_database()))):
            with docker_registry(folder / "target") as target:
                installation = install(folder / f"same-{name}", url, source=source.address, target=target.address)
                with installation.serve(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    seconds = runner.run(_calls(installation, images.tags, runs))
            print(f"SAME      {name:20} {middle(seconds):.3f} s", file=sys.stderr)
            figures[name] = {"median_s": round(middle(seconds), 3), "all_s": [round(one, 3) for one in seconds]}
    return figures


async def _calls(installation: Installation, tags: list[str], runs: int) -> list[float]:
    await sync_images(installation, _REPOSITORY, tags)
    spans = [await sync_images(installation, _REPOSITORY, tags) for _ in range(runs)]
    return [ended - begun for begun, ended in spans]
