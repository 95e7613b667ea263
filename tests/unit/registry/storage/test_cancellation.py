"""Cancellation while a thread works leaves no open file, and no upload that others may change."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tagferry.errors import NotFound
from tagferry.names import Digest, RepositoryName
from tagferry.registry.storage.blobs import BlobFiles
from tagferry.registry.storage.page_cache import PageCache
from tagferry.registry.storage.spool import CHUNK_BYTES, Spool
from tagferry.registry.storage.store import DiskStore
from tagferry.registry.storage.threads import DiskThreads
from tests.support.images import blob, opening, read

APP = RepositoryName("team/app")


async def nothing() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content


def blocked(monkeypatch: pytest.MonkeyPatch, owner: type, method: str) -> tuple[threading.Event, threading.Event]:
    """Let the first call of a method set one event, and wait for the other."""
    original = getattr(owner, method)
    began, proceed = threading.Event(), threading.Event()

    def wait(*given: Any) -> Any:
        if not began.is_set():
            began.set()
            proceed.wait()
        return original(*given)

    monkeypatch.setattr(owner, method, wait)
    return began, proceed


async def cancel_at_once(work: Coroutine[Any, Any, object]) -> None:
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_spool_opened_for_a_cancelled_caller_is_closed(tmp_path: Path):
    path = tmp_path / "spool"
    path.touch()
    threads = DiskThreads()

    await cancel_at_once(Spool(path, threads).extend(nothing()))

    await asyncio.to_thread(threads.close)
    await asyncio.sleep(0)
    # An unclosed file would warn here, and warnings are errors.
    gc.collect()


async def test_the_error_of_abandoned_work_is_retrieved(tmp_path: Path):
    threads = DiskThreads()
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))

    await cancel_at_once(threads.run((tmp_path / "absent").unlink))

    await asyncio.to_thread(threads.close)
    await asyncio.sleep(0)
    gc.collect()
    assert not reports


async def test_a_blob_opened_for_a_cancelled_caller_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Otherwise the event loop opens it, if it is in memory.
    monkeypatch.setattr(PageCache, "_is_supported", lambda _: False)
    store = await DiskStore.open(tmp_path)
    await store.write_blob(APP, blob(b"content"), opening(b"content"))

    async def read() -> None:
        async with store.read_blob(APP, blob(b"content")):
            pass

    for _ in range(20):
        await cancel_at_once(read())

    await store.close()
    await asyncio.sleep(0)
    gc.collect()


@pytest.mark.parametrize("size", [1000, 2 * CHUNK_BYTES])
async def test_an_upload_stays_locked_until_a_cancelled_request_has_stored_it(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, size: int
):
    content = bytes(size)
    stored = blob(content)
    identifier = await store.uploads.start(APP)
    began, proceed = blocked(monkeypatch, BlobFiles, "_make_durable")
    first = asyncio.create_task(
        store.uploads.finish(APP, identifier, stored.digest, chunks(content), announced=len(content))
    )
    await asyncio.to_thread(began.wait)

    first.cancel()
    second = asyncio.create_task(store.uploads.append(APP, identifier, chunks(b"more"), announced=4))
    await asyncio.wait((second,), timeout=0.1)
    proceed.set()

    with pytest.raises(NotFound):
        await second
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await read(store, APP, stored) == content


@pytest.mark.parametrize("size", [1000, 2 * CHUNK_BYTES])
async def test_an_upload_stays_locked_until_a_cancelled_request_has_written_to_it(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, size: int
):
    identifier = await store.uploads.start(APP)
    began, proceed = blocked(monkeypatch, Spool, "_write")
    first = asyncio.create_task(store.uploads.append(APP, identifier, chunks(bytes(size)), announced=size))
    await asyncio.to_thread(began.wait)

    first.cancel()
    second = asyncio.create_task(store.uploads.append(APP, identifier, chunks(b"more"), announced=4))
    await asyncio.wait((second,), timeout=0.1)
    proceed.set()

    assert await second == size + 4
    with pytest.raises(asyncio.CancelledError):
        await first
    whole = bytes(size) + b"more"
    await store.uploads.finish(APP, identifier, Digest.of(whole), chunks(b""))


async def test_work_that_runs_to_its_end_delays_every_cancellation():
    threads = DiskThreads()
    proceed = threading.Event()
    running = asyncio.create_task(threads.run_to_end(proceed.wait))
    for _ in range(3):
        await asyncio.sleep(0)
        running.cancel()
    await asyncio.sleep(0)
    assert not running.done()

    proceed.set()

    with pytest.raises(asyncio.CancelledError):
        await running
    threads.close()
