"""Two servers for a balancer in front of them, which copy nothing, and a worker; their sources can be halted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from tagferry.names import RepositoryName, Tag
from tagferry.registry.api.app import RegistryApp
from tagferry.registry.storage.store import DiskStore
from tests.acceptance.served import Secrets
from tests.faults.killing.cluster import Program, cluster
from tests.support.deployment import eventually
from tests.support.images import image, push
from tests.support.open_authorizer import OpenAuthorizer
from tests.support.processes import free_port
from tests.support.serving import serving

NORTH, SOUTH = "cn-north-4", "cn-south-1"
NAME = RepositoryName("team/web")
LAYER = b"l" * 4_000_000
"""Larger than one piece of a response, so that a part of it arrives."""
SAMPLES = {Tag(f"v{number}"): image(LAYER + bytes([number]), seed=str(number)) for number in range(1, 5)}


@dataclass
class Halting:
    """A registry that sends the first half of a layer, and the rest only when it is released."""

    app: Any
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_half(message: Any) -> None:
            body = message.get("body", b"")
            if message["type"] == "http.response.body" and len(body) > 100_000 and not self.released.is_set():
                half = len(body) // 2
                await send({**message, "body": body[:half], "more_body": True})
                await self.released.wait()
                message = {**message, "body": body[half:]}
            await send(message)

        # The registry must not send the layer past this application.
        inner = {**scope, "extensions": {}} if scope["type"] == "http" else scope
        await self.app(inner, receive, send_half if "/blobs/" in scope.get("path", "") else send)


@dataclass(frozen=True)
class BalancedServers:
    """The servers and what they share.

    Attributes:
        programs: the servers by their addresses.
        source: the registry that is copied from.
        password: that of the administrator.
    """

    programs: dict[str, Program]
    source: Halting
    password: str


@asynccontextmanager
async def balanced_servers(folder: Path, database_url: str, balancer: str) -> AsyncIterator[BalancedServers]:
    """Run two servers and a worker of one database, and the registries of two regions.

    Args:
        folder: for the programs and the registries.
        database_url: an empty database.
        balancer: the address of the balancer, which is the address of the region for clients.
    """
    stores = {region: await DiskStore.open(folder / region) for region in (NORTH, SOUTH)}
    for tag, sample in SAMPLES.items():
        await push(stores[NORTH], NAME, sample, tag)
    halting = Halting(RegistryApp(stores[NORTH], OpenAuthorizer()))
    key = Fernet.generate_key().decode()
    async with (
        serving(halting) as north,
        serving(RegistryApp(stores[SOUTH], OpenAuthorizer())) as south,
    ):
        with ExitStack() as stack:
            servers: dict[str, Program] = {}
            secrets: Secrets | None = None
            for address in (f"127.0.0.1:{free_port()}" for _ in range(2)):
                config = _config(key, north, south, address, balancer)
                programs = stack.enter_context(
                    cluster(folder / address.partition(":")[2], config, f"http://{address}", database_url)
                )
                # Only the first process of a database creates the administrator, and has the secrets.
                programs.secrets = secrets
                servers[address] = await asyncio.to_thread(programs.serve, "--max-concurrent-tags", "0")
                secrets = programs.secrets
            assert secrets is not None
            worker = programs.start("worker")

            async def works() -> bool:
                return worker.is_working

            await eventually(works, seconds=90)
            yield BalancedServers(servers, halting, secrets.password)
    for store in stores.values():
        await store.close()


def _config(key: str, north: str, south: str, address: str, balancer: str) -> str:
    return f"""
        data_dir = "data"
        log_format = "json"
        secret_key = "{key}"
        [regions.{NORTH}]
        listen = "{address}"
        public_url = "http://{balancer}"
        registry = "{north}"
        organizations = "open"
        [regions.{SOUTH}]
        registry = "{south}"
        organizations = "open"
    """
