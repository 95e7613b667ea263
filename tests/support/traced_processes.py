"""Two processes of one installation that are traced: one serves and copies nothing, the other one copies."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tagferry.names import RepositoryName, Tag
from tagferry.registry.api.app import RegistryApp
from tagferry.registry.storage.store import DiskStore
from tests.faults.killing.cluster import Cluster, cluster
from tests.support.deployment import eventually
from tests.support.images import SampleImage, push
from tests.support.open_authorizer import OpenAuthorizer
from tests.support.postgres import PostgresServer
from tests.support.processes import free_port
from tests.support.serving import serving

NORTH, SOUTH = "cn-north-4", "cn-south-1"
APP = RepositoryName("team/app")


@asynccontextmanager
async def two_processes(
    folder: Path, collector: str, postgres: PostgresServer, content: Mapping[Tag, SampleImage]
) -> AsyncIterator[Cluster]:
    """Run the processes, with two registries of others.

    Args:
        folder: for the installation and the registries.
        collector: the URL of the collector of their traces.
        postgres: has their database.
        content: the tags of `team/app` in the north.
    """
    stores = {region: await DiskStore.open(folder / region) for region in (NORTH, SOUTH)}
    for tag, sample in content.items():
        await push(stores[NORTH], APP, sample, tag)
    async with (
        serving(RegistryApp(stores[NORTH], OpenAuthorizer())) as north,
        serving(RegistryApp(stores[SOUTH], OpenAuthorizer())) as south,
    ):
        listen = f"127.0.0.1:{free_port()}"
        config = f"""
            data_dir = "data"
            log_format = "json"
            [tracing]
            endpoint = "{collector}"
            [regions.{NORTH}]
            listen = "{listen}"
            registry = "{north}"
            organizations = "open"
            [regions.{SOUTH}]
            registry = "{south}"
            organizations = "open"
        """
        with cluster(
            folder / "tagferry", config, f"http://{listen}", postgres.url(postgres.new_database())
        ) as programs:
            await asyncio.to_thread(programs.serve, "--max-concurrent-tags", "0")
            worker = programs.start("worker")

            async def is_working() -> bool:
                return worker.is_working

            await eventually(is_working, seconds=90)
            yield programs
    for store in stores.values():
        await store.close()
