"""A layer is copied completely and verified, however often its connection breaks."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tagferry.copy.engine import CopyEngine
from tagferry.copy.route import Route
from tagferry.names import RepositoryName, Tag
from tagferry.registry.api.app import RegistryApp
from tagferry.registry.storage.store import DiskStore
from tagferry.remote import Endpoint, RemoteStore, Retry
from tests.support.breaking_proxy import BreakingProxy, breaking_proxy
from tests.support.docker_registry import docker_registry
from tests.support.images import image, push
from tests.support.open_authorizer import OpenAuthorizer
from tests.support.serving import serving

MIB = 1024 * 1024
SIZE = 256 * MIB
CHUNK = 4 * MIB
BUFFERS = sum(int(Path(f"/proc/sys/net/ipv4/tcp_{end}mem").read_text().split()[2]) for end in "rw")
"""Bytes of a connection that the kernel may hold, and that are lost if tagferry itself closes it."""
APP, COPY, V1 = RepositoryName("team/app"), RepositoryName("release/app"), Tag("v1")
EVERY_TENTH = [SIZE * tenth // 10 for tenth in range(1, 10)]


@dataclass
class Way:
    """A source with a large layer, and the links to it and to the target."""

    route: Route
    source: BreakingProxy
    target: BreakingProxy


@pytest.fixture(scope="module")
def layer() -> bytes:
    block = random.Random(7).randbytes(MIB)
    return b"".join(bytes([number]) + block[1:] for number in range(SIZE // MIB))


@pytest.fixture
async def way(tmp_path: Path, layer: bytes) -> AsyncIterator[Way]:
    """From CNCF's docker-registry to the embedded registry."""
    target_store = await DiskStore.open(tmp_path / "embedded")
    quick = Retry(attempts=3, base_delay=0.01)
    with docker_registry(tmp_path) as registry:
        async with (
            serving(RegistryApp(target_store, OpenAuthorizer())) as target_url,
            breaking_proxy(registry.url) as source_proxy,
            breaking_proxy(target_url) as target_proxy,
        ):
            source = RemoteStore(Endpoint(name="source", url=source_proxy.url), retry=quick)
            target = RemoteStore(Endpoint(name="target", url=target_proxy.url), retry=quick)
            await push(source, APP, image(layer), V1)
            source_proxy.received = 0
            yield Way(Route(source, APP, target, COPY), source_proxy, target_proxy)
            await source.close()
            await target.close()
    await target_store.close()


@pytest.fixture(params=[True, False], ids=["spliced", "seen"])
def engine(request: pytest.FixtureRequest) -> CopyEngine:
    return CopyEngine(splice=request.param)


async def arrives(way: Way, engine: CopyEngine) -> None:
    await engine.copy(way.route, V1, override=False)
    arrived = await way.route.target.get_manifest(COPY, V1)
    assert arrived.digest == (await way.route.source.get_manifest(APP, V1)).digest


async def test_a_source_that_breaks_at_every_tenth_sends_nothing_twice(way: Way, engine: CopyEngine):
    way.source.break_receiving(*EVERY_TENTH)

    await arrives(way, engine)

    assert way.source.breaks == 9
    assert way.source.received <= SIZE + 9 * CHUNK
    assert way.target.sent <= SIZE + MIB


async def test_a_target_that_breaks_at_every_tenth_is_sent_at_most_a_chunk_again(way: Way, engine: CopyEngine):
    way.target.break_sending(*EVERY_TENTH)

    await arrives(way, engine)

    assert way.target.breaks == 9
    assert way.target.sent <= SIZE + 9 * CHUNK
    assert way.source.received <= SIZE + 9 * BUFFERS
