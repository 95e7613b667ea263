"""Registries that limit requests per second, and always ask for a retry in a second, fail no tag."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tagferry.concurrency import gather
from tagferry.copy.engine import CopyEngine
from tagferry.copy.route import Route
from tagferry.names import RepositoryName, Tag
from tagferry.registry.api.app import RegistryApp
from tagferry.registry.storage.store import DiskStore
from tagferry.remote import Endpoint, RemoteStore
from tests.support.images import image, layer, push
from tests.support.memory_store import MemoryStore
from tests.support.open_authorizer import OpenAuthorizer
from tests.support.rate_limit import Bucket, RateLimited
from tests.support.serving import serving

APP, COPY = RepositoryName("team/app"), RepositoryName("release/app")
SHARED = [layer(f"shared {number}", 50_000) for number in range(3)]
IMAGES = {
    Tag(f"v{number}"): image(*SHARED, *(layer(f"{part} of {number}", 50_000) for part in range(8)), seed=str(number))
    for number in range(20)
}


@asynccontextmanager
async def limited(folder: Path, bucket: Bucket) -> AsyncIterator[tuple[RemoteStore, RateLimited, DiskStore]]:
    """A registry on disk behind a limit, as a remote store."""
    store = await DiskStore.open(folder)
    app = RateLimited(RegistryApp(store, OpenAuthorizer()), bucket)
    async with serving(app) as url:
        remote = RemoteStore(Endpoint(name="limited", url=url))
        yield remote, app, store
        await remote.close()
    await store.close()


async def copy_all(route: Route) -> None:
    engine = CopyEngine()
    await gather(*(engine.copy(route, tag, override=False) for tag in IMAGES))
    for tag, sample in IMAGES.items():
        found = await route.target.head_manifest(route.target_repository, tag)
        assert found is not None
        assert found.digest == sample.digest


@pytest.fixture
def bucket() -> Bucket:
    return Bucket(rate=50, most=20)


async def test_a_target_that_limits_the_rate_gets_all_tags(tmp_path: Path, bucket: Bucket):
    source = MemoryStore("source")
    for tag, sample in IMAGES.items():
        await push(source, APP, sample, tag)
    async with limited(tmp_path, bucket) as (target, app, _):
        await copy_all(Route(source, APP, target, COPY))

    # Most of them, about the bucket's capacity, were in flight when the limit was first reached.
    assert app.refused < app.granted / 4


async def test_a_source_that_limits_the_rate_provides_all_tags(tmp_path: Path, bucket: Bucket):
    target = MemoryStore("target")
    async with limited(tmp_path, bucket) as (source, app, disk):
        for tag, sample in IMAGES.items():
            await push(disk, APP, sample, tag)
        await copy_all(Route(source, APP, target, COPY))

    assert app.refused < app.granted / 4
