"""Flows pass through the engine only if allowed, and are counted."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tagferry.copy.bandwidth import BandwidthLimiter
from tagferry.copy.engine import CopyEngine
from tagferry.copy.progress import Progress
from tagferry.names import RepositoryName
from tagferry.oci.images import BlobOutcome, OpenBlob
from tagferry.oci.model import Descriptor
from tagferry.streams import Flow, Spliceable
from tests.support.images import image, push, read
from tests.support.memory_store import MemoryStore
from tests.unit.copy.stores import APP, COPY, V1, route

SAMPLE = image(b"first" * 100_000, b"second" * 100_000)


class MemoryFlow:
    """Bytes that the target passes on when it chooses."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._counts: list[Callable[[int], None]] = []
        self.size = len(content)

    def watch(self, count: Callable[[int], None]) -> None:
        self._counts.append(count)

    def bring(self) -> bytes:
        for count in self._counts:
            count(self.size)
        return self._content


class FlowingStore(MemoryStore):
    """A store that returns every blob as a chunk and a flow."""

    @asynccontextmanager
    async def read_blob(
        self, repository: RepositoryName, descriptor: Descriptor, *, offset: int = 0
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        async with super().read_blob(repository, descriptor, offset=offset) as chunks:
            yield Spliceable(chunks, lambda: self._pieces(repository, descriptor))

    async def _pieces(self, repository: RepositoryName, descriptor: Descriptor) -> AsyncIterator[bytes | Flow]:
        async with super().read_blob(repository, descriptor) as chunks:
            content = b"".join([chunk async for chunk in chunks])
        yield content[:1000]
        yield MemoryFlow(content[1000:])


class SplicingStore(MemoryStore):
    """A store that reads flows if it can."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.flowed = 0

    async def write_blob(
        self,
        repository: RepositoryName,
        descriptor: Descriptor,
        source: OpenBlob,
        *,
        mount_from: RepositoryName | None = None,
        force: bool = False,
    ) -> BlobOutcome:
        @asynccontextmanager
        async def passed(offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
            async with source(offset) as chunks:
                yield self._bring(chunks.pieces()) if isinstance(chunks, Spliceable) else chunks

        return await super().write_blob(repository, descriptor, passed, mount_from=mount_from, force=force)

    async def _bring(self, pieces: AsyncIterator[bytes | Flow]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            if isinstance(piece, MemoryFlow):
                self.flowed += piece.size
                yield piece.bring()
            elif isinstance(piece, bytes):
                yield piece
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("engine", "flows"),
    [
        (lambda: CopyEngine(), True),
        (lambda: CopyEngine(splice=False), False),
        (lambda: CopyEngine(bandwidth={"source": BandwidthLimiter(1e9)}), False),
    ],
    ids=["by default", "switched off", "at a limited rate"],
)
async def test_a_blob_is_spliced_only_if_nothing_has_to_inspect_it_and_is_counted(
    engine: Callable[[], CopyEngine], flows: bool
):
    source, target, progress = FlowingStore("source"), SplicingStore("target"), Progress()
    await push(source, APP, SAMPLE, V1)

    await engine().copy(route(source, target), V1, override=False, progress=progress)

    for descriptor in SAMPLE.manifest.blobs:
        assert await read(target, COPY, descriptor) == SAMPLE.all_blobs[descriptor.digest]
    size = sum(descriptor.size for descriptor in SAMPLE.manifest.blobs)
    assert (target.flowed > 0) is flows
    assert progress.bytes_done == progress.bytes_total == size
    assert sum(transfer.read for transfer in progress.transfers) == size
