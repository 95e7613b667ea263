"""Time and bandwidth limits of copies, and the organizations from which blobs may be mounted."""

import asyncio

import pytest

from tagferry.copy.bandwidth import BandwidthLimiter
from tagferry.copy.engine import CopyEngine, Limits
from tagferry.errors import Expired, NotFound
from tagferry.names import RepositoryName
from tests.support.images import image, push
from tests.unit.copy.stores import APP, COPY, V1, V2, ScriptedStore, route

LARGE = image(bytes(range(256)) * 400)
OTHERS = RepositoryName("others/secret")


async def test_a_copy_that_exceeds_its_time_limit_writes_no_tag(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, LARGE, V1)
    source.reading.clear()

    with pytest.raises(Expired, match=r"v1 exceeded its time limit of 0\.05 s"):
        await CopyEngine(Limits(tag_timeout_seconds=0.05)).copy(route(source, target), V1, override=False)

    assert await target.tag(COPY, V1) is None
    assert source.open_reads == 0


async def test_waiting_for_a_slot_does_not_count_towards_the_time_limit(source: ScriptedStore, target: ScriptedStore):
    for tag in (V1, V2):
        await push(source, APP, image(seed=tag), tag)
    engine = CopyEngine(Limits(tags=1, tag_timeout_seconds=5))
    source.reading.clear()
    first, second = (asyncio.create_task(engine.copy(route(source, target), tag, override=False)) for tag in (V1, V2))
    await source.being_read.wait()
    source.reading.set()

    await asyncio.gather(first, second)

    assert await target.tag(COPY, V2) is not None


@pytest.mark.parametrize("limited", ["source", "target"])
async def test_a_region_keeps_its_bandwidth_limit(source: ScriptedStore, target: ScriptedStore, limited: str):
    await push(source, APP, LARGE, V1)
    engine = CopyEngine(bandwidth={limited: BandwidthLimiter(200_000)})
    started = asyncio.get_running_loop().time()

    await engine.copy(route(source, target), V1, override=False)

    # 102,400 bytes at 200,000 bytes a second, less the allowed burst.
    assert asyncio.get_running_loop().time() - started >= 0.2


async def test_a_manifest_cannot_obtain_a_blob_of_another_organization(source: ScriptedStore, target: ScriptedStore):
    engine, secret = CopyEngine(), image(b"another organization's layer")
    await push(source, OTHERS, secret, V1)
    await push(source, APP, secret, V2)
    await engine.copy(route(source, target, to=OTHERS), V2, override=False)
    for digest in secret.blobs:
        await source.delete_blob(APP, digest)

    with pytest.raises(NotFound):
        await engine.copy(route(source, target), V2, override=False)

    for digest in secret.blobs:
        assert await target.stat_blob(COPY, digest) is None
