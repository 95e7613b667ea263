"""A server that is killed in the middle of a large blob continues it after its restart."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tagferry.app import FirstAdmin, ensure_admin, open_app
from tagferry.cli.client import ManagementClient
from tagferry.names import Namespace, RegionId, Repository, RepositoryName, Tag
from tagferry.registry.api.app import RegistryApp
from tagferry.registry.storage.store import DiskStore
from tagferry.settings import Settings
from tests.acceptance import served
from tests.support.breaking_proxy import BreakingProxy, breaking_proxy
from tests.support.deployment import eventually
from tests.support.images import blob, image, push, read
from tests.support.open_authorizer import OpenAuthorizer
from tests.support.processes import free_port
from tests.support.serving import serving

MIB = 1024 * 1024
SIZE = 96 * MIB
PACE = 24_000_000
"""Bytes a second, so that the upload lasts long enough to be recorded and interrupted."""
EMBEDDED, ELSEWHERE = RegionId("cn-north-4"), RegionId("cn-south-1")
TEAM, APP, V1 = Namespace("team"), Repository("app"), Tag("v1")
NAME = RepositoryName.of(TEAM, APP)


@dataclass(frozen=True)
class Installation:
    """An installation with an embedded region, and one with a remote registry.

    Attributes:
        stores: both regions' images, accessed without the network; the embedded one only while no server runs.
        disks: their directories.
        link: the link to the remote registry.
    """

    folder: Path
    urls: dict[RegionId, str]
    admin: FirstAdmin
    stores: dict[RegionId, DiskStore]
    disks: dict[RegionId, Path]
    link: BreakingProxy

    async def copy_and_kill(self, source: RegionId, target: RegionId) -> int:
        """Start a sync, and kill the server once half of the layer has arrived; returns the job's id."""

        async def has_half_arrived() -> bool:
            return self.arrived(target) >= SIZE // 2

        with served.serving(self.folder, self.urls[EMBEDDED]) as server:
            body = {"imageTag": [V1], "remoteNamespace": TEAM, "remoteRegionId": target}
            async with self._client(source) as management:
                (job_id,) = (await management.start_sync(TEAM, APP, body)).tags
            await eventually(has_half_arrived, seconds=60)
            server.kill()
        return job_id

    async def finish(self, source: RegionId, job_id: int) -> dict[str, Any]:
        """Start the server again; returns the job once it has ended."""
        with served.serving(self.folder, self.urls[EMBEDDED]):
            async with self._client(source) as management:

                async def ended() -> dict[str, Any] | None:
                    (job,) = (await management.sync_jobs(TEAM, APP, [job_id])).values()
                    return None if job["status"] in ("waiting", "running") else job

                job = await eventually(ended, seconds=60)
                assert job is not None
                return job

    def arrived(self, target: RegionId) -> int:
        """Return the bytes of an unfinished layer on the target's disk."""
        return sum(path.stat().st_size for path in self.disks[target].rglob("_uploads/*"))

    @property
    def passed(self) -> int:
        """Return the bytes that passed the link, in either direction."""
        return self.link.sent + self.link.received

    def _client(self, region: RegionId) -> ManagementClient:
        return ManagementClient(self.urls[region], self.admin.key.access_key, self.admin.key.secret_key)


@pytest.fixture
async def installation(tmp_path: Path) -> AsyncIterator[Installation]:
    disks = {ELSEWHERE: tmp_path / "elsewhere"}
    elsewhere = await DiskStore.open(disks[ELSEWHERE])
    async with serving(RegistryApp(elsewhere, OpenAuthorizer())) as url, breaking_proxy(url) as link:
        addresses = {region: f"127.0.0.1:{free_port()}" for region in (EMBEDDED, ELSEWHERE)}
        (tmp_path / "tagferry.toml").write_text(
            f'[regions.{EMBEDDED}]\nlisten = "{addresses[EMBEDDED]}"\n'
            f'[regions.{ELSEWHERE}]\nlisten = "{addresses[ELSEWHERE]}"\nregistry = "{link.url}"\n'
            f"max_bytes_per_second = {PACE}\n"
        )
        settings = Settings.load(tmp_path / "tagferry.toml")
        async with open_app(settings) as app:
            admin = await ensure_admin(app.accounts)
            assert admin is not None
            user = await app.accounts.users.find(admin.name)
            for region in addresses:
                await app.accounts.organizations.create(user, region, TEAM)
        disks[EMBEDDED] = settings.data_dir / "registries" / EMBEDDED
        embedded = await DiskStore.open(disks[EMBEDDED])
        yield Installation(
            folder=tmp_path,
            urls={region: f"http://{address}" for region, address in addresses.items()},
            admin=admin,
            stores={EMBEDDED: embedded, ELSEWHERE: elsewhere},
            disks=disks,
            link=link,
        )
        await embedded.close()
    await elsewhere.close()


@pytest.mark.parametrize(
    ("source", "target"), [(EMBEDDED, ELSEWHERE), (ELSEWHERE, EMBEDDED)], ids=["uploading", "downloading"]
)
async def test_bytes_received_before_a_kill_are_not_sent_again(
    installation: Installation, source: RegionId, target: RegionId
):
    layer = random.Random(7).randbytes(SIZE)
    await push(installation.stores[source], NAME, image(layer), V1)

    job_id = await installation.copy_and_kill(source, target)
    left, passed = installation.arrived(target), installation.passed
    job = await installation.finish(source, job_id)

    assert job["status"] == "success", job
    assert SIZE // 2 <= left < SIZE
    assert installation.passed - passed <= SIZE - left + MIB
    assert await read(installation.stores[target], NAME, blob(layer)) == layer
