"""Blobs are counted once for each tag, by how the target obtained them; bytes as they move, in both regions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tagferry.copy.engine import CopyEngine
from tagferry.metrics import BLOBS, BYTES
from tagferry.names import RepositoryName
from tagferry.oci.images import BlobOutcome, OpenBlob
from tagferry.oci.model import Descriptor
from tests.support.images import image, layer, push
from tests.support.metrics import growth
from tests.unit.copy.stores import APP, COPY, V1, V2, ScriptedStore, route

NEW = image(seed="new")
ELSEWHERE = RepositoryName("elsewhere/app")


class ResumingStore(ScriptedStore):
    """A store that has the first bytes of every blob from an earlier attempt."""

    async def write_blob(
        self, repository: RepositoryName, descriptor: Descriptor, source: OpenBlob, **terms: Any
    ) -> BlobOutcome:
        async with source(1) as chunks:
            rest = b"".join([chunk async for chunk in chunks])
        assert len(rest) == descriptor.size - 1

        @asynccontextmanager
        async def whole(_: int) -> AsyncIterator[AsyncIterator[bytes]]:
            async with source(0) as content:
                yield content

        return await super().write_blob(repository, descriptor, whole, **terms)


async def test_blobs_are_copied_mounted_or_present(source: ScriptedStore, target: ScriptedStore):
    shared = layer("shared")
    await push(source, APP, image(shared, seed="one"), V1)
    await push(source, APP, image(shared, seed="two"), V2)
    engine, blobs = CopyEngine(), growth(BLOBS)

    await engine.copy(route(source, target), V1, override=False)
    await engine.copy(route(source, target), V2, override=False)
    await engine.copy(route(source, target, to=ELSEWHERE), V1, override=False)

    counted = {outcome: count for (region, outcome), count in blobs().items() if region == target.name}
    each = len(image(shared, seed="one").blobs)
    assert counted == {"copied": 2 * each - 1, "present": 1, "mounted": each}


async def test_bytes_are_read_from_one_region_and_written_to_the_other(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, NEW, V1)
    moved = growth(BYTES)

    await CopyEngine().copy(route(source, target), V1, override=False)

    size = sum(map(len, NEW.blobs.values()))
    assert moved() == {(source.name, "read"): size, (target.name, "written"): size}


async def test_a_blob_that_continues_an_earlier_upload_is_resumed(source: ScriptedStore):
    target, blobs = ResumingStore("resuming"), growth(BLOBS)
    await push(source, APP, NEW, V1)

    await CopyEngine().copy(route(source, target), V1, override=False)

    assert blobs() == {("resuming", "resumed"): len(NEW.blobs)}
    assert await target.tag(COPY, V1) == NEW.digest
