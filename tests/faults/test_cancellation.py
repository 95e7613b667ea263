"""A cancelled copy stops within a second and leaves nothing unfinished behind."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tagferry.copy.engine import CopyEngine
from tagferry.copy.route import Route
from tagferry.names import RepositoryName, Tag
from tagferry.oci.model import Descriptor
from tagferry.registry.api.app import RegistryApp
from tagferry.registry.storage.store import DiskStore
from tagferry.remote import Endpoint, RemoteStore
from tagferry.streams import Flow, Spliceable
from tests.support.access_log import Seen
from tests.support.deployment import NORTH, RELEASE, SOUTH, deployed, eventually
from tests.support.docker_registry import docker_registry
from tests.support.images import blob, image, push
from tests.support.memory_store import MemoryStore
from tests.support.open_authorizer import OpenAuthorizer
from tests.support.raw_server import listening
from tests.support.serving import serving

MIB = 1024 * 1024
APP, COPY, V1 = RepositoryName("team/app"), RepositoryName("release/app"), Tag("v1")


class StallingStore(MemoryStore):
    """A registry that sends half of a large blob, and then nothing more."""

    def __init__(self) -> None:
        super().__init__()
        self.stalled = asyncio.Semaphore(0)

    @asynccontextmanager
    async def read_blob(
        self, repository: RepositoryName, descriptor: Descriptor, *, offset: int = 0
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        async with super().read_blob(repository, descriptor, offset=offset) as chunks:
            yield self._half(chunks, descriptor.size) if descriptor.size > MIB else chunks

    async def _half(self, chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
        whole = b"".join([chunk async for chunk in chunks])
        for start in range(0, size // 2, MIB):
            yield whole[start : start + MIB]
        self.stalled.release()
        await asyncio.Event().wait()


@pytest.fixture
async def source() -> StallingStore:
    store = StallingStore()
    await push(store, APP, image(b"small", bytes(16 * MIB), bytes([1]) * 16 * MIB), V1)
    return store


async def cancel_in_the_middle(source: StallingStore, target: RemoteStore) -> None:
    copying = asyncio.create_task(CopyEngine().copy(Route(source, APP, target, COPY), V1, override=False))
    async with asyncio.timeout(20):
        for _ in range(2):
            await source.stalled.acquire()
    copying.cancel()
    async with asyncio.timeout(2):
        with pytest.raises(asyncio.CancelledError):
            await copying


def sessions(seen: Sequence[Seen]) -> tuple[int, set[str], set[str]]:
    """The number of opened upload sessions, and those that were completed or cancelled."""
    begun = [one for one in seen if one.method == "POST" and one.status == 202]
    stored = {one.path.partition("?")[0] for one in seen if one.method == "PUT" and one.status == 201}
    dropped = {one.path.partition("?")[0] for one in seen if one.method == "DELETE"}
    return len(begun), stored, dropped


async def test_a_cancelled_copy_leaves_no_upload_session_and_no_tag(tmp_path: Path, source: StallingStore):
    store = await DiskStore.open(tmp_path)
    async with serving(RegistryApp(store, OpenAuthorizer())) as url:
        target = RemoteStore(Endpoint(name="target", url=url))
        await cancel_in_the_middle(source, target)
        assert await target.head_manifest(COPY, V1) is None
        await target.close()
    await store.close()

    folders = await asyncio.to_thread(lambda: list(tmp_path.rglob("_uploads")))
    assert [folder.parent.name for folder in folders] == ["app"]
    assert [session for folder in folders for session in folder.iterdir()] == []


async def test_a_cancelled_copy_cancels_each_session_at_a_real_registry(tmp_path: Path, source: StallingStore):
    """Distribution 2.8 keeps the session of an interrupted upload until it purges it."""
    with docker_registry(tmp_path) as registry:
        target = RemoteStore(Endpoint(name="target", url=registry.url))
        await cancel_in_the_middle(source, target)
        seen = await registry.requests()
        await target.close()

    begun, stored, dropped = sessions(seen)
    # A small blob may be stored at the moment when it is dropped.
    assert begun == len(stored | dropped)
    assert len(dropped) >= 2


async def test_a_cancelled_job_cancels_each_session_and_writes_no_tag(tmp_path: Path, source: StallingStore):
    with docker_registry(tmp_path) as registry:
        async with deployed(
            tmp_path / "data", regions={NORTH: {"listen": ""}, SOUTH: {"registry": registry.url}}
        ) as ferry:
            ferry.replace(NORTH, source)
            job_ids = await ferry.start_sync(APP, [V1], RELEASE)
            async with asyncio.timeout(20):
                for _ in range(2):
                    await source.stalled.acquire()

            async with ferry.client() as client:
                assert await client.cancel_jobs(APP.namespace, APP.repository, {"jobs": job_ids}) == job_ids

            async def has_dropped_all() -> bool:
                begun, stored, dropped = sessions(await registry.requests())
                return len(dropped) >= 2 and begun == len(stored | dropped)

            await eventually(has_dropped_all, seconds=2)
            (job,) = await ferry.ended_jobs(APP, job_ids)
            assert (job["status"], job["reason"]) == ("cancel", "cancelled by admin")
            assert await ferry.store(SOUTH).head_manifest(COPY, V1) is None


async def test_a_blob_that_is_cancelled_between_two_connections_leaves_no_session(tmp_path: Path):
    half = 8 * MIB
    descriptor = blob(bytes(2 * half))
    flowing = asyncio.Event()

    async def stalling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * half) + bytes(half))
        await reader.read()

    async def watched(pieces: AsyncIterator[bytes | Flow]) -> AsyncIterator[bytes | Flow]:
        async for piece in pieces:
            if not isinstance(piece, bytes):
                piece.watch(lambda _size: flowing.set())
            yield piece

    store = await DiskStore.open(tmp_path)
    async with serving(RegistryApp(store, OpenAuthorizer())) as url, listening(stalling) as source_url:
        source = RemoteStore(Endpoint(name="source", url=source_url))
        target = RemoteStore(Endpoint(name="target", url=url))

        @asynccontextmanager
        async def opened(offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
            async with source.read_blob(APP, descriptor, offset=offset) as chunks:
                assert isinstance(chunks, Spliceable)
                yield Spliceable(chunks, lambda: watched(chunks.pieces()))

        writing = asyncio.create_task(target.write_blob(COPY, descriptor, opened))
        async with asyncio.timeout(20):
            await flowing.wait()
        writing.cancel()
        async with asyncio.timeout(1):
            with pytest.raises(asyncio.CancelledError):
                await writing
        await source.close()
        await target.close()
    await store.close()

    folders = await asyncio.to_thread(lambda: list(tmp_path.rglob("_uploads")))
    assert [session for folder in folders for session in folder.iterdir()] == []
