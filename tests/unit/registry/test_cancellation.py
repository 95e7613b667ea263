"""Cancellation while a thread opens a file leaves no open file."""

import asyncio
import gc
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tagferry.names import RepositoryName
from tagferry.registry.storage.page_cache import PageCache
from tagferry.registry.storage.spool import Spool
from tagferry.registry.storage.store import DiskStore
from tagferry.registry.storage.threads import DiskThreads
from tests.support.images import blob, opening

APP = RepositoryName("team/app")


async def nothing() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


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
