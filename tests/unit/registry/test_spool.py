"""A growing file reaches the disk while it still grows."""

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tagferry.names import Digest
from tagferry.registry import spool as spool_module
from tagferry.registry.files import sync_file
from tagferry.registry.spool import PIECE, Spool
from tagferry.registry.threads import DiskThreads

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
        yield bytes(PIECE)


async def test_a_large_blob_is_synced_while_it_still_arrives(spool: Spool, monkeypatch: pytest.MonkeyPatch):
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

    assert await spool.extend(slow()) == LARGE * PIECE + len(b"the end")
    await spool.verify(Digest.of(bytes(LARGE * PIECE) + b"the end"))


async def test_a_small_blob_is_synced_once(spool: Spool, monkeypatch: pytest.MonkeyPatch):
    synced: list[Path] = []
    monkeypatch.setattr(spool_module, "sync_file", synced.append)

    await spool.extend(pieces(3))
    await spool.verify(Digest.of(bytes(3 * PIECE)))

    assert synced == [spool.path]


async def test_nothing_builds_on_bytes_that_the_disk_has_lost(spool: Spool, monkeypatch: pytest.MonkeyPatch):
    def lose(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(spool_module, "sync_file", lose)

    with pytest.raises(OSError, match="Input/output error"):
        await spool.extend(pieces(LARGE))
    with pytest.raises(FileNotFoundError):
        await spool.size()


async def test_work_that_can_be_left_out_takes_a_quarter_of_the_threads(threads: DiskThreads):
    go_on = threading.Event()
    first = threads.submit_spare(go_on.wait, 10)
    try:
        assert first is not None
        assert threads.submit_spare(go_on.wait, 10) is None
    finally:
        go_on.set()

    await first
    second = threads.submit_spare(go_on.wait, 10)
    assert second is not None
    await second
