"""Concurrent requests for one upload, and more uploads than are kept in memory."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from tagferry import bounds
from tagferry.errors import NotFound
from tagferry.names import Digest, RepositoryName
from tagferry.registry.storage.spool import CHUNK_BYTES
from tests.unit.registry.conftest import Registry

APP = RepositoryName("org/app")
CONTENT = bytes(range(256)) * 8192
DIGEST = Digest.of(CONTENT)


@asynccontextmanager
async def sending(registry: Registry, location: str) -> AsyncIterator[tuple[asyncio.Task[int], asyncio.Event]]:
    """A PATCH that has sent half of the content, and sends the rest once the event is set.

    Gives the task of its status, and the event.
    """
    proceed = asyncio.Event()

    async def stream() -> AsyncIterator[bytes]:
        yield CONTENT[: len(CONTENT) // 2]
        await proceed.wait()
        yield CONTENT[len(CONTENT) // 2 :]

    async def send() -> int:
        try:
            async with registry.http.patch(location, data=stream()) as response:
                return response.status
        except aiohttp.ClientError:
            return 0

    task = asyncio.create_task(send())
    path = registry.root / "repositories" / APP / "_uploads" / location.rpartition("/")[2]
    while path.exists() and path.stat().st_size < CHUNK_BYTES:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    try:
        yield task, proceed
    finally:
        proceed.set()
        await task


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_a_request_that_waits_too_long_for_another_is_refused(registry, monkeypatch, method):
    monkeypatch.setattr(bounds, "UPLOAD_WAIT_SECONDS", 0.1)
    location = await registry.start_upload()
    async with sending(registry, location) as (task, proceed):
        query = f"?digest={DIGEST}" if method == "PUT" else ""
        async with registry.http.request(method, f"{location}{query}", data=b"more") as response:
            (error,) = json.loads(await response.read())["errors"]
            assert (response.status, error["code"]) == (409, "BLOB_UPLOAD_INVALID")
        proceed.set()
        assert await task == 202
    async with registry.http.put(f"{location}?digest={DIGEST}") as response:
        assert response.status == 201


async def test_the_last_request_waits_for_the_chunk_before_it(registry):
    location = await registry.start_upload()
    async with sending(registry, location) as (task, proceed):
        end = asyncio.create_task(registry.http.put(f"{location}?digest={DIGEST}").__aenter__())
        await asyncio.sleep(0.05)
        proceed.set()
        async with await end as response:
            assert (await task, response.status) == (202, 201)
    async with registry.http.patch(location, data=b"more") as response:
        assert response.status == 404


async def test_of_concurrent_chunks_one_is_written_and_the_others_are_out_of_order(registry):
    location = await registry.start_upload()

    async def patch() -> tuple[int, str]:
        span = {"Content-Range": f"0-{len(CONTENT) - 1}"}
        async with registry.http.patch(location, data=io.BytesIO(CONTENT), headers=span) as response:
            return response.status, response.headers["Range"]

    statuses = sorted(await asyncio.gather(*(patch() for _ in range(4))))
    assert statuses == [(202, f"0-{len(CONTENT) - 1}"), *[(416, f"0-{len(CONTENT) - 1}")] * 3]


async def test_an_upload_cancelled_while_receiving_uses_no_more_disk_space(registry):
    location = await registry.start_upload()
    written = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal written
        while written < 256 * CHUNK_BYTES:
            written += CHUNK_BYTES
            yield bytes(CHUNK_BYTES)

    async def send() -> int:
        async with registry.http.patch(location, data=endless()) as response:
            return int(response.status)

    task = asyncio.create_task(send())
    while written < 4 * CHUNK_BYTES:  # noqa: ASYNC110
        await asyncio.sleep(0)
    async with registry.http.delete(location) as response:
        assert response.status == 204
    with suppress(aiohttp.ClientError):
        assert await task == 404
    assert written < 256 * CHUNK_BYTES


async def test_uploads_evicted_from_memory_continue(registry, monkeypatch):
    monkeypatch.setattr(bounds, "OPEN_UPLOADS", 3)
    locations = [await registry.start_upload() for _ in range(10)]
    for part in (CONTENT[:1_000_000], CONTENT[1_000_000:]):
        for location in locations:
            async with registry.http.patch(location, data=io.BytesIO(part)) as response:
                assert response.status == 202
    assert len(registry.store.uploads._spools) == 3
    for location in locations:
        async with registry.http.put(f"{location}?digest={DIGEST}") as response:
            assert response.status == 201
    with pytest.raises(NotFound):
        await registry.store.uploads.size(APP, locations[0].rpartition("/")[2])


async def test_an_upload_in_small_chunks_is_assembled(registry):
    location = await registry.start_upload()
    identifier = location.rpartition("/")[2]

    async def chunks(*, until: int = 0) -> AsyncIterator[bytes]:
        for start in range(0, until, 3):
            yield CONTENT[start : start + 3]

    assert await registry.store.uploads.append(APP, identifier, chunks(until=30_000)) == 30_000
    await registry.store.uploads.finish(APP, identifier, Digest.of(CONTENT[:30_000]), chunks())
