"""The copy of a large blob resumes where an earlier attempt or process ended."""

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from tagferry.errors import Corrupt, Unavailable
from tagferry.names import RepositoryName
from tagferry.oci.images import BlobOutcome
from tagferry.registry.storage.blobs import BlobFiles
from tagferry.registry.storage.spool import CHUNK_BYTES
from tagferry.registry.storage.store import DiskStore
from tests.support.deployment import eventually
from tests.support.images import blob, opening, read
from tests.unit.registry.storage.test_storage import DAY, files, make_old

APP, OTHER = RepositoryName("org/app"), RepositoryName("org/other")
CONTENT = bytes(range(256)) * 20_000
SIZE = len(CONTENT)
HALF = SIZE // 2
CHUNK = 100_000
WRITTEN = 2 * ceil(CHUNK_BYTES / CHUNK) * CHUNK
"""The part of three chunks that is on disk: two are full; the third is still in memory."""


@dataclass
class Source:
    """A blob's source that ends after some bytes, and remembers from where it was read.

    Attributes:
        upto: how many bytes of the blob it has before it ends.
        fails: what it raises then; without it, it is stuck.
    """

    content: bytes = CONTENT
    upto: int = SIZE
    fails: Exception | None = None
    offsets: list[int] = field(default_factory=list)
    is_stuck: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def __call__(self, offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
        self.offsets.append(offset)
        yield self._chunks(offset)

    async def _chunks(self, offset: int) -> AsyncIterator[bytes]:
        for start in range(offset, self.upto, CHUNK):
            yield self.content[start : min(start + CHUNK, self.upto)]
        if self.fails is not None:
            raise self.fails
        if self.upto < len(self.content):
            self.is_stuck.set()
            await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blobs from 1000 bytes are resumed."""
    monkeypatch.setattr("tagferry.registry.storage.incoming.RESUMABLE_BYTES", 1000)


def incoming(tmp_path: Path, content: bytes = CONTENT) -> Path:
    name = blob(content).digest.replace(":", "-")
    return tmp_path / "region/repositories/org/app/_uploads" / name


async def leave_half(store: DiskStore) -> None:
    with pytest.raises(Unavailable):
        await store.write_blob(APP, blob(CONTENT), Source(upto=HALF, fails=Unavailable("the source is away")))


async def test_the_next_process_resumes_where_the_last_one_was_killed(tmp_path: Path):
    killed = await DiskStore.open(tmp_path / "region")
    writing = asyncio.create_task(killed.write_blob(APP, blob(CONTENT), Source(upto=3 * CHUNK_BYTES)))

    async def are_pieces_written() -> bool:
        return incoming(tmp_path).exists() and incoming(tmp_path).stat().st_size == WRITTEN

    await eventually(are_pieces_written)
    left = incoming(tmp_path).read_bytes()
    rest = Source()

    async with asyncio.timeout(60):
        store = await DiskStore.open(tmp_path / "region")
        await store.write_blob(APP, blob(CONTENT), rest)

    assert CONTENT.startswith(left)
    assert rest.offsets == [WRITTEN]
    assert await read(store, APP, blob(CONTENT)) == CONTENT
    assert not incoming(tmp_path).exists()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await killed.close()
    await store.close()


async def test_a_failed_source_is_resumed_where_it_failed(store: DiskStore):
    await leave_half(store)
    rest = Source()

    await store.write_blob(APP, blob(CONTENT), rest)

    assert rest.offsets == [HALF]
    assert await read(store, APP, blob(CONTENT)) == CONTENT


async def test_a_cancelled_write_is_resumed(store: DiskStore):
    stuck, rest = Source(upto=HALF), Source()
    writing = asyncio.create_task(store.write_blob(APP, blob(CONTENT), stuck))
    async with asyncio.timeout(60):
        await stuck.is_stuck.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing

    await store.write_blob(APP, blob(CONTENT), rest)

    assert rest.offsets == [HALF]


async def test_a_complete_file_is_not_requested_again_after_a_kill(store: DiskStore, tmp_path: Path):
    path = incoming(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    source = Source()

    await store.write_blob(APP, blob(CONTENT), source)

    assert source.offsets == []
    assert await read(store, APP, blob(CONTENT)) == CONTENT


@pytest.mark.parametrize(
    "left", [bytes(HALF), CONTENT[:-1] + b"x", CONTENT + b"more"], ids=["lost pages", "wrong end", "too long"]
)
async def test_a_wrong_partial_file_is_received_again(store: DiskStore, tmp_path: Path, left: bytes):
    path = incoming(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(left)

    await store.write_blob(APP, blob(CONTENT), Source())

    assert await read(store, APP, blob(CONTENT)) == CONTENT
    assert not path.exists()


@pytest.mark.parametrize(
    "wrong", [b"x" + CONTENT[1:-1] + b"x", CONTENT[:-1], CONTENT + b"x"], ids=["bytes", "short", "long"]
)
async def test_wrong_content_is_corrupt_and_leaves_no_partial_file(store: DiskStore, tmp_path: Path, wrong: bytes):
    await leave_half(store)

    with pytest.raises(Corrupt):
        await store.write_blob(APP, blob(CONTENT), opening(wrong))

    assert files(tmp_path / "region") == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
async def test_a_failing_disk_keeps_no_partial_file(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    def fail(_path: Path) -> None:
        raise OSError(number, "the disk")

    monkeypatch.setattr("tagferry.registry.storage.spool.sync_file", fail)
    with pytest.raises((Unavailable, OSError)):
        await store.write_blob(APP, blob(CONTENT), Source())

    assert files(tmp_path / "region") == []


async def test_concurrent_writes_use_separate_files(store: DiskStore):
    stuck, whole = Source(upto=HALF), Source()
    first = asyncio.create_task(store.write_blob(APP, blob(CONTENT), stuck))
    async with asyncio.timeout(60):
        await stuck.is_stuck.wait()

    await store.write_blob(APP, blob(CONTENT), whole, force=True)

    assert whole.offsets == [0]
    assert await read(store, APP, blob(CONTENT)) == CONTENT
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_partial_file_is_neither_a_blob_nor_an_upload(store: DiskStore, tmp_path: Path):
    await leave_half(store)

    assert incoming(tmp_path).exists()
    assert await store.stat_blob(APP, blob(CONTENT).digest) is None
    assert [name async for name in store.list_repositories()] == []
    with pytest.raises(Exception, match="upload"):
        await store.uploads.size(APP, incoming(tmp_path).name)


async def test_an_abandoned_partial_file_is_deleted_after_a_day(store: DiskStore, tmp_path: Path):
    await leave_half(store)
    await store.garbage.remove_leftovers()
    assert incoming(tmp_path).exists()

    make_old(incoming(tmp_path), DAY + 60)
    await store.garbage.collect(grace_seconds=0)

    assert files(tmp_path / "region") == []


async def test_a_small_blob_leaves_no_partial_file(store: DiskStore, tmp_path: Path):
    with pytest.raises(Unavailable):
        await store.write_blob(
            OTHER, blob(CONTENT[:999]), Source(content=CONTENT[:999], upto=500, fails=Unavailable("away"))
        )

    assert files(tmp_path / "region") == []


async def test_a_blob_that_is_deleted_while_it_is_stored_can_be_synchronized_again(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, content = BlobFiles.commit, b"content"

    def deleted(self: BlobFiles, spooled: Path, *given: Any) -> None:
        spooled.unlink()
        commit(self, spooled, *given)

    with monkeypatch.context() as patched:
        patched.setattr(BlobFiles, "commit", deleted)
        with pytest.raises(Unavailable, match="was deleted while it was stored"):
            await store.write_blob(APP, blob(content), opening(content))
    assert await store.stat_blob(APP, blob(content).digest) is None

    assert await store.write_blob(APP, blob(content), opening(content)) is BlobOutcome.UPLOADED
