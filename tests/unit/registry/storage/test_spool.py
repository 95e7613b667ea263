"""A growing file is synced while it grows; reads return its content."""

import asyncio
import errno
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from tagferry.names import Digest
from tagferry.registry.storage import spool as spool_module
from tagferry.registry.storage.files import sync_file
from tagferry.registry.storage.spool import CHUNK_BYTES, Spool, read_ahead
from tagferry.registry.storage.threads import DiskFailed, DiskThreads

LARGE = 40


@pytest.fixture
def threads() -> Iterator[DiskThreads]:
    made = DiskThreads(4)
    yield made
    made.close()


@pytest.fixture
def spool(tmp_path: Path, threads: DiskThreads) -> Spool:
    path = tmp_path / "spool"
    path.touch()
    return Spool(path, threads)


async def pieces(number: int) -> AsyncIterator[bytes]:
    for _ in range(number):
        yield bytes(CHUNK_BYTES)


async def test_a_large_blob_is_synced_while_it_is_received(spool: Spool, monkeypatch: pytest.MonkeyPatch):
    synced = threading.Event()

    def sync(path: Path) -> None:
        sync_file(path)
        synced.set()

    async def slow() -> AsyncIterator[bytes]:
        async for piece in pieces(LARGE):
            yield piece
        assert await asyncio.to_thread(synced.wait, 10)
        yield b"the end"

    monkeypatch.setattr(spool_module, "sync_file", sync)

    assert await spool.extend(slow()) == LARGE * CHUNK_BYTES + len(b"the end")
    await spool.verify(Digest.of(bytes(LARGE * CHUNK_BYTES) + b"the end"))


async def test_a_small_blob_is_synced_once(spool: Spool, monkeypatch: pytest.MonkeyPatch):
    synced: list[Path] = []
    monkeypatch.setattr(spool_module, "sync_file", synced.append)

    await spool.extend(pieces(3))
    await spool.verify(Digest.of(bytes(3 * CHUNK_BYTES)))

    assert synced == [spool.path]


async def test_a_file_with_lost_pages_is_deleted(spool: Spool, monkeypatch: pytest.MonkeyPatch):
    def lose(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(spool_module, "sync_file", lose)

    with pytest.raises(DiskFailed, match="disk failed"):
        await spool.extend(pieces(LARGE))
    with pytest.raises(FileNotFoundError):
        await spool.size()


async def test_optional_work_uses_at_most_a_quarter_of_the_threads(threads: DiskThreads):
    proceed = threading.Event()
    first = threads.submit_optional(proceed.wait, 10)
    try:
        assert first is not None
        assert threads.submit_optional(proceed.wait, 10) is None
    finally:
        proceed.set()

    await first
    second = threads.submit_optional(proceed.wait, 10)
    assert second is not None
    await second


@pytest.mark.parametrize("in_memory", ["all", "nothing", "every second piece", "a few bytes at a time"])
async def test_a_file_is_read_whole_from_cache_and_disk(
    tmp_path: Path, threads: DiskThreads, monkeypatch: pytest.MonkeyPatch, in_memory: str
):
    path = tmp_path / "blob"
    content = random.Random(7).randbytes(3 * CHUNK_BYTES + 17)
    path.write_bytes(content)
    reads = count()

    def cached(_descriptor: int, size: int, offset: int) -> bytes | None:
        if in_memory == "nothing" or (in_memory == "every second piece" and next(reads) % 2):
            return None
        return content[offset : offset + (min(size, 1000) if in_memory.startswith("a few") else size)]

    monkeypatch.setattr(spool_module, "read_cached", cached)

    for offset, length in ((0, None), (5, None), (CHUNK_BYTES - 1, CHUNK_BYTES + 2), (len(content), None), (3, 0)):
        with path.open("rb") as file:
            read = b"".join([piece async for piece in read_ahead(file, threads, offset=offset, length=length)])
        assert read == content[offset : None if length is None else offset + length]


async def test_a_read_of_a_truncated_file_ends_early(tmp_path: Path, threads: DiskThreads):
    path = tmp_path / "blob"
    path.write_bytes(bytes(3 * CHUNK_BYTES))
    with path.open("rb") as file:
        pieces = read_ahead(file, threads, offset=0)
        first = await anext(pieces)
        os.truncate(path, CHUNK_BYTES)
        assert len(first) + sum([len(piece) async for piece in pieces]) <= 2 * CHUNK_BYTES


async def test_no_thread_reads_from_a_closed_file(
    tmp_path: Path, threads: DiskThreads, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "blob"
    path.write_bytes(bytes(3 * CHUNK_BYTES))
    reading, ended = threading.Event(), threading.Event()

    def slow(descriptor: int, size: int, offset: int) -> bytes:
        if offset:
            reading.set()
            time.sleep(0.2)
            ended.set()
        return bytes(size)

    monkeypatch.setattr(spool_module, "read_cached", lambda *_: None)
    monkeypatch.setattr("os.pread", slow)
    with path.open("rb") as file:
        pieces = read_ahead(file, threads, offset=0)
        await anext(pieces)
        await asyncio.to_thread(reading.wait, 10)
        await pieces.aclose()
        assert ended.is_set()
