"""A spool closes what it opened, even when it is cancelled while a thread still opens it."""

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tagferry.registry.spool import Spool
from tagferry.registry.threads import DiskThreads


async def nothing() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def test_a_file_that_was_opened_for_nobody_is_closed(tmp_path: Path):
    path = tmp_path / "spool"
    path.touch()
    threads = DiskThreads()
    extending = asyncio.ensure_future(Spool(path, threads).extend(nothing()))
    await asyncio.sleep(0)
    extending.cancel()

    with pytest.raises(asyncio.CancelledError):
        await extending

    await asyncio.to_thread(threads.close)
    await asyncio.sleep(0)
    # An unclosed file would warn here, and warnings are errors.
    gc.collect()
