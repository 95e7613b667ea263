"""Freed memory goes back to the system."""

import sys
import threading
from pathlib import Path

import pytest

from tagferry.memory import return_freed_memory

_MIB = 1024 * 1024


def resident() -> int:
    """This process's resident memory in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_memory_that_threads_freed_is_returned() -> None:
    # Blocks below the threshold of mmap, and one that stays behind them, so that the arena's top cannot shrink.
    kept: list[bytearray] = []

    def use() -> None:
        blocks = [bytearray(60_000) for _ in range(1000)]
        kept.append(bytearray(60_000))
        del blocks

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    before = resident()
    assert return_freed_memory()
    assert before - resident() > 20 * _MIB
