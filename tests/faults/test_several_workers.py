"""A faulty registry keeps no process from working for others: with one process, and with several workers."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tagferry.cli.client import ManagementClient
from tagferry.names import Digest, Namespace, Repository, RepositoryName, Tag
from tagferry.registry.api.app import RegistryApp
from tagferry.registry.storage.store import DiskStore
from tests.faults.killing.cluster import Cluster, Program, cluster
from tests.support.breaking_proxy import BreakingProxy, breaking_proxy
from tests.support.deployment import eventually
from tests.support.images import image, push
from tests.support.open_authorizer import OpenAuthorizer
from tests.support.postgres import PostgresServer
from tests.support.processes import free_port
from tests.support.serving import serving

pytestmark = pytest.mark.timeout(300)

NORTH, EAST, SOUTH = "cn-north-4", "cn-east-3", "cn-south-1"
TEAM, APP = Namespace("team"), Repository("app")
NAME = RepositoryName.of(TEAM, APP)
SLOTS = 4
TAGS = [Tag(f"v{number}") for number in range(60)]

Poison = Callable[[Tag], bytes | None]
"""A registry's response in place of a tag's manifest; None for the manifest itself."""


@dataclass
class Poisoned:
    """A registry that does not check what it serves."""

    app: Any
    poison: Poison

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        content = self.poison(Tag(path.rpartition("/")[2])) if "/manifests/v" in path else None
        if content is None:
            await self.app(scope, receive, send)
            return
        headers = {
            "content-type": json.loads(content)["mediaType"],
            "content-length": str(len(content)),
            "docker-content-digest": str(Digest.of(content)),
        }
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": encoded})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})


@dataclass(frozen=True)
class Installation:
    """Processes with three regions with remote registries.

    Attributes:
        link: the link to the registry in the east.
        workers: the number of processes that copy.
    """

    cluster: Cluster
    link: BreakingProxy
    workers: int

    def client(self) -> ManagementClient:
        assert self.cluster.secrets is not None
        return ManagementClient(self.cluster.url, self.cluster.secrets.access_key, self.cluster.secrets.secret_key)

    async def request(self, target: str, *tags: Tag) -> list[int]:
        """Synchronize tags; returns the ids of their jobs."""
        body = {"imageTag": list(tags), "remoteNamespace": TEAM, "remoteRegionId": target}
        async with self.client() as client:
            return list((await client.start_sync(TEAM, APP, body)).tags)

    async def jobs(self, ids: list[int]) -> list[dict[str, Any]]:
        async with self.client() as client:
            return list((await client.sync_jobs(TEAM, APP, ids)).values())

    async def count(self, ids: list[int], *statuses: str) -> int:
        return sum(job["status"] in statuses for job in await self.jobs(ids))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Empty for SQLite, with which one process works; PostgreSQL serves several."""
    if request.param == "sqlite":
        return ""
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.url(server.new_database())


@asynccontextmanager
async def installed(folder: Path, database_url: str, poison: Poison = lambda _: None) -> AsyncIterator[Installation]:
    """Sixty tags in the north, and processes that copy four at once each."""
    stores = {region: await DiskStore.open(folder / region) for region in (NORTH, EAST, SOUTH)}
    for tag in TAGS:
        await push(stores[NORTH], NAME, image(seed=tag), tag)
    apps = {region: RegistryApp(store, OpenAuthorizer()) for region, store in stores.items()}
    listen = f"127.0.0.1:{free_port()}"
    async with (
        serving(Poisoned(apps[NORTH], poison)) as north,
        serving(apps[EAST]) as east,
        serving(apps[SOUTH]) as south,
        breaking_proxy(east) as link,
    ):
        config = f"""
            data_dir = "data"
            log_format = "json"
            [sync]
            max_concurrent_tags = {SLOTS}
            drain_timeout_seconds = 2
            [regions.{NORTH}]
            listen = "{listen}"
            registry = "{north}"
            organizations = "open"
            [regions.{EAST}]
            registry = "{link.url}"
            organizations = "open"
            [regions.{SOUTH}]
            registry = "{south}"
            organizations = "open"
        """
        with cluster(folder / "tagferry", config, f"http://{listen}", database_url) as programs:
            await asyncio.to_thread(programs.serve, *(["--max-concurrent-tags", "0"] if database_url else []))
            workers = [programs.start("worker") for _ in range(2 if database_url else 0)]

            async def all_work() -> bool:
                return all(worker.is_working for worker in workers)

            await eventually(all_work, seconds=90)
            yield Installation(programs, link, workers=len(workers) or 1)
    for store in stores.values():
        await store.close()


async def test_a_region_that_stops_answering_while_it_holds_all_slots_delays_no_other(
    tmp_path: Path, database_url: str
):
    async with installed(tmp_path, database_url) as installation:
        east = await installation.request(EAST, *TAGS)

        async def some_are_done() -> bool:
            return await installation.count(east, "success") > 0

        await eventually(some_are_done, seconds=60)
        installation.link.is_open.clear()

        async def all_slots_are_held() -> bool:
            return await installation.count(east, "running") >= SLOTS * installation.workers

        await eventually(all_slots_are_held, seconds=60)
        south = await installation.request(SOUTH, *TAGS[:12])

        async def others_are_done() -> bool:
            return await installation.count(south, "success") == len(south)

        # A request that is never answered holds its slot for a minute.
        await eventually(others_are_done, seconds=45)
        assert await installation.count(east, "failed", "timeout") == 0

        for program in installation.cluster.programs:
            program.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await asyncio.gather(*map(ended, installation.cluster.programs)) == [0] * len(
                installation.cluster.programs
            )


def odd(**differs: Any) -> bytes:
    digest = Digest.of(b"content")
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 2}
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": 5} | differs
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [layer],
    }
    return json.dumps(document).encode()


POISON = {
    TAGS[3]: odd(size=2**63),
    TAGS[9]: odd(size=2**63 - 1),
    TAGS[14]: odd(size=10**400),
    TAGS[21]: odd(size=-1),
    TAGS[28]: odd(mediaType="application/x\ud800"),
    TAGS[33]: odd(mediaType="application/\x00x"),
    TAGS[40]: odd(mediaType="\u202e" * 5000),
    TAGS[47]: odd(annotations={"a": "\x00\udfff"}),
    TAGS[55]: odd(urls=["\x00"]),
}


async def test_each_invalid_manifest_fails_alone_and_once(tmp_path: Path, database_url: str):
    async with installed(tmp_path, database_url, POISON.get) as installation:
        ids = await installation.request(SOUTH, *TAGS)

        async def all_ended() -> bool:
            return await installation.count(ids, "waiting", "running") == 0

        await eventually(all_ended, seconds=90)
        jobs = await installation.jobs(ids)
        assert {job["tag"] for job in jobs if job["status"] != "success"} == set(POISON), jobs
        assert all(job["reason"] for job in jobs if job["tag"] in POISON)
        assert {job["attempts"] for job in jobs} <= {0, 1}


async def ended(program: Program) -> int:
    """The exit code of a program."""
    return await asyncio.to_thread(program.process.wait, 30)
