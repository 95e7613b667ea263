"""The server's memory does not grow with the size of the content."""

import asyncio
import json
import random
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tagferry.names import Digest, Namespace, RegionId, Repository, RepositoryName, Tag
from tagferry.oci.model import OCI_CONFIG, OCI_MANIFEST, Descriptor, Manifest
from tagferry.remote import Credentials, Endpoint, RemoteStore
from tests.acceptance.served import Secrets, Served, client, serving, tagferry
from tests.support import images
from tests.support.deployment import eventually
from tests.support.docker_registry import DockerRegistry, docker_registry
from tests.support.processes import free_port

pytestmark = pytest.mark.long

MIB = 1024 * 1024
LAYER_MIB = 1024
LIMIT = 200 * MIB
NORTH, SOUTH, EAST, WEST = (RegionId(name) for name in ("cn-north-4", "cn-south-1", "cn-east-3", "cn-west-3"))
ORGANIZATION, REPOSITORY, TAG = Namespace("team"), Repository("big"), Tag("v1")
NAME = RepositoryName.of(ORGANIZATION, REPOSITORY)


@dataclass(frozen=True)
class Installation:
    """Three embedded regions, and `cn-east-3` with a docker-registry behind it."""

    served: Served
    secrets: Secrets
    urls: dict[RegionId, str]
    registry: DockerRegistry

    async def sync(self, source: RegionId, target: RegionId) -> None:
        body = {"imageTag": [TAG], "remoteNamespace": ORGANIZATION, "remoteRegionId": target}
        async with client(self.urls[source], self.secrets) as management:
            started = await management.start_sync(ORGANIZATION, REPOSITORY, body)

            async def ended() -> dict[str, Any] | None:
                (job,) = (await management.sync_jobs(ORGANIZATION, REPOSITORY, list(started.tags))).values()
                return None if job["status"] in ("waiting", "running") else job

            job = await eventually(ended, seconds=60)
            assert job is not None
            assert (job["status"], job["bytesDone"]) == ("success", job["bytesTotal"]), job
            assert job["bytesTotal"] > LAYER_MIB * MIB


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    addresses = {region: f"127.0.0.1:{free_port()}" for region in (NORTH, SOUTH, EAST, WEST)}
    urls = {region: f"http://{address}" for region, address in addresses.items()}
    own = tmp_path / "docker-registry"
    own.mkdir()
    try:
        with docker_registry(own) as registry:
            regions = [part for region in addresses for part in ("--region", f"{region}={addresses[region]}")]
            secrets = Secrets.read(tagferry(tmp_path, "init", *regions).stdout)
            config = tmp_path / "tagferry.toml"
            east = f"[regions.{EAST}]\n"
            config.write_text(config.read_text().replace(east, f'{east}registry = "{registry.url}"\n'))
            with serving(tmp_path, urls[NORTH]) as served:
                yield Installation(served, secrets, urls, registry)
    finally:
        shutil.rmtree(tmp_path, ignore_errors=True)


async def test_layers_of_a_gibibyte_are_copied_in_little_memory(
    installation: Installation, record_property: Callable[[str, object], None]
) -> None:
    for url in installation.urls.values():
        async with client(url, installation.secrets) as management:
            await management.create_organization(ORGANIZATION)
    await push(installation)
    peaks = {"after the push": installation.served.peak_memory}

    for source, target in ((NORTH, SOUTH), (NORTH, EAST), (EAST, WEST)):
        await installation.sync(source, target)
        peaks[f"after {source} to {target}"] = installation.served.peak_memory

    record_property("peaks", json.dumps(peaks))
    assert max(peaks.values()) < LIMIT, {name: f"{peak / MIB:.0f} MiB" for name, peak in peaks.items()}


async def push(installation: Installation) -> None:
    """Push an image with one layer of 1 GiB into the first region, as docker does."""
    credentials = Credentials(username="admin", password=installation.secrets.password)
    store = RemoteStore(Endpoint(name="push", url=installation.urls[NORTH], credentials=credentials))
    config, layer = images.blob(b"{}", media_type=OCI_CONFIG), await asyncio.to_thread(described)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json()],
    }
    try:
        await store.write_blob(NAME, config, images.opening(b"{}"))
        await store.write_blob(NAME, layer, opened)
        await store.put_manifest(NAME, Manifest.parse(json.dumps(document).encode(), OCI_MANIFEST), TAG)
    finally:
        await store.close()


def pieces() -> Iterator[bytes]:
    """Return 1 GiB of pseudo-random bytes, in which no MiB equals another."""
    block = random.Random(7).randbytes(MIB - 8)
    return (number.to_bytes(8, "big") + block for number in range(LAYER_MIB))


@cache
def described() -> Descriptor:
    digest = sha256()
    for piece in pieces():
        digest.update(piece)
    return Descriptor(images.OCI_LAYER, Digest(f"sha256:{digest.hexdigest()}"), LAYER_MIB * MIB)


@asynccontextmanager
async def opened(offset: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
    async def streamed() -> AsyncIterator[bytes]:
        for start, piece in zip(range(0, LAYER_MIB * MIB, MIB), pieces(), strict=True):
            if start + MIB > offset:
                yield piece[max(0, offset - start) :]

    yield streamed()
