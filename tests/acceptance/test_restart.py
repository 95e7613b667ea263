"""The state that a server keeps across a restart."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tagferry.app import App, ensure_admin, open_app
from tagferry.names import Digest, Namespace, RegionId, Repository, RepositoryName, Tag
from tagferry.settings import Settings
from tagferry.sync.jobs.model import SyncRequest
from tests.support.docker_registry import DockerRegistry, docker_registry
from tests.support.images import index, push
from tests.support.processes import free_port

NORTH, SOUTH = RegionId("cn-north-4"), RegionId("cn-south-1")
TEAM, RELEASE = Namespace("team"), Namespace("release")
V1 = Tag("v1")


@asynccontextmanager
async def started(folder: Path, target: str) -> AsyncIterator[App]:
    """tagferry on the data of the previous one: an embedded region, and one with a remote registry."""
    regions = {NORTH: {"listen": f"127.0.0.1:{free_port()}"}, SOUTH: {"registry": target, "organizations": "open"}}
    async with open_app(Settings.parse({"data_dir": folder / "tagferry", "regions": regions})) as app:
        if await ensure_admin(app.accounts) is not None:
            admin = await app.accounts.users.find("admin")
            await app.accounts.organizations.create(admin, NORTH, TEAM)
        yield app


async def synchronize(app: App, repository: str) -> None:
    """Synchronize `v1` of a repository of the team to the other region."""
    request = SyncRequest(
        id=repository,
        caller=await app.accounts.users.find("admin"),
        source_region=NORTH,
        namespace=TEAM,
        repository=Repository(repository),
        tags=(V1,),
        target_region=SOUTH,
        target_namespace=RELEASE,
    )
    sync = app.services.swr.sync
    assert await sync.wait(await sync.start(request), seconds=30) == []


@pytest.fixture
def target(tmp_path: Path):
    with docker_registry(tmp_path) as registry:
        yield registry


async def test_after_a_restart_blobs_are_mounted_from_their_known_locations(target: DockerRegistry, tmp_path: Path):
    sample = index()
    async with started(tmp_path, target.url) as app:
        for repository in ("first", "second"):
            await push(app.services.swr.regions[NORTH].store, RepositoryName(f"team/{repository}"), sample, V1)
        await synchronize(app, "first")
    uploaded = [seen for seen in await target.requests() if seen.method == "PUT" and "/blobs/" in seen.path]
    target.forget_requests()

    async with started(tmp_path, target.url) as app:
        await synchronize(app, "second")

    asked = [seen for seen in await target.requests() if "/blobs/" in seen.path]
    assert len(uploaded) == len(sample.all_blobs)
    mounts = [seen for seen in asked if seen.method == "POST"]
    assert [seen.status for seen in mounts] == [201] * len(sample.all_blobs)
    assert all("from=release%2Ffirst" in seen.path for seen in mounts)
    # The target reports that it was mounted; that it exists is then checked.
    proofs = [(seen.method, seen.status) for seen in asked if seen not in mounts]
    assert proofs == [("HEAD", 200)] * len(sample.all_blobs)


async def test_after_a_restart_a_registry_is_not_asked_again_whether_it_lists_referrers(
    target: DockerRegistry, tmp_path: Path
):
    asked = []
    for _ in range(2):
        async with started(tmp_path, target.url) as app:
            store = app.services.swr.regions[SOUTH].store
            assert await store.list_referrers(RepositoryName("release/first"), Digest.of(b"subject")) == []
        asked.append([seen for seen in await target.requests() if "/referrers/" in seen.path])
        target.forget_requests()

    assert [len(seen) for seen in asked] == [1, 0]
